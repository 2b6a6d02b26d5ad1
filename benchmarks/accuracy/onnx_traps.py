"""Healthy ONNX files as other tools write them: statistics that are no initializers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from .formats import FORMATS, Format, Inputs, onnx_by_torchscript


def _changed(change: Callable[[Any], None]) -> Format:
    def make(module: nn.Module, inputs: Inputs, path: Path) -> None:
        _, export = FORMATS["ONNX kept"]
        export(module, inputs, path)
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)

    return ".onnx", make


def _listed_as_inputs(model: Any) -> None:
    """IR version 3, in which each initializer is an input too."""
    model.ir_version = 3
    for held in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(held.name, held.data_type, list(held.dims))
        )


def _behind(operators: Callable[[str, str, Any], list[Any]]) -> Callable[[Any], None]:
    """Puts operators between the parameters of each BatchNormalization and the node."""

    def change(model: Any) -> None:
        held = {each.name: each for each in model.graph.initializer}
        before: list[Any] = []
        for index, node in enumerate(model.graph.node):
            for place in range(1, 5) if node.op_type == "BatchNormalization" else ():
                name = node.input[place]
                if name in held:
                    made = f"{name}.{index}.made"
                    before += operators(name, made, held[name])
                    node.input[place] = made
        for added in reversed(before):
            model.graph.node.insert(0, added)

    def apply(model: Any) -> None:
        change(model)
        used = {name for node in model.graph.node for name in node.input}
        kept = [each for each in model.graph.initializer if each.name in used]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)

    return apply


def _identity(name: str, made: str, held: Any) -> list[Any]:
    return [helper.make_node("Identity", [name], [made])]


def _constant(name: str, made: str, held: Any) -> list[Any]:
    return [helper.make_node("Constant", [], [made], value=held)]


def _cast(name: str, made: str, held: Any) -> list[Any]:
    """Kept in double precision."""
    wide = numpy_helper.from_array(numpy_helper.to_array(held).astype(np.float64))
    return [
        helper.make_node("Constant", [], [f"{made}.wide"], value=wide),
        helper.make_node("Cast", [f"{made}.wide"], [made], to=TensorProto.FLOAT),
    ]


def _reshape(name: str, made: str, held: Any) -> list[Any]:
    """Kept as (1, C, 1, 1)."""
    values = numpy_helper.from_array(numpy_helper.to_array(held).reshape(1, -1, 1, 1))
    flat = numpy_helper.from_array(np.array([-1], dtype=np.int64))
    return [
        helper.make_node("Constant", [], [f"{made}.wide"], value=values),
        helper.make_node("Constant", [], [f"{made}.shape"], value=flat),
        helper.make_node("Reshape", [f"{made}.wide", f"{made}.shape"], [made]),
    ]


def _dequantize(name: str, made: str, held: Any) -> list[Any]:
    """Kept in 32 bits with a scale."""
    values = numpy_helper.to_array(held).astype(np.float64)
    scale = max(float(np.abs(values).max()), 1e-30) / 2**30
    whole = numpy_helper.from_array(np.round(values / scale).astype(np.int32))
    factor = numpy_helper.from_array(np.array(scale, dtype=np.float32))
    return [
        helper.make_node("Constant", [], [f"{made}.whole"], value=whole),
        helper.make_node("Constant", [], [f"{made}.scale"], value=factor),
        helper.make_node("DequantizeLinear", [f"{made}.whole", f"{made}.scale"], [made]),
    ]


def _initial(model: Any) -> None:
    """Statistics by ConstantOfShape, as in the tests of ONNX itself: an untrained model."""
    held = {each.name: each for each in model.graph.initializer}
    added: list[Any] = []
    for index, node in enumerate(model.graph.node):
        if node.op_type == "BatchNormalization" and node.input[3] in held:
            size = np.array(held[node.input[3]].dims, dtype=np.int64)
            for place, value in ((1, 1.0), (2, 0.0), (3, 0.0), (4, 1.0)):
                made = f"filled.{index}.{place}"
                filling = numpy_helper.from_array(np.array([value], dtype=np.float32))
                shape = numpy_helper.from_array(size)
                added += [
                    helper.make_node("Constant", [], [f"{made}.shape"], value=shape),
                    helper.make_node("ConstantOfShape", [f"{made}.shape"], [made], value=filling),
                ]
                node.input[place] = made
    for each in reversed(added):
        model.graph.node.insert(0, each)


def _old(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """The oldest operators that all runtimes still take."""
    import torch

    mode = torch.onnx.TrainingMode.PRESERVE
    options = {"training": mode, "do_constant_folding": False}
    onnx_by_torchscript(module, inputs, path, opset_version=9, **options)


def _external(module: nn.Module, inputs: Inputs, path: Path) -> None:
    _, export = FORMATS["ONNX kept"]
    export(module, inputs, path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0)


FILES: dict[str, Format] = {
    "ONNX, initializers as inputs": _changed(_listed_as_inputs),
    "ONNX, Identity": _changed(_behind(_identity)),
    "ONNX, Constant": _changed(_behind(_constant)),
    "ONNX, Cast": _changed(_behind(_cast)),
    "ONNX, Reshape": _changed(_behind(_reshape)),
    "ONNX, DequantizeLinear": _changed(_behind(_dequantize)),
    "ONNX, ConstantOfShape": _changed(_initial),
    "ONNX, opset 9": (".onnx", _old),
    "ONNX, external data": (".onnx", _external),
}
