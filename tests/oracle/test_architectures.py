"""Every norm layer and every value that a file stores equals what torch itself reports."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bncheck.model import Model, NormLayer
from bncheck.readers import read
from bncheck.tensor import Tensor

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")

TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STATISTICS = TENSORS[2:]
OF_TORCH = {
    nn.SyncBatchNorm: "sync-batch",
    nn.modules.batchnorm._BatchNorm: "batch",
    nn.modules.instancenorm._InstanceNorm: "instance",
    nn.GroupNorm: "group",
    nn.LayerNorm: "layer",
    nn.RMSNorm: "rms",
    nn.LocalResponseNorm: "local-response",
}
# By name, those of transformers: T5's is an RMSNorm (Zhang and Sennrich 2019) in spite of its own.
OF_OTHERS = {
    "T5LayerNorm": "rms",
    "LlamaRMSNorm": "rms",
    "GemmaRMSNorm": "rms",
    "Qwen3RMSNorm": "rms",
}
MODULES = ("module", "old module")
STATE_DICTS = ("state_dict", "plain state_dict", "checkpoint", "old state_dict", "safetensors")


def kind_of(module: Any) -> str | None:
    """The kind of a normalization layer of torch or transformers, None for any other module."""
    for base, kind in OF_TORCH.items():
        if isinstance(module, base):
            return kind
    return OF_OTHERS.get(type(module).__name__)


def norms(module: Any) -> dict[str, Any]:
    return {name: part for name, part in module.named_modules() if kind_of(part)}


def same(found: Tensor | None, expected: Any) -> bool:
    """Equal in shape, dtype and every bit, NaN too."""
    if found is None or expected is None:
        return found is expected
    exact = [*map(float, expected.detach().flatten().tolist())]
    return (
        found.shape == tuple(expected.shape)
        and found.dtype == str(expected.dtype).removeprefix("torch.")
        and [*map(float, found.values)] == exact
    )


def only(models: tuple[Model, ...]) -> Model:
    (model,) = models
    return model


def assert_flags(layer: NormLayer, part: Any) -> None:
    assert layer.class_path == f"{type(part).__module__}.{type(part).__qualname__}"
    assert layer.training is part.training
    if layer.kind != "local-response":
        assert layer.eps == getattr(part, "eps", getattr(part, "variance_epsilon", ...))
    if hasattr(part, "momentum"):
        assert layer.momentum == part.momentum
        assert layer.num_features == part.num_features
        assert layer.track_running_stats is part.track_running_stats
        assert layer.has_running_stats is (part.running_mean is not None)
    affine = [held for held in part.parameters(recurse=False) if held is not None]
    assert layer.affine is bool(affine)
    assert layer.requires_grad is any(held.requires_grad for held in affine)


def assert_tensors(layer: NormLayer, part: Any, roles: tuple[str, ...]) -> None:
    for role in roles:
        assert same(getattr(layer, role), getattr(part, role, None)), (layer.name, role)


def assert_modules(model: Model, module: Any) -> None:
    expected = norms(module)
    assert {layer.name: layer.kind for layer in model.layers} == {
        name: kind_of(part) for name, part in expected.items()
    }
    for layer in model.layers:
        part = expected[layer.name]
        assert_flags(layer, part)
        assert_tensors(layer, part, TENSORS if hasattr(part, "running_var") else TENSORS[:2])


def assert_state_dict(model: Model, module: Any) -> None:
    expected = {name: part for name, part in norms(module).items() if part.state_dict()}
    assert {layer.name for layer in model.layers} == set(expected)
    for layer in model.layers:
        part = expected[layer.name]
        tracked = getattr(part, "running_var", None) is not None
        assert layer.kind == ("batch" if tracked else None)
        assert layer.affine is (part.weight is not None)
        assert_tensors(layer, part, TENSORS if tracked else TENSORS[:2])


@pytest.mark.parametrize("form", MODULES)
def test_pickled_module(architecture, form):
    model = only(read(architecture.save(form)))
    assert model.content == "module"
    assert_modules(model, architecture.module)


def test_live_module(architecture):
    assert_modules(only(read(architecture.module)), architecture.module)


@pytest.mark.parametrize("form", STATE_DICTS)
def test_state_dict(architecture, form):
    model = only(read(architecture.save(form)))
    assert model.content == ("checkpoint" if form == "checkpoint" else "state_dict")
    assert model.member == ("model" if form == "checkpoint" else None)
    assert_state_dict(model, architecture.module)


def test_live_state_dict(architecture):
    assert_state_dict(only(read(architecture.state_dict)), architecture.module)


WITHOUT_ANY_LIBRARY = """
import json, sys
from bncheck.readers import read
(model,) = read(sys.argv[1])
values = {la.name: [list(t.values) for t in (la.weight, la.bias) if t] for la in model.layers}
foreign = {"torch", "transformers", "pytorchcv", "numpy", "pickle"} & set(sys.modules)
print(json.dumps([values, sorted(foreign)]))
"""


def test_the_classes_of_a_pickled_module_are_not_imported(architecture):
    command = [sys.executable, "-c", WITHOUT_ANY_LIBRARY, str(architecture.save("module"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    values, imported = json.loads(done.stdout)
    assert imported == []
    assert values == {
        name: [
            held.double().flatten().tolist()
            for role in ("weight", "bias")
            if (held := getattr(part, role, None)) is not None
        ]
        for name, part in norms(architecture.module).items()
    }
