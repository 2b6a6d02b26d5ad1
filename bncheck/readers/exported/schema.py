"""The JSON of an exported program, by the schema of torch/_export/serde/schema.py.

Fields that bncheck has no use for are not looked at, so that other versions of the schema are read
as long as what is needed is where it was; otherwise they are refused.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.graph import Shape
from bncheck.readers.aten.call import Argument, Value, values
from bncheck.readers.exported.document import Json
from bncheck.readers.exported.program import Body, Operation, Program, Scope
from bncheck.readers.torch.values import Parameter
from bncheck.tensor import Tensor

DEEPEST = 32  # graphs within graphs
# torch._export.serde.schema.ScalarType
SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
    28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def read_program(document: Json, tensors: Mapping[str, Parameter]) -> Program:
    """The program of a model's document. Raises UnreadableModel where it cannot be made out."""
    try:
        return _program(document, tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        version = _version(document)
        raise UnreadableModel(
            f"holds an exported program (schema {version}) in a form that bncheck does not know: "
            "export it again with a recent torch, or check its .onnx"
        ) from error


def _version(document: Json) -> str:
    match document.get("schema_version"):
        case {"major": int(major), "minor": int(minor)}:
            return f"{major}.{minor}"
        case int(version):
            return str(version)
    return "not stated"


def _program(document: Json, tensors: Mapping[str, Parameter]) -> Program:
    module = document["graph_module"]
    signature = module["signature"]
    stored: dict[str, str] = {}
    given: list[str] = []
    for spec in signature["input_specs"]:
        match _only(spec):
            case "user_input", {"arg": argument}:
                given += values(_argument(argument))
            case "parameter", {"arg": {"name": str(value)}, "parameter_name": str(name)}:
                stored[value] = name
            case "buffer", {"arg": {"name": str(value)}, "buffer_name": str(name)}:
                stored[value] = name
            case "tensor_constant", {
                "arg": {"name": str(value)},
                "tensor_constant_name": str(name),
            }:
                stored[value] = name
    returned = [
        name
        for spec in signature["output_specs"]
        for kind, held in [_only(spec)]
        if kind in ("user_output", "loss_output")
        for name in values(_argument(held["arg"]))
    ]
    body = _body(module["graph"], 0)
    held = {
        name: _held(tensors.get(name), body.shapes.get(value)) for value, name in stored.items()
    }
    return Program(body, stored, tuple(given), tuple(returned), {**tensors, **held})


def _held(parameter: Parameter | None, shape: Shape | None) -> Parameter:
    """A stored tensor, also where the file says no more than that it is there."""
    if parameter is not None and isinstance(parameter.tensor, Tensor):
        return parameter
    why = "the program was saved without it"
    if parameter is not None and isinstance(parameter.tensor, Unknown):
        why = parameter.tensor.why
    known = tuple(size for size in shape or () if size is not None)
    tensor = Tensor(known, "unknown", partial(_absent, why))
    return Parameter(tensor, parameter is not None and parameter.requires_grad)


def _absent(why: str) -> array[float]:
    raise UnknownFact(Unknown("values", why))


def _only(union: Json) -> tuple[str, Json]:
    """The one alternative of a union that is written as an object."""
    (alternative,) = ((key, held) for key, held in union.items() if held is not None)
    return alternative


def _body(graph: Json, depth: int) -> Body:
    if depth > DEEPEST:
        raise UnreadableModel(f"nests graphs more than {DEEPEST} deep")
    return Body(
        inputs=tuple(_name(each) for each in graph["inputs"]),
        outputs=tuple(_name(each) for each in graph["outputs"]),
        operations=tuple(_operation(node, depth) for node in graph["nodes"]),
        shapes={name: _shape(meta["sizes"]) for name, meta in graph["tensor_values"].items()},
    )


def _name(argument: Json) -> str:
    return next(values(_argument(argument)), "")


def _shape(sizes: Json) -> Shape:
    return tuple(held if type(held) is int else None for _, held in map(_union, sizes))


def _union(held: Json) -> tuple[str, Json]:
    """A union's alternative; an older torch wrote all of them, and null for those it is not."""
    return _only(held) if isinstance(held, dict) else held


def _operation(node: Json, depth: int) -> Operation:
    arguments: dict[str, Argument] = {}
    bodies: list[Body] = []
    for given in node["inputs"]:
        match given["arg"]:
            case "as_graph", {"graph": graph}:
                bodies.append(_body(graph, depth + 1))
            case argument:
                name = _text(given["name"]) or str(len(arguments))
                if name in arguments:
                    raise ValueError(name)
                arguments[name] = _argument(argument)
    return Operation(
        target=_text(node["target"]),
        arguments=arguments,
        outputs=tuple(_outputs(node["outputs"])),
        scopes=scopes_of(node.get("metadata", {}).get("nn_module_stack") or ""),
        bodies=tuple(bodies),
    )


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _outputs(arguments: Json) -> Iterator[str]:
    """Each output by name; a list of tensors counts as so many outputs."""
    for argument in arguments:
        named = [*values(_argument(argument))]
        yield from named or [""]


def scopes_of(stack: str) -> tuple[Scope, ...]:
    """The modules of an nn_module_stack: items "key,path,class", joined by semicolons."""
    parts = (item.split(",", 2) for item in stack.split(";"))
    return tuple(Scope(part[1], part[2]) for part in parts if len(part) == 3)


def _argument(argument: Json) -> Argument:
    kind, held = _union(argument)
    read = _ARGUMENTS.get(kind, _none)  # of a device, a layout, a complex number: no rule needs it
    return read(held)


def _none(held: Json) -> Argument:
    return None


def _tensor(held: Json) -> Argument:
    return Value(_text(held["name"]))


def _plain(held: Json) -> Argument:
    if not isinstance(held, bool | int | float | str):
        raise TypeError(held)
    return held


def _float(held: Json) -> Argument:
    return _FLOATS.get(held) if isinstance(held, str) else _plain(held)


def _symbol(held: Json) -> Argument:
    """A number by name, or written out."""
    kind, inner = _union(held)
    return Value(_text(inner)) if kind == "as_name" else _plain(inner)


def _optional(held: Json) -> Argument:
    kind, inner = _union(held)
    return _tensor(inner) if kind == "as_tensor" else None


def _scalar_type(held: Json) -> Argument:
    return SCALAR_TYPES.get(held, "unknown")


def _list_of(read: Callable[[Json], Argument]) -> Callable[[Json], Argument]:
    return lambda held: [read(each) for each in held]


_ARGUMENTS: Mapping[str, Callable[[Json], Argument]] = {
    "as_none": _none,
    "as_tensor": _tensor,
    "as_tensors": _list_of(_tensor),
    "as_int": _plain,
    "as_ints": _list_of(_plain),
    "as_float": _float,
    "as_floats": _list_of(_float),
    "as_string": _plain,
    "as_strings": _list_of(_plain),
    "as_bool": _plain,
    "as_bools": _list_of(_plain),
    "as_sym_int": _symbol,
    "as_sym_ints": _list_of(_symbol),
    "as_sym_float": _symbol,
    "as_sym_floats": _list_of(_symbol),
    "as_sym_bool": _symbol,
    "as_sym_bools": _list_of(_symbol),
    "as_scalar_type": _scalar_type,
    "as_optional_tensor": _optional,
    "as_optional_tensors": _list_of(_optional),
    "as_nested_tensors": _list_of(_list_of(_tensor)),
    "as_custom_obj": _tensor,
    "as_operator": _plain,
}
