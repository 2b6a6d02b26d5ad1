"""The same network in every form has the same layers and, in canonical form, neighbours."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.filterwarnings("ignore")

from canonical import canonical  # noqa: E402
from networks import NAMES, network  # noqa: E402
from step_graph import StepGraph  # noqa: E402

from bncheck.graph import Graph  # noqa: E402
from bncheck.model import Model, NormLayer  # noqa: E402
from bncheck.readers import read  # noqa: E402
from bncheck.tensor import Tensor  # noqa: E402

TENSORS = ("weight", "bias", "running_mean", "running_var")
KEEP_BATCH_NORM = torch.onnx.TrainingMode.PRESERVE
SCRIPTABLE = frozenset({"signal", "unet", "shuffles", "root mean square", "arithmetic"})
# Where a form of a network is another graph, and not by what canonical.py contracts.
DIFFERENT = {
    ("root mean square", "onnx torchscript"): "the exporter has no RMSNorm",
    ("root mean square", "onnx dynamo"): "before opset 23 an RMSNorm is written as its arithmetic",
    ("cbamresnet", "onnx torchscript"): "a global maximum is a window as large as the data",
    ("cbamresnet", "onnx dynamo"): "a global maximum is OPAQUE arithmetic",
    ("swin", "traced"): "pads by what it computes of the size of the data, though it is nothing",
    ("swin", "onnx torchscript"): "the same",
}


@contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def live(module: Any, x: Any, exported: Any, path: Path) -> Any:
    return read(module, inputs=(x,))


def traced(module: Any, x: Any, exported: Any, path: Path) -> Any:
    torch.jit.trace(module, (x,), check_trace=False).save(path)
    return read(path)


def scripted(module: Any, x: Any, exported: Any, path: Path) -> Any:
    torch.jit.script(module).save(path)
    return read(path)


def archive(module: Any, x: Any, exported: Any, path: Path) -> Any:
    torch.export.save(exported, path)
    return read(path)


def program(module: Any, x: Any, exported: Any, path: Path) -> Any:
    return read(exported)


def onnx_torchscript(module: Any, x: Any, exported: Any, path: Path) -> Any:
    torch.onnx.export(
        module, (x,), path, dynamo=False, training=KEEP_BATCH_NORM, do_constant_folding=False
    )
    return read(path)


def onnx_dynamo(module: Any, x: Any, exported: Any, path: Path) -> Any:
    torch.onnx.export(exported, (x,), path, dynamo=True, optimize=False, verbose=False)
    return read(path)


FORMS: dict[str, Callable[..., tuple[Model, ...]]] = {
    "traced": traced,
    "scripted": scripted,
    ".pt2": archive,
    "exported program": program,
    "onnx torchscript": onnx_torchscript,
    "onnx dynamo": onnx_dynamo,
}
CASES = [
    (name, form)
    for name in NAMES
    for form in FORMS
    if (name, form) not in DIFFERENT and (form != "scripted" or name in SCRIPTABLE)
]


@cache
def made(name: str) -> tuple[Any, Any, Any]:
    module, x = network(name)
    return module, x, torch.export.export(module, (x,), strict=False)


@cache
def expected(name: str) -> Model:
    (model,) = live(*made(name), Path())
    return model


def contracted(model: Model) -> StepGraph:
    assert isinstance(model.facts["graph"], Graph), model.facts["graph"]
    return canonical(model.graph)


def used(model: Model, graph: StepGraph) -> dict[str, NormLayer]:
    """The layers that a result depends on, by name."""
    sites = {id(step.node) for step in graph.steps}
    return {la.name: la for la in model.layers if any(id(call) in sites for call in la.calls)}


def values(held: Tensor | None) -> array[float] | None:
    return None if held is None else array("f", held.values)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_every_form_is_the_same_network(name: str, form: str, tmp_path: Path) -> None:
    with quiet():
        (model,) = FORMS[form](*made(name), tmp_path / "file")
    found, wanted = contracted(model), contracted(expected(name))
    assert_same_graph(found, wanted)
    assert_same_layers(used(model, found), used(expected(name), wanted), "onnx" in form)


def assert_same_graph(found: StepGraph, wanted: StepGraph) -> None:
    assert found.labels() == wanted.labels()
    assert found.sites() == wanted.sites()
    assert found.whole() == wanted.whole()


def assert_same_layers(
    found: dict[str, NormLayer], wanted: dict[str, NormLayer], in_onnx: bool
) -> None:
    """In ONNX a GroupNorm is an InstanceNormalization, and one without parameters has no name."""
    stored = {
        name: layer
        for name, layer in wanted.items()
        if not in_onnx or (layer.kind != "group" and layer.facts["weight"] is not None)
    }
    assert len(found) == len(wanted)
    assert stored.keys() <= found.keys()
    for name, layer in stored.items():
        assert found[name].kind == layer.kind
        assert found[name].eps == pytest.approx(layer.eps, rel=1e-6)
        assert len(found[name].calls) == len(layer.calls)
        for role in TENSORS if layer.is_batch_norm else TENSORS[:2]:
            assert values(getattr(found[name], role)) == values(getattr(layer, role)), (name, role)
        if layer.is_batch_norm:
            assert (found[name].training, found[name].num_features) == (False, layer.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_have_sites_to_compare(name: str) -> None:
    graph = contracted(expected(name))
    calls = [call for layer in used(expected(name), graph).values() for call in layer.calls]
    assert 0 < len(calls) == sum(graph.sites().values())


def test_another_network_is_another_graph() -> None:
    graphs = {name: contracted(expected(name)) for name in NAMES}
    assert len({graph.whole() for graph in graphs.values()}) == len(NAMES) >= 20


def change_eps(module: Any) -> None:
    module.bn1.eps = 1e-4


def change_a_weight(module: Any) -> None:
    module.conv2.weight[0, 0, 0, 0] += 1


def change_a_stride(module: Any) -> None:
    module.conv2.stride = (2, 2)


def change_the_order(module: Any) -> None:
    module.bn1, module.bn2 = module.bn2, module.bn1


@pytest.mark.parametrize("change", [change_eps, change_a_weight, change_a_stride, change_the_order])
def test_a_changed_network_is_another_graph(change: Callable[[Any], None]) -> None:
    module, x = network("arithmetic")
    change(module)
    (model,) = read(module, inputs=(x,))
    assert contracted(model).sites() != contracted(expected("arithmetic")).sites()
    assert contracted(model).whole() != contracted(expected("arithmetic")).whole()


def test_most_forms_are_compared() -> None:
    assert len(DIFFERENT) <= 6
    assert {form for _, form in CASES} == FORMS.keys()
