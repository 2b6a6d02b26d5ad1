"""The graph of what was written down while the code was followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bncheck.graph import Graph, Node, Shape
from bncheck.model import Kind
from bncheck.readers.aten import (
    Argument,
    Call,
    Constants,
    Value,
    bind,
    node,
    norm_kind,
    places,
)
from bncheck.readers.inference import note_shapes
from bncheck.readers.torchscript.tape import Owner, Record
from bncheck.readers.torchscript.world import World
from bncheck.tensor import Tensor

ATEN = "aten."
# c10::ScalarType
_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32",
    7: "float64", 8: "complex32", 9: "complex64", 10: "complex128", 11: "bool", 12: "qint8",
    13: "quint8", 14: "qint32", 15: "bfloat16", 23: "float8_e5m2", 24: "float8_e4m3fn",
    25: "float8_e5m2fnuz", 26: "float8_e4m3fnuz", 27: "uint16", 28: "uint32", 29: "uint64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Normalizing:
    """A node that normalizes, and the module in whose method it is called."""

    kind: Kind
    node: Node
    call: Call
    owner: Owner | None


Observe = Callable[[Node, Record, Mapping[str, str]], None]


def unobserved(node: Node, record: Record, places: Mapping[str, str]) -> None:
    """Nobody wants to know what a node was made of."""


def build(
    world: World,
    outputs: tuple[str, ...],
    observe: Observe = unobserved,
    ranks: Sequence[int] = (),
) -> tuple[Graph, tuple[Normalizing, ...]]:
    """The graph, and its normalizations in order.

    ``observe`` is told of each node the operation that it was made of, and which argument of it is
    which parameter. ``ranks`` are those of the inputs, where the archive tells.
    """
    tensors = ((name, stored.tensor) for name, stored in world.stored.items())
    constants = Constants({name: held for name, held in tensors if isinstance(held, Tensor)})
    used = {name for record in world.tape.records for name in record.reads} | {*outputs}
    nodes: list[Node] = []
    found: list[Normalizing] = []
    inputs = tuple(world.tape.inputs)
    shapes: dict[str, Shape] = {}
    if len(ranks) == len(inputs):
        shapes.update((name, (None,) * rank) for name, rank in zip(inputs, ranks, strict=True))
    for record in world.tape.records:
        call = _call(record, used)
        if constants.absorb(call):
            continue
        nodes.append(node(call, constants, shapes))
        if observe is not unobserved:
            observe(nodes[-1], record, places(call, constants, shapes))
        note_shapes(nodes[-1], shapes)
        kind = norm_kind(call)
        if kind is not None and nodes[-1].inputs:
            found.append(Normalizing(kind, nodes[-1], call, record.owner))
    return Graph(tuple(nodes), inputs, outputs, shapes), tuple(found)


def _call(record: Record, used: set[str]) -> Call:
    outputs = tuple(_outputs(record, used))
    name = record.owner.path if record.owner else ""
    if not record.op.startswith(ATEN):
        numbered = {str(index): each for index, each in enumerate(record.positional)}
        return Call(record.op, {**numbered, **record.named}, outputs, name)
    op = record.op.removeprefix(ATEN)
    positional, named, overload = _conversion(record) if op == "to" else _plainly(record)
    call = bind(op, positional, named, outputs, name, overload)
    return replace(call, arguments={**call.arguments, **_dtype(call)})


Bound = tuple[Sequence[Argument], Mapping[str, Argument], str]


def _plainly(record: Record) -> Bound:
    return record.positional, record.named, ""


def _conversion(record: Record) -> Bound:
    """The variants of ``to``: by a dtype, a device, or as another tensor is."""
    match record.positional:
        case [tensor, Value() as other, *_]:
            return [tensor], {"other": other}, ""
        case [_, str() | None, *_]:
            return record.positional, record.named, "device"
    return _plainly(record)


def _dtype(call: Call) -> Mapping[str, Argument]:
    """A dtype in words."""
    number = call.arguments.get("dtype")
    return {"dtype": _DTYPES.get(number, "unknown")} if type(number) is int else {}


def _outputs(record: Record, used: set[str]) -> Iterator[str]:
    """The name of the whole result, unless only parts of it are used, and those of the parts."""
    parts = sorted(
        ((key, name) for key, name in record.outputs.items() if key is not None),
        key=lambda part: _index(part[0]),
    )
    if record.outputs[None] in used or not parts:
        yield record.outputs[None]
    for _, name in parts:
        yield name


def _index(key: object) -> int:
    last = key[-1] if isinstance(key, tuple) else key
    return last if isinstance(last, int) else -1
