"""Real architectures in ORT format have the layers, values and rules of the ONNX they come from."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from bncheck.cli import main
from bncheck.facts import Fact
from bncheck.graph import NodeKind
from bncheck.model import Model, NormLayer
from bncheck.readers import graph_model, read
from bncheck.tensor import Tensor

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")

LEVELS = onnxruntime.GraphOptimizationLevel
CASES = (
    "pytorchcv resnet10",
    "pytorchcv preresnet18_wd4",
    "pytorchcv seresnet10",
    "pytorchcv mobilenetv2_wd4",
    "pytorchcv shufflenetv2_wd2",
    "pytorchcv efficientnet_b0",
    "pytorchcv ibn_resnet50",
    "transformers vit",
    "transformers resnet",
    "transformers mobilenet_v2",
    "transformers levit",
    "transformers wav2vec2",
)
SIDES = {"vit": 16, "resnet": 32, "mobilenet_v2": 32, "levit": 32}


@pytest.fixture(scope="module")
def exported(architecture, tmp_path_factory) -> Path:
    """The ONNX model of an architecture, BatchNorm kept."""
    path: Path = tmp_path_factory.mktemp("exported") / "model.onnx"
    module = copy.deepcopy(architecture.module).eval().requires_grad_(False)
    if hasattr(module, "config"):
        module.config.return_dict = module.config.use_cache = False
    logging.disable(logging.WARNING)
    kept = torch.onnx.TrainingMode.PRESERVE
    example = (example_of(architecture.name),)
    torch.onnx.export(module, example, path, dynamo=False, training=kept)
    logging.disable(logging.NOTSET)
    return path


def example_of(name: str) -> Any:
    short = name.partition(" ")[2]
    if short == "wav2vec2":
        return torch.randn(1, 400)
    side = SIDES.get(short, 224)
    return torch.randn(1, 3, side, side)


def convert(source: Path, level: Any) -> Path:
    target = source.with_suffix(".ort")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(target)
    options.graph_optimization_level = level
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return target


def told(layer: NormLayer) -> dict[str, Any]:
    """All that is known of a layer, but its place in the graph."""
    names = [name for name, fact in vars(NormLayer).items() if isinstance(fact, Fact)]
    held = {name: layer.facts.get(name) for name in names if name != "calls"}
    for name, value in held.items():
        if isinstance(value, Tensor):
            held[name] = (value.shape, value.dtype, value.values.tobytes())
    return {**held, "name": layer.name, "kind": layer.kind, "class": layer.class_path}


def main_operators(model: Model) -> list[tuple[Any, ...]]:
    """Those with kernels of their own; of others (HardSwish) onnxruntime writes the definition."""
    own = graph_model.LINEAR | {NodeKind.BATCH_NORM, NodeKind.LAYER_NORM}
    kept = (node for node in model.graph.nodes if node.kind in own)
    return [(node.op, node.name, node.inputs, node.outputs, node.attributes) for node in kept]


@pytest.mark.parametrize("architecture", CASES, indirect=True)
def test_layers_and_values_are_the_same(exported: Path) -> None:
    ((of_onnx,), (of_ort,)) = map(read, (exported, convert(exported, LEVELS.ORT_DISABLE_ALL)))
    assert of_onnx.layers
    assert [*map(told, of_ort.layers)] == [*map(told, of_onnx.layers)]
    assert of_ort.holds == of_onnx.holds
    assert main_operators(of_ort) == main_operators(of_onnx)


@pytest.mark.parametrize("architecture", CASES, indirect=True)
def test_the_report_is_the_same(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(exported, LEVELS.ORT_DISABLE_ALL)
    main([str(exported.parent), "--format", "json"])
    of_onnx, of_ort = json.loads(capsys.readouterr().out)["files"]
    for of_one in (of_onnx, of_ort):
        del of_one["path"], of_one["format"]
    assert of_ort == of_onnx


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("architecture", ["pytorchcv resnet10"], indirect=True)
def test_convolutions_survive_optimization(exported: Path, level: str) -> None:
    ((of_onnx,), (of_ort,)) = map(read, (exported, convert(exported, getattr(LEVELS, level))))
    kinds = [[node.kind for node in each.graph.nodes] for each in (of_onnx, of_ort)]
    for kind in ("conv", "linear", "add", "relu"):
        assert kinds[1].count(kind) == kinds[0].count(kind)  # type: ignore[arg-type]
    assert "opaque" not in kinds[1]
