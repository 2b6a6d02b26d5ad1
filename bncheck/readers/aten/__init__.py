"""ATen operators as nodes of the graph: for TorchScript, torch.export and torch.fx alike.

A reader turns what it finds into a Call, gives it to ``Constants.absorb``, and where that declines
makes a node of it:

    constants = Constants({"conv1.weight": tensor, ...})
    call = bind("conv2d", [Value("x"), Value("conv1.weight"), None], {}, outputs=("y",))
    if not constants.absorb(call):
        nodes.append(node(call, constants, shapes))

As in the ONNX reader, ``inputs`` of a node are its data, then whatever else of it is computed in
the graph: a weight that is no constant is a parameter that is Unknown, and an input too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bncheck.facts import Unknown
from bncheck.graph import Node, Shape
from bncheck.model import Kind
from bncheck.readers.aten.call import Argument, Call, Value, values
from bncheck.readers.aten.constants import Constants
from bncheck.readers.aten.schemas import SCHEMAS
from bncheck.readers.aten.signatures import Signature, signature
from bncheck.readers.conventions import settled
from bncheck.tensor import Tensor, constant

__all__ = [
    "Argument",
    "Call",
    "Constants",
    "Value",
    "base_name",
    "bind",
    "is_assertion",
    "node",
    "norm_kind",
    "places",
]

ALIASES = {
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "concat": "cat",
    "concatenate": "cat",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "moveaxis": "movedim",
    "negative": "neg",
    "absolute": "abs",
}
NO_SHAPES: Mapping[str, Shape] = {}
MATRICES = ("mat2", "weight", "other")  # what products call their right side


def node(call: Call, constants: Constants, shapes: Mapping[str, Shape] = NO_SHAPES) -> Node:
    """A call as a node; ``shapes`` tell a mean over space from any other, and much else."""
    how = signature(call, constants, shapes)
    made = Node(
        kind=how.kind,
        op=call.op,
        name=call.name,
        inputs=(*_data(call, how), *_computed(call, how, constants)),
        outputs=call.outputs,
        parameters={**dict(_parameters(call, how, constants)), **how.held},
        attributes=how.arguments(call, constants),
    )
    return settled(made, shapes)


def places(
    call: Call, constants: Constants, shapes: Mapping[str, Shape] = NO_SHAPES
) -> Mapping[str, str]:
    """Which argument of a call is each parameter of its node, by role."""
    how = signature(call, constants, shapes)
    found = {role: argument for argument, role in how.roles.items()}
    for role in how.held:  # what the argument is a view of
        found[role] = next(each for each in MATRICES if each in call.arguments)
    return found


def norm_kind(call: Call) -> Kind | None:
    """Which normalization an operator is, if it is one."""
    return signature(call, Constants({}), NO_SHAPES).norm


def is_assertion(call: Call) -> bool:
    """Whether a call only checks something, and gives nothing."""
    name = call.op.partition(".")[2]
    return name.startswith(("_assert", "sym_constrain", "_check"))


def base_name(op: str) -> str:
    """An operator's main name, without the underscore of an in-place variant."""
    base = op if op.startswith("__") else op.rstrip("_") or op
    return ALIASES.get(base, base)


def bind(
    op: str,
    positional: Sequence[Argument],
    named: Mapping[str, Argument],
    outputs: tuple[str, ...],
    name: str = "",
    overload: str = "",
) -> Call:
    """A call of an operator ("conv2d", "relu_") whose arguments are given by position.

    Arguments of an operator that bncheck does not know keep their positions as names.
    """
    base = base_name(op)
    schema = SCHEMAS.get(f"{base}.{overload}") or SCHEMAS.get(base, ())
    names = (*schema, *map(str, range(len(schema), len(positional))))
    given = dict(zip(names, positional, strict=False))
    return Call(f"aten.{base}", {**given, **named}, outputs, name, overload)


def _data(call: Call, how: Signature) -> Iterator[str]:
    if how.data is None:
        yield from values(list(call.arguments.values()))
        return
    for each in how.data:
        yield from [*values(call.argument(each))] or [""]


def _computed(call: Call, how: Signature, constants: Constants) -> Iterator[str]:
    if how.data is None:
        return
    data = {
        "input" if each == "self" and "self" not in call.arguments else each for each in how.data
    }
    for each, argument in call.arguments.items():
        if each not in data and each not in how.unread:
            yield from (value for value in values(argument) if value not in constants)


def _parameters(
    call: Call, how: Signature, constants: Constants
) -> Iterator[tuple[str, Tensor | Unknown]]:
    for argument, role in how.roles.items():
        match call.argument(argument):
            case Value(name):
                computed = Unknown(role, "it is computed in the graph, not stored")
                yield role, constants.get(name) or computed
            case int() | float() as number:
                yield role, constant(float(number))
