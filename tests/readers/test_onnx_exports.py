"""What PyTorch's two exporters write, against the modules that were exported."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest

from bncheck.graph import NodeKind
from bncheck.model import Model, NormLayer
from bncheck.readers.onnx import looks_like_onnx, read
from bncheck.readers.source import FileSource
from bncheck.tensor import Tensor

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
nn = torch.nn

MODES = torch.onnx.TrainingMode
TENSORS = ("weight", "bias", "running_mean", "running_var")


def network(**options: Any) -> Any:
    """Two blocks with batch normalization; its parameters and statistics look trained."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, eps=1e-3, momentum=0.03, **options),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.BatchNorm2d(6, **options),
    )
    for module in (net[1], net[5]):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.data.uniform_(0.5, 2)
    return net


def export(net: Any, path: Path, **options: Any) -> Model:
    """Exports a network and reads the file."""
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), quiet[0], quiet[1]:
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(2, 3, 8, 8),), str(path), **options)
    source = FileSource(path)
    assert looks_like_onnx(source)
    (found,) = read(source)
    return found


def assert_same(layer: NormLayer, module: Any) -> None:
    assert layer.kind == "batch"
    assert (layer.eps, layer.momentum) == (module.eps, module.momentum)
    assert layer.num_features == module.num_features
    for name in TENSORS:
        stored = layer.facts[name]
        assert isinstance(stored, Tensor)
        expected = getattr(module, name).detach()
        assert (stored.shape, stored.dtype) == (tuple(expected.shape), "float32")
        assert list(stored.values) == expected.tolist()


EXPORTERS = {
    "torchscript": {"dynamo": False, "training": MODES.PRESERVE},
    "dynamo": {"dynamo": True, "optimize": False},
}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_exported_network_has_the_layers_of_the_module(exporter: str, tmp_path: Path) -> None:
    net = network().eval()
    found = export(net, tmp_path / "m.onnx", **EXPORTERS[exporter])
    assert [layer.name for layer in found.layers] == ["1", "5"]
    for layer in found.layers:
        assert_same(layer, net[int(layer.name)])
        assert (layer.training, layer.has_running_stats) == (False, True)
    assert found.holds == "2 Conv, 2 BatchNormalization"


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_convolution_before_a_batch_norm_is_found(exporter: str, tmp_path: Path) -> None:
    graph = export(network().eval(), tmp_path / "m.onnx", **EXPORTERS[exporter]).graph
    norms = [node for node in graph.nodes if node.kind is NodeKind.BATCH_NORM]
    before = [graph.producer(node.inputs[0]) for node in norms]
    assert [node.kind for node in before if node] == [NodeKind.CONV, NodeKind.CONV]
    assert [graph.uses(node.inputs[0]) for node in norms] == [1, 1]
    assert [node.attributes["padding"] for node in before if node] == [(0, 0), (1, 1)]


def test_an_export_for_training_tells_mode_dropout_and_batch(tmp_path: Path) -> None:
    net = network().train()
    options = {"dynamo": False, "training": MODES.TRAINING, "do_constant_folding": False}
    found = export(net, tmp_path / "m.onnx", **options)
    assert [layer.training for layer in found.layers] == [True, True]
    assert found.batch_size.samples == 2
    (dropout,) = (node for node in found.graph.nodes if node.kind is NodeKind.DROPOUT)
    assert dropout.attributes == {"p": 0.25, "training": True}


def test_equal_initializers_that_the_exporter_shares_keep_their_layers(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    found = export(net, tmp_path / "m.onnx", dynamo=False, training=MODES.PRESERVE)
    proto = onnx.load(tmp_path / "m.onnx")
    assert any(node.op_type == "Identity" for node in proto.graph.node)
    assert [layer.name for layer in found.layers] == ["1", "3"]
    for layer in found.layers:
        assert_same(layer, net[int(layer.name)])


@pytest.mark.parametrize("dynamo", [False, True])
def test_without_running_statistics_there_are_none(dynamo: bool, tmp_path: Path) -> None:
    net = network(track_running_stats=False).eval()
    found = export(net, tmp_path / "m.onnx", dynamo=dynamo)
    assert [layer.name for layer in found.layers] == ["1", "5"]
    assert [layer.has_running_stats for layer in found.layers] == [False, False]
    assert not any(layer.knows(NormLayer.running_var) for layer in found.layers)


@pytest.mark.parametrize("dynamo", [False, True])
def test_the_default_export_has_folded_batch_norm(dynamo: bool, tmp_path: Path) -> None:
    found = export(network().eval(), tmp_path / "m.onnx", dynamo=dynamo)
    assert found.layers == ()
    assert found.holds == "2 Conv"
    assert found.statistics_gone is not None
    if dynamo:
        assert "2 sites marked FuseBatchNormIntoConv" in found.statistics_gone.why
    else:
        assert "folded by the exporter, or never there" in found.statistics_gone.why


def test_the_default_export_in_training_mode_leaves_dropout_active(tmp_path: Path) -> None:
    found = export(network().train(), tmp_path / "m.onnx", dynamo=True)
    (dropout,) = (node for node in found.graph.nodes if node.kind is NodeKind.DROPOUT)
    assert dropout.attributes == {"p": 0.25, "training": True}


@pytest.mark.parametrize("dynamo", [False, True])
def test_other_normalizations_are_layers_too(dynamo: bool, tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.InstanceNorm2d(3, affine=True, eps=1e-4),
        nn.GroupNorm(3, 3),
        nn.LayerNorm(8, eps=1e-6),
        nn.LocalResponseNorm(3),
    ).eval()
    for parameter in net.parameters():
        parameter.data.uniform_(0.5, 2)
    found = export(net, tmp_path / "m.onnx", dynamo=dynamo, opset_version=20)
    layers = {layer.kind: layer for layer in found.layers}
    assert layers["instance"].calls
    assert (layers["layer"].name, layers["layer"].eps) == ("2", 1e-6)
    assert layers["layer"].weight is not None
    assert list(layers["layer"].weight.values) == net[2].weight.tolist()


def test_half_precision_statistics_are_read(tmp_path: Path) -> None:
    net = network().eval()
    proto_path = tmp_path / "m.onnx"
    export(net, proto_path, **EXPORTERS["torchscript"])
    proto = onnx.load(proto_path)
    for tensor in proto.graph.initializer:
        half = onnx.numpy_helper.to_array(tensor).astype("float16")
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    onnx.save(proto, proto_path)
    (found,) = read(FileSource(proto_path))
    variance = found.layers[0].running_var
    assert variance is not None
    assert variance.dtype == "float16"
    assert list(variance.values) == net[1].running_var.half().float().tolist()


def test_external_data_of_the_exporter_is_read(tmp_path: Path) -> None:
    net = network().eval()
    path = tmp_path / "m.onnx"
    export(net, path, dynamo=True, optimize=False, external_data=True)
    proto = onnx.load(path)
    onnx.save(proto, path, save_as_external_data=True, location="all.bin", size_threshold=0)
    (found,) = read(FileSource(path))
    for layer in found.layers:
        assert_same(layer, net[int(layer.name)])
