"""Functions and methods of PyTorch that torch.fx writes into graphs, as calls of operators."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bncheck.readers.aten import Argument, Call, base_name, bind
from bncheck.tensor import DTYPES

OPERATORS = {
    "add": "add", "iadd": "add", "sub": "sub", "isub": "sub", "mul": "mul", "imul": "mul",
    "truediv": "div", "itruediv": "div", "matmul": "matmul", "imatmul": "matmul", "pow": "pow",
    "ipow": "pow", "neg": "neg", "pos": "positive", "abs": "abs",
}  # fmt: skip
FUNCTIONS = {
    "dropout1d": "feature_dropout", "dropout2d": "feature_dropout", "dropout3d": "feature_dropout",
    "upsample": "interpolate", "logsigmoid": "log_sigmoid", "swish": "silu",
}  # fmt: skip
CASTS = {"float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16"}
# Methods that take a list of sizes or axes as arguments of their own too.
VARIADIC = frozenset({"view", "reshape", "permute", "expand", "repeat", "tile"})
# Names that torch.nn.functional and numpy give to what ATen calls otherwise.
RENAMED = {"axis": "dim", "axes": "dim", "keepdims": "keepdim"}
READ_ONLY = frozenset({"device", "dtype", "ndim", "layout", "is_cuda", "requires_grad"})
OF_ATTRIBUTES = {"shape": "size", "T": "numpy_T", "mT": "mT", "data": "detach"}

Given = Sequence[Argument]
Named = Mapping[str, Argument]


def of_function(target: Callable[..., Any], given: Given, named: Named, output: str) -> Call:
    """A call of a function of torch, torch.nn.functional or operator; any other is kept by name."""
    if hasattr(target, "_schema"):  # an operator itself, in what torch.export made
        return _of_operator(target, given, named, output)
    module, name = target.__module__ or "", target.__name__
    if module == "_operator" and name in OPERATORS:
        return bind(OPERATORS[name], given, named, (output,))
    if target is getattr:
        return _of_attribute(given, output)
    if not module.startswith("torch"):
        arguments = dict(zip(map(str, range(len(given))), given, strict=True))
        return Call(f"{module}.{name}", {**arguments, **named}, (output,))
    given, named = _by_signature(target, given, named)
    if "dropout" in name and "training" in named:
        named = {**named, "train": named["training"]}
    return bind(FUNCTIONS.get(name, name), given, _renamed(named), (output,))


def _of_operator(target: Any, given: Given, named: Named, output: str) -> Call:
    """A call of an operator, "aten::add_", with an overload."""
    names = (argument.name for argument in target._schema.arguments)
    arguments = {**dict(zip(names, given, strict=False)), **named}
    space, _, name = target._schema.name.partition("::")
    return Call(f"{space}.{base_name(name)}", arguments, (output,), "", target._overloadname)


def _by_signature(target: Callable[..., Any], given: Given, named: Named) -> tuple[Given, Named]:
    """The arguments by name, defaults filled in, for what is written in Python."""
    try:
        bound = inspect.signature(target).bind(*given, **named)
    except (TypeError, ValueError):  # a builtin
        return given, named
    if "args" in bound.arguments:  # a dispatcher, which says nothing of what it dispatches to
        return given, named
    bound.apply_defaults()
    return (), {name: value for name, value in bound.arguments.items() if name != "kwargs"}


def _renamed(named: Named) -> Named:
    return {RENAMED.get(name, name): value for name, value in named.items()}


def _of_attribute(given: Given, output: str) -> Call:
    """``x.shape`` and the like, which torch.fx writes as getattr."""
    name = given[1] if len(given) > 1 else None
    op = "dim" if name in READ_ONLY else OF_ATTRIBUTES.get(str(name))
    if op is None:
        return Call(f"getattr.{name}", {"0": given[0]}, (output,))
    return bind(op, given[:1], {}, (output,))


def of_method(name: str, given: Given, named: Named, output: str) -> Call:
    """A call of a method of a tensor, which comes first among the arguments."""
    if name in CASTS:
        return bind("to", given[:1], {"dtype": CASTS[name]}, (output,))
    if name in ("to", "type"):
        return _cast(given, named, output)
    if name in VARIADIC and len(given) > 1 and not isinstance(given[1], list):
        given = [given[0], [*given[1:]]]
    return bind(name, given, _renamed(named), (output,))


def _cast(given: Given, named: Named, output: str) -> Call:
    """``x.to(...)``: to a dtype, a device, or to what another tensor is."""
    dtypes = (each for each in (*given[1:], *named.values()) if each in DTYPES)
    dtype = next(dtypes, None)
    arguments: dict[str, Argument] = {} if dtype is None else {"dtype": dtype}
    return bind("to", given[:1], arguments, (output,))


def is_assertion(name: str) -> bool:
    """Whether a function gives nothing."""
    return name in ("_assert", "_assert_is_none")


def is_in_place(name: str, named: Named) -> bool:
    """Whether a function or method changes its first argument."""
    return (
        named.get("inplace") is True
        or (name.endswith("_") and not name.startswith("__"))
        or (name.startswith("i") and name[1:] in OPERATORS and name in OPERATORS)
        or name == "setitem"
    )
