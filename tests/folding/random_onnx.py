"""Random ONNX graphs of the operators that folding knows, for hypothesis.

A graph grows by one operator at a time, on any value there is, so that values are read several
times and branches meet again. What nothing reads becomes an output. Numbers follow from how many
tensors there are already, so that a smaller graph is a simpler one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import assume
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

NEWEST = min(onnx.defs.onnx_opset_version(), 23)  # what onnxruntime runs
OPSETS = (17, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 21, NEWEST)
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7}
NO_BIAS, EMPTY_BIAS, BIAS = range(3)
Draw = Callable[[Any], Any]


@dataclass(frozen=True)
class Value:
    name: str
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass
class Growing:
    """A graph while it grows."""

    draw: Draw
    opset: int
    nodes: list[Any] = field(default_factory=list)
    held: dict[str, Any] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    inputs: list[Any] = field(default_factory=list)
    made: int = 0

    def yes(self) -> bool:
        return bool(self.draw(st.booleans()))

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def number(self, least: int, most: int) -> int:
        return int(self.draw(st.integers(least, most)))

    def tensor(self, shape: Sequence[int], low: float = -1, high: float = 1) -> str:
        """Random numbers as an initializer, one that is there already, or a Constant."""
        stored = ((name, a) for name, a in self.held.items() if a.dtype == np.float32)
        alike = [name for name, array in stored if array.shape == tuple(shape)]
        if alike and low < 0 and self.yes():
            return str(self.one_of(*alike))
        rng = np.random.default_rng(len(self.held) + self.made)
        return self.stored(rng.uniform(low, high, shape).astype(np.float32))

    def stored(self, array: Any) -> str:
        name = f"p{len(self.held)}"
        self.held[name] = np.asarray(array)
        form = self.number(0, 7)
        if form == 6:
            return self.emit("Identity", [name])
        if form == 7:
            value = numpy_helper.from_array(self.held.pop(name))
            return self.emit("Constant", [], value=value)
        return name

    def emit(self, op: str, inputs: Sequence[str], count: int = 0, **attributes: Any) -> Any:
        """Add a node; the name of what it makes, or ``count`` names."""
        self.made += 1
        names = [f"v{self.made}_{i}" for i in range(max(count, 1))]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        label = f"n{self.made}"
        self.nodes.append(helper.make_node(op, [*inputs], names, name=label, **attributes))
        self.read.update(inputs)
        return names if count else names[0]

    def add(self, name: str, shape: Sequence[int]) -> None:
        self.values.append(Value(name, tuple(int(size) for size in shape)))

    def partner(self, fits: Callable[[Value], bool]) -> Value | None:
        """Mostly a value that nothing reads yet: what is read twice is seldom folded into."""
        found = [value for value in self.values if fits(value)]
        free = [value for value in found[:-1] if value.name not in self.read]
        return self.one_of(*free, *found[::-1]) if found else None


Grow = Callable[[Growing, Value], None]


def _space(value: Value) -> tuple[int, ...]:
    return value.shape[2:]


def _norm(g: Growing, x: Value) -> None:
    channels = x.shape[1]
    weight = g.tensor([channels], 0.5, 2) if g.yes() else g.tensor([channels])
    shifts = g.yes()
    bias = g.tensor([channels]) if shifts else g.stored(np.zeros(channels, np.float32))
    mean = g.tensor([channels]) if shifts else g.stored(np.zeros(channels, np.float32))
    var = g.tensor([channels], 0.3, 3)
    g.add(g.emit("BatchNormalization", [x.name, weight, bias, mean, var]), x.shape)


def _biased(g: Growing, inputs: list[str], channels: int) -> list[str]:
    form = g.one_of(NO_BIAS, EMPTY_BIAS, BIAS)
    if form == BIAS:
        return [*inputs, g.tensor([channels])]
    return [*inputs, ""] if form == EMPTY_BIAS else inputs


def _convolution(g: Growing, x: Value) -> None:
    channels, space = x.shape[1], _space(x)
    groups = g.one_of(1, *[n for n in (2, channels) if channels % n == 0])
    out = groups * g.number(1, 3)
    kernel = [g.number(1, min(3, size)) for size in space]
    pads = (
        [g.number(0, size - 1) for size in (*kernel, *kernel)] if g.yes() else [0] * 2 * len(space)
    )
    strides = [g.number(1, 2) for _ in space]
    same = g.one_of(None, None, None, "SAME_UPPER", "SAME_LOWER", "VALID")
    weight = g.tensor([out, channels // groups, *kernel])
    name = g.emit(
        "Conv",
        _biased(g, [x.name, weight], out),
        group=groups,
        strides=strides,
        **({"auto_pad": same} if same else {"pads": pads}),
    )
    half = len(space)
    both = [0] * half if same else [pads[i] + pads[i + half] for i in range(half)]
    moved = zip(space, both, kernel, strides, strict=True)
    if same and same != "VALID":
        sizes = [-(-size // step) for size, step in zip(space, strides, strict=True)]
    else:
        sizes = [(size + pad - k) // step + 1 for size, pad, k, step in moved]
    g.add(name, (x.shape[0], out, *sizes))


def _transposed(g: Growing, x: Value) -> None:
    channels, space = x.shape[1], _space(x)
    groups = g.one_of(1, *[n for n in (2, channels) if channels % n == 0])
    out = g.one_of(channels // groups, g.number(1, 3))
    stride = g.number(1, 2)
    kernel = [g.number(1, 3) for _ in space]
    weight = g.tensor([channels, out, *kernel])
    inputs = _biased(g, [x.name, weight], out * groups)
    name = g.emit("ConvTranspose", inputs, group=groups, strides=[stride] * len(space))
    sizes = [(size - 1) * stride + k for size, k in zip(space, kernel, strict=True)]
    g.add(name, (x.shape[0], out * groups, *sizes))


def _constant(g: Growing, x: Value) -> None:
    op = g.one_of("Mul", "Add", "Sub", "Div")
    axis = g.number(0, x.rank - 1)
    shape = [x.shape[i] if i == axis else 1 for i in range(axis if g.yes() else 0, x.rank)]
    shape = g.one_of(shape, shape, [1] * (x.rank - 1), [], [*x.shape])
    stored = g.tensor(shape, 0.5, 2) if op == "Div" else g.tensor(shape)
    operands = [x.name, stored]
    if op != "Div" and g.yes():
        operands.reverse()
    g.add(g.emit(op, operands), x.shape)


def _activation(g: Growing, x: Value) -> None:
    op = g.one_of("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Identity", "Dropout", "Abs")
    if op == "PRelu" and x.rank > 1 and g.opset >= 9:
        slope = g.tensor([x.shape[1], *[1] * (x.rank - 2)], 0.1, 0.5)
        name = g.emit("PRelu", [x.name, slope])
    elif op == "Clip":
        low, high = g.one_of((0.0, 6.0), (-1.0, 1.0))
        if g.opset < 11:
            name = g.emit("Clip", [x.name], min=low, max=high)
        else:
            bounds = [g.stored(np.float32(low)), g.stored(np.float32(high))]
            name = g.emit("Clip", [x.name, *bounds])
    else:
        name = g.emit("Relu" if op == "PRelu" else op, [x.name])
    g.add(name, x.shape)


def _pool(g: Growing, x: Value) -> None:
    op = g.one_of("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
    if op.startswith("Global"):
        g.add(g.emit(op, [x.name]), (*x.shape[:2], *[1] * (x.rank - 2)))
        return
    kernel = [g.number(1, min(2, size)) for size in _space(x)]
    pads = [k - 1 if g.yes() else 0 for k in kernel]
    counts = 1 if op == "AveragePool" and g.yes() else None
    name = g.emit(op, [x.name], kernel_shape=kernel, pads=pads * 2, count_include_pad=counts)
    moved = zip(_space(x), pads, kernel, strict=True)
    g.add(name, (*x.shape[:2], *[size + 2 * pad - k + 1 for size, pad, k in moved]))


def _pad(g: Growing, x: Value) -> None:
    mode = g.one_of("constant", "reflect", "edge")
    sides = [0, 0, *[g.number(0, min(1, size - 1)) for size in _space(x)]] * 2
    value = float(g.one_of(0, 0, 1))
    if g.opset < 11:
        name = g.emit("Pad", [x.name], mode=mode, pads=sides, value=value)
    else:
        amounts = [g.stored(np.array(sides, np.int64))]
        amounts += [g.stored(np.float32(value))] if value else []
        name = g.emit("Pad", [x.name, *amounts], mode=mode)
    half = x.rank
    g.add(name, [size + sides[i] + sides[i + half] for i, size in enumerate(x.shape)])


def _concatenated(g: Growing, x: Value) -> None:
    axis = g.number(0, x.rank - 1)
    rest = [size for i, size in enumerate(x.shape) if i != axis]
    other = g.partner(
        lambda y: y.rank == x.rank and [s for i, s in enumerate(y.shape) if i != axis] == rest
    )
    assert other is not None
    shape = [*x.shape]
    shape[axis] += other.shape[axis]
    g.add(g.emit("Concat", [x.name, other.name], axis=axis), shape)


def _together(g: Growing, x: Value) -> None:
    other = g.partner(lambda y: y.shape == x.shape)
    assert other is not None
    g.add(g.emit(g.one_of("Add", "Sub", "Mul"), [x.name, other.name]), x.shape)


def _split(g: Growing, x: Value) -> None:
    axis = g.one_of(*[i for i, size in enumerate(x.shape) if size > 1] or [None])
    if axis is None:
        return
    first = g.number(1, x.shape[axis] - 1)
    sizes = [first, x.shape[axis] - first]
    if g.opset < 13:
        names = g.emit("Split", [x.name], 2, axis=axis, split=sizes)
    else:
        names = g.emit("Split", [x.name, g.stored(np.array(sizes, np.int64))], 2, axis=axis)
    for name, size in zip(names, sizes, strict=True):
        g.add(name, [size if i == axis else other for i, other in enumerate(x.shape)])


def _sliced(g: Growing, x: Value) -> None:
    axis = g.number(0, x.rank - 1)
    start = g.number(0, x.shape[axis] - 1)
    if g.opset < 10:
        name = g.emit("Slice", [x.name], axes=[axis], starts=[start], ends=[x.shape[axis]])
    else:
        words = [np.array([each], np.int64) for each in (start, 1 << 40, axis)]
        name = g.emit("Slice", [x.name, *map(g.stored, words)])
    g.add(name, [size - start if i == axis else size for i, size in enumerate(x.shape)])


def _gathered(g: Growing, x: Value) -> None:
    axis = g.number(0, x.rank - 1)
    places = [g.number(0, x.shape[axis] - 1) for _ in range(g.number(1, 3))]
    name = g.emit("Gather", [x.name, g.stored(np.array(places, np.int64))], axis=axis)
    g.add(name, [len(places) if i == axis else size for i, size in enumerate(x.shape)])


def _turned(g: Growing, x: Value) -> None:
    order = [int(i) for i in g.draw(st.permutations(range(x.rank)))]
    g.add(g.emit("Transpose", [x.name], perm=order), [x.shape[i] for i in order])


def _reshaped(g: Growing, x: Value) -> None:
    total = int(np.prod(x.shape))
    halves = [
        (*x.shape[:i], n, s // n, *x.shape[i + 1 :])
        for i, s in enumerate(x.shape)
        for n in (2, 3)
        if s % n == 0
    ]
    joined = [
        (*x.shape[:i], x.shape[i] * x.shape[i + 1], *x.shape[i + 2 :]) for i in range(x.rank - 1)
    ]
    shape = g.one_of(*joined, *halves, (x.shape[0], total // x.shape[0]), (total,))
    asked = [*shape]
    if g.yes():
        asked[g.number(0, len(asked) - 1)] = -1
    if 0 not in asked:
        g.add(g.emit("Reshape", [x.name, g.stored(np.array(asked, np.int64))]), shape)


def _flattened(g: Growing, x: Value) -> None:
    axis = g.number(1, x.rank - 1)
    shape = int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))
    g.add(g.emit("Flatten", [x.name], axis=axis), shape)


def _as_another(g: Growing, x: Value) -> None:
    """Reshaped to the shape of a value, of which nothing else is read."""
    total = int(np.prod(x.shape))
    other = g.partner(lambda y: int(np.prod(y.shape)) == total)
    assert other is not None
    g.add(g.emit("Reshape", [x.name, g.emit("Shape", [other.name])]), other.shape)


def _matrix(g: Growing, x: Value) -> None:
    out, transposed = g.number(1, 4), int(g.yes())
    weight = g.tensor([out, x.shape[1]] if transposed else [x.shape[1], out])
    bias = g.tensor(g.one_of([out], [1], [1, out], [x.shape[0], out], []))
    inputs = [x.name, weight, bias]
    if g.opset >= 11 and g.yes():
        inputs.pop()
    numbers = {"alpha": g.one_of(1.0, 0.5), "beta": g.one_of(1.0, 2.0), "transB": transposed}
    g.add(g.emit("Gemm", inputs, **numbers), (x.shape[0], out))


def _product(g: Growing, x: Value) -> None:
    out = g.number(1, 4)
    if g.yes():
        name = g.emit("MatMul", [x.name, g.tensor([x.shape[-1], out])])
        g.add(name, (*x.shape[:-1], out))
    else:
        name = g.emit("MatMul", [g.tensor([out, x.shape[-2]]), x.name])
        g.add(name, (*x.shape[:-2], out, x.shape[-1]))


def _mean(g: Growing, x: Value) -> None:
    axes = g.one_of([x.rank - 1], [*range(2, x.rank)] or [1], [1])
    keeps = int(g.yes())
    if g.opset < 18:
        name = g.emit("ReduceMean", [x.name], axes=axes, keepdims=keeps)
    else:
        name = g.emit("ReduceMean", [x.name, g.stored(np.array(axes))], keepdims=keeps)
    shape = [1 if i in axes else size for i, size in enumerate(x.shape) if keeps or i not in axes]
    g.add(name, shape)


def _pixels(g: Growing, x: Value) -> None:
    n, channels, height, width = x.shape
    if channels % 4 == 0:
        mode = g.one_of("DCR", "CRD") if g.opset >= 11 else None
        name = g.emit("DepthToSpace", [x.name], blocksize=2, mode=mode)
        g.add(name, (n, channels // 4, height * 2, width * 2))
    elif height % 2 == width % 2 == 0:
        name = g.emit("SpaceToDepth", [x.name], blocksize=2)
        g.add(name, (n, channels * 4, height // 2, width // 2))


def _instances(g: Growing, x: Value) -> None:
    if np.prod(_space(x)) == 1:  # a number less itself, times 316: nothing but its rounding
        return
    scale, bias = g.tensor([x.shape[1]]), g.tensor([x.shape[1]])
    g.add(g.emit("InstanceNormalization", [x.name, scale, bias]), x.shape)


def _layers(g: Growing, x: Value) -> None:
    words = [x.name, g.tensor([x.shape[-1]]), g.tensor([x.shape[-1]])]
    if g.opset >= 17:
        g.add(g.emit("LayerNormalization", words[: 2 + g.yes()]), x.shape)


def _branches(g: Growing, x: Value) -> None:
    """An If whose bodies convolve and normalize a value of the graph outside."""
    if not g.inputs:
        g.inputs.append(helper.make_tensor_value_info("k", TensorProto.BOOL, []))
    out = g.number(1, 3)
    shape = (x.shape[0], out, *_space(x))
    bodies = [_body(g, x, out, f"b{g.made}_{number}") for number in range(2)]
    name = g.emit("If", ["k"], then_branch=bodies[0], else_branch=bodies[1])
    g.read.add(x.name)
    g.add(name, shape)


def _body(g: Growing, x: Value, out: int, name: str) -> Any:
    mark = len(g.nodes)
    weight = g.tensor([out, x.shape[1], *[1] * (x.rank - 2)])
    made = g.emit("Conv", [x.name, weight])
    bare = Value(made, (x.shape[0], out, *_space(x)))
    before = len(g.values)
    _norm(g, bare)
    last = g.values[before:][0]
    del g.values[before:]
    nodes = g.nodes[mark:]
    del g.nodes[mark:]
    output = helper.make_tensor_value_info(last.name, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [output])


ANY: list[Grow] = [_constant, _activation, _concatenated, _together]
ANY += [_sliced, _gathered, _turned, _reshaped, _as_another, _split]
FROM_TWO: list[Grow] = [_norm, _norm, _norm, _flattened, _product, _layers, _mean]
FROM_THREE: list[Grow] = [_convolution, _convolution, _convolution, _pool, _instances, _branches]
IMAGES: list[Grow] = [_transposed, _pad, _pixels]


def _possible(x: Value) -> list[Grow]:
    found = [*FROM_TWO, *FROM_THREE] if x.rank > 2 else []
    found += FROM_TWO if x.rank == 2 else []
    found += [_matrix, _matrix, _matrix] if x.rank == 2 else []
    found += IMAGES if x.rank == 4 else []
    return found + ANY


@st.composite
def graphs(draw: Draw, most: int = 9) -> onnx.ModelProto:
    """A model with one float input ``x``, and maybe a bool ``k``."""
    opset = draw(st.sampled_from(OPSETS))
    g = Growing(draw, opset)
    shape = draw(st.sampled_from([(2, 4, 6, 6), (2, 3, 5, 5), (5, 6), (2, 4, 4), (2, 1, 4, 4)]))
    g.add("x", shape)
    for _ in range(draw(st.integers(1, most))):
        back = draw(st.sampled_from((1, 1, 1, 1, 1, 1, 2, 3)))
        x = g.values[-min(back, len(g.values))]
        if np.prod(x.shape) < 5000:
            draw(st.sampled_from(_possible(x)))(g, x)
    return _finished(g, shape)


def _finished(g: Growing, shape: tuple[int, ...]) -> onnx.ModelProto:
    ends = [v for v in g.values if v.name not in g.read and v.name != "x"]
    assume(ends)
    more = g.draw(st.sampled_from([None, None, *g.values[1:]]))
    chosen = dict.fromkeys([*ends, *([more] if more else [])])
    outputs = [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in chosen]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), *g.inputs]
    ir = IR_VERSIONS.get(g.opset, 8 if g.opset < 21 else 10)
    if ir < 4:
        for name, array in g.held.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
    held = [numpy_helper.from_array(array, name) for name, array in g.held.items()]
    graph = helper.make_graph(g.nodes, "random", inputs, outputs, held)
    opsets = [helper.make_opsetid("", g.opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)
