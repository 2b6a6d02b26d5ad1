"""Defects that only an ONNX file can have, planted in the graph of a healthy export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from .formats import FORMATS, Format, Inputs

GRAPHS = ("ONNX kept", "ONNX dynamo plain")
Edit = Callable[[Any, Any], None]  # a model, one of its BatchNormalization nodes


def edited(edit: Edit) -> Callable[[Sequence[str | None]], dict[str, Format]]:
    """Formats that export and then change the node of each layer that is named."""

    def formats(names: Sequence[str | None]) -> dict[str, Format]:
        return {graph: (".onnx", _edited(FORMATS[graph], names, edit)) for graph in GRAPHS}

    return formats


def group_norms(names: Sequence[str | None]) -> dict[str, Format]:
    """ONNX has had a GroupNorm with a scale per channel since opset 21."""
    kept = {name: format for name, format in FORMATS.items() if name not in GRAPHS}
    return {**kept, "ONNX dynamo plain": (".onnx", _of_opset_21)}


def _of_opset_21(module: nn.Module, inputs: Inputs, path: Path) -> None:
    options: dict[str, Any] = {"opset_version": 21, "optimize": False, "verbose": False}
    torch.onnx.export(module, inputs, path, dynamo=True, **options)


def folded(names: Sequence[str | None]) -> dict[str, Format]:
    """What the exporters fold BatchNorm into when they are asked for nothing else."""
    return {"ONNX kept": FORMATS["ONNX"], "ONNX dynamo plain": FORMATS["ONNX dynamo"]}


def _edited(format: Format, names: Sequence[str | None], edit: Edit) -> Any:
    def write(module: nn.Module, inputs: Inputs, path: Path) -> None:
        format[1](module, inputs, path)
        model = onnx.load(path)
        wanted = {f"{name}.running_mean" for name in names}
        nodes = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
        chosen = [node for node in nodes if node.input[3] in wanted]
        if not chosen:
            raise LookupError("no such BatchNormalization in the graph")
        for node in chosen:
            edit(model, node)
        onnx.save(model, path)

    return write


def attribute(name: str, value: object) -> Edit:
    """Set by a writer that takes the operator for an older one."""
    return lambda model, node: node.attribute.append(helper.make_attribute(name, value))


def old_operator(model: Any, node: Any) -> None:
    """For inference, as an operator of opset 6."""
    _of_opset_6(model, node, is_test=1)


def training_of_opset_6(model: Any, node: Any) -> None:
    """In training mode, as was the default, among others that are not."""
    for each in model.graph.node:
        is_older = any(held.name == "is_test" for held in each.attribute)
        if each.op_type == "BatchNormalization" and not is_older:
            _of_opset_6(model, each, is_test=1)
    _of_opset_6(model, node, is_test=0)


def _of_opset_6(model: Any, node: Any, is_test: int) -> None:
    for opset in model.opset_import:
        opset.version = 6 if opset.domain in ("", "ai.onnx") else opset.version
    kept = [each for each in node.attribute if each.name in ("epsilon", "momentum")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("is_test", is_test)])


def extra_outputs(model: Any, node: Any) -> None:
    """The statistics too, as of an operator in training mode."""
    first = node.output[0]
    node.output.extend([f"{first}.mean", f"{first}.var"])


def shorter_statistics(model: Any, node: Any) -> None:
    """running_var without its last channel."""
    for held in model.graph.initializer:
        if held.name == node.input[4]:
            shorter = numpy_helper.to_array(held)[:-1]
            held.CopyFrom(numpy_helper.from_array(shorter, held.name))


def statistics_from_input(model: Any, node: Any) -> None:
    """The mean is computed from the input of the model."""
    given = model.graph.input[0].name
    channels = next(held.dims[0] for held in model.graph.initializer if held.name == node.input[3])
    size = numpy_helper.from_array(np.array([channels], dtype=np.int64), f"{node.output[0]}.size")
    model.graph.initializer.append(size)
    made = f"{node.output[0]}.computed"
    axes = helper.make_node("ReduceMean", [given], [f"{made}.one"], keepdims=0)
    wide = helper.make_node("Expand", [f"{made}.one", size.name], [made])
    node.input[3] = made
    for each in (wide, axes):
        model.graph.node.insert(0, each)
