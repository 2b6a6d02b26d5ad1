"""Every norm layer that an export keeps equals what torch and onnx report of it."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from bncheck.model import Model, NormLayer
from bncheck.readers import read

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")

KEPT = {
    nn.modules.batchnorm._BatchNorm: "batch",
    nn.InstanceNorm2d: "instance",
    nn.LayerNorm: "layer",
}
# Those whose forward the exporters can follow; the newer one takes seconds for each.
EXPORTED = {
    "torchscript": {
        "pytorchcv": "resnet10 preresnet18_wd4 seresnet10 mobilenetv2_wd4 shufflenetv2_wd2 "
        "sqnxt23_w1 densenet121 efficientnet_b0 bninception mixnet_s ibn_resnet50 "
        "shufflenet_g1_wd4",
        "transformers": "vit resnet mobilenet_v2 levit wav2vec2",
    },
    "dynamo": {
        "pytorchcv": "resnet10 preresnet18_wd4 ibn_resnet50",
        "transformers": "bert gpt2 vit resnet levit wav2vec2",
    },
}
CASES = [
    (f"{library} {name}", exporter)
    for exporter, libraries in EXPORTED.items()
    for library, names in libraries.items()
    for name in names.split()
]
IMAGES = {"vit": 16, "resnet": 32, "mobilenet_v2": 32, "levit": 32}
OPTIONS = {
    "torchscript": {"dynamo": False, "training": torch.onnx.TrainingMode.PRESERVE},
    "dynamo": {"dynamo": True, "optimize": False, "verbose": False},
}


def example(name: str) -> Any:
    library, _, short = name.partition(" ")
    if library == "pytorchcv":
        return torch.randn(1, 3, 224, 224)
    if short in IMAGES:
        return torch.randn(1, 3, IMAGES[short], IMAGES[short])
    return torch.randn(1, 400) if short == "wav2vec2" else torch.ones(1, 4, dtype=torch.long)


def export(architecture: Any, exporter: str, path: Path) -> Any:
    """The module in eval mode that is written to the path."""
    module = copy.deepcopy(architecture.module).eval().requires_grad_(False)
    if hasattr(module, "config"):
        module.config.return_dict = module.config.use_cache = False
    logging.disable(logging.WARNING)
    torch.onnx.export(module, (example(architecture.name),), path, **OPTIONS[exporter])
    logging.disable(logging.NOTSET)
    return module


def kept(module: Any) -> dict[str, tuple[str, Any]]:
    """The norm layers for which ONNX has an operator, by name, with their kind."""
    return {
        name: (kind, part)
        for name, part in module.named_modules()
        for base, kind in KEPT.items()
        if isinstance(part, base)
    }


def assert_equal(layer: NormLayer, kind: str, part: Any) -> None:
    assert layer.kind == kind
    assert layer.eps == pytest.approx(part.eps, rel=1e-6)  # a float32 there
    roles = ("weight", "bias", *(("running_mean", "running_var") if kind == "batch" else ()))
    for role in roles:
        expected = getattr(part, role)
        if expected is not None:  # else the exporter fills in ones and zeros
            found = getattr(layer, role)
            assert found.shape == tuple(expected.shape), (layer.name, role)
            assert [*found.values] == expected.flatten().tolist(), (layer.name, role)


def assert_flags(layer: NormLayer, part: Any) -> None:
    assert layer.training is False
    assert layer.momentum == pytest.approx(part.momentum, abs=1e-6)
    assert layer.num_features == part.num_features


@pytest.mark.parametrize(("architecture", "exporter"), CASES, indirect=["architecture"])
def test_export(architecture, exporter, tmp_path):
    path = tmp_path / "model.onnx"
    module = export(architecture, exporter, path)
    (model,) = read(path)
    assert_layers_of_torch(model, module)
    proto = onnx.load(path)
    assert_statistics_of_onnx(model, proto)
    (in_memory,) = read(proto)
    assert [layer.name for layer in in_memory.layers] == [layer.name for layer in model.layers]
    assert statistics_of(in_memory) == statistics_of(model)


def assert_layers_of_torch(model: Model, module: Any) -> None:
    expected = kept(module)
    found = {layer.name: layer for layer in model.layers}
    assert expected.keys() <= found.keys()
    for name, (kind, part) in expected.items():
        assert_equal(found[name], kind, part)
        if kind == "batch":
            assert_flags(found[name], part)
    # A GroupNorm is written as an InstanceNormalization of the reshaped input.
    groups = sum(isinstance(part, nn.GroupNorm) for part in module.modules())
    others = [layer for name, layer in found.items() if name not in expected]
    assert [layer.kind for layer in others] == ["instance"] * groups


def assert_statistics_of_onnx(model: Model, proto: Any) -> None:
    nodes = [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
    assert len(nodes) == len(model.batch_norms)
    assert statistics_of(model) == sorted(map(statistics_in(proto), nodes))


def statistics_of(model: Model) -> list[tuple[list[float], ...]]:
    roles = ("weight", "bias", "running_mean", "running_var")
    return sorted(
        tuple(list(getattr(layer, role).values) for role in roles) for layer in model.batch_norms
    )


def statistics_in(proto: Any):
    """What onnx says of a BatchNormalization: initializers, behind Identity where shared."""
    held = {each.name: each for each in proto.graph.initializer}
    same = {n.output[0]: n.input[0] for n in proto.graph.node if n.op_type == "Identity"}

    def values(name: str) -> list[float]:
        while name not in held:
            name = same[name]
        return onnx.numpy_helper.to_array(held[name]).tolist()

    return lambda node: tuple(map(values, node.input[1:5]))
