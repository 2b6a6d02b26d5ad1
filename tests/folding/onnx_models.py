"""Small ONNX models as text: what matters to a case is all that is written in it.

``BN4(c)`` stands for a BatchNormalization of four channels with parameters of its own, and names of
parameters that are not defined get random values of the shape that is given for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

IMAGE = "float[2,3,8,8] x"
Array = Any
Shapes = Mapping[str, tuple[int, ...]]
NO_SHAPES: Shapes = {}
NO_VALUES: Mapping[str, Array] = {}
_MACRO = re.compile(r"\bBN(\d+)(<[^>]*>)?\(([\w]+)\)")


def parameters_of_batch_norm(channels: int, seed: int, positive: bool = False) -> list[Array]:
    """Weights of both signs, and statistics that are far from the initial ones."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.5, 2.0, channels)
    if not positive:
        weight[::2] *= -1
    values = (weight, rng.normal(0, 1, channels), rng.normal(0, 1, channels))
    return [*values, rng.uniform(0.3, 3.0, channels)]


def model(
    body: str,
    shapes: Shapes = NO_SHAPES,
    *,
    inputs: str = IMAGE,
    rank: int = 4,
    outputs: str = "",
    opset: int = 17,
    ir: int = 8,
    positive: bool = False,
    dtype: Any = np.float32,
    values: Mapping[str, Array] = NO_VALUES,
    functions: str = "",
    domains: str = "",
) -> onnx.ModelProto:
    """A model of one graph; ``values`` are initializers as they are."""
    held: dict[str, Array] = dict(values)

    def expand(match: re.Match[str]) -> str:
        number = sum(name.startswith("scale") for name in held)
        names = [f"{role}{number}" for role in ("scale", "shift", "mean", "var")]
        given = parameters_of_batch_norm(int(match[1]), number, positive)
        held.update(zip(names, (each.astype(dtype) for each in given), strict=True))
        attributes = match[2] or ""
        return f"BatchNormalization {attributes}({match[3]}, {', '.join(names)})"

    nodes = _MACRO.sub(expand, body)
    functions = _MACRO.sub(expand, functions)
    rng = np.random.default_rng(7)
    for name, shape in shapes.items():
        held[name] = (rng.normal(0, 1, shape) / np.sqrt(max(np.prod(shape[1:]), 1))).astype(dtype)
    outputs = outputs or f"float[{', '.join(f'o{axis}' for axis in range(rank))}] y"
    head = f'<ir_version: {ir}, opset_import: ["" : {opset}{domains}]>'
    text = f"{head}\ng ({inputs}) => ({outputs}) {{\n{nodes}\n}}\n{functions}"
    made = parser.parse_model(text)
    for name, value in held.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return made
