"""ORT's tensors and attributes, as the records that ONNX's messages are read into."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from bncheck.errors import UnreadableModel
from bncheck.readers.onnx.attribute import (
    LONGEST_LIST,
    LONGEST_STRING,
    Attribute,
    Held,
    Value,
)
from bncheck.readers.onnx.protobuf import Span, quoted
from bncheck.readers.onnx.tensor import DataField, TensorProto, data_type, require_one_place, shape
from bncheck.readers.ort.budget import RECORD
from bncheck.readers.ort.flatbuffer import FLOAT, INT32, INT64, Table

# Where fields are in their tables, from ort.fbs
_NAME = 0
_DIMS, _DATA_TYPE, _RAW_DATA, _EXTERNAL_OFFSET = 2, 3, 4, 6
_SPARSE_VALUES, _SPARSE_DIMS = 0, 2
_TYPE, _F, _I, _S, _T, _G, _FLOATS, _INTS = 2, 3, 4, 5, 6, 7, 8, 9


def read_tensor(table: Table) -> TensorProto:
    """A Tensor. Raises UnreadableModel where onnxruntime would not load it."""
    table.budget.keep(RECORD)
    name = table.text(_NAME)
    dims = table.numbers(_DIMS, INT64)
    if dims is None:
        raise UnreadableModel(f"holds tensor {quoted(name)} without a shape")
    dtype = data_type(table.integer(_DATA_TYPE, INT32))
    tensor = TensorProto(_span(table), name, shape([*map(int, dims)], name), dtype)
    data = table.span(_RAW_DATA) if dtype != "string" else None
    if data is not None:
        tensor.held, tensor.raw = DataField.RAW, Span(*data)
    elif dtype != "string":
        _refuse_without_data(table, name)
    require_one_place(tensor)
    return tensor


def _refuse_without_data(table: Table, name: str) -> None:
    if table.integer(_EXTERNAL_OFFSET, INT64, -1) >= 0:
        raise UnreadableModel(
            f"keeps tensor {quoted(name)} in another file, which only checkpoints for training on "
            "devices may do; onnxruntime does not load it either: convert the .onnx again"
        )
    raise UnreadableModel(f"holds tensor {quoted(name)} without data")


def read_sparse_tensor(table: Table) -> TensorProto:
    """A SparseTensor, as a dense tensor whose values are not read."""
    values = table.table(_SPARSE_VALUES)
    if values is None:
        raise UnreadableModel("holds a sparse tensor without values")
    held = read_tensor(values)
    dims = table.numbers(_SPARSE_DIMS, INT64) or ()
    whole = shape([*map(int, dims)], held.name)
    return TensorProto(_span(table), held.name, whole, held.dtype, sparse=True)


def read_attribute(table: Table) -> Attribute:
    """An Attribute: its type says which of the fields counts. Graphs stay spans."""
    table.budget.keep(1)
    name = table.text(_NAME)
    held, read = _TYPES.get(table.integer(_TYPE, INT32), (None, None))
    return Attribute(name, held, read(table) if read else None)


def _span(table: Table) -> Span:
    return Span(table.at, table.end)


def _float(table: Table) -> float:
    return float(table.number(_F, FLOAT))


def _int(table: Table) -> int:
    return table.integer(_I, INT64)


def _string(table: Table) -> str | None:
    data = table.payload(_S, LONGEST_STRING + 1)
    return data.decode(errors="replace") if len(data) <= LONGEST_STRING else None


def _tensor(table: Table) -> TensorProto:
    return read_tensor(_required(table, _T))


def _graph(table: Table) -> Span:
    body = _required(table, _G)
    body.budget.claim(body.at)
    return _span(body)


def _required(table: Table, field: int) -> Table:
    held = table.table(field)
    if held is None:
        raise UnreadableModel(f"holds attribute {quoted(table.text(_NAME))} without a value")
    return held


def _floats(table: Table) -> tuple[float, ...] | None:
    return table.numbers(_FLOATS, FLOAT, LONGEST_LIST)


def _ints(table: Table) -> tuple[int, ...] | None:
    return cast("tuple[int, ...] | None", table.numbers(_INTS, INT64, LONGEST_LIST))


# AttributeType, the same numbers as in onnx.proto
_TYPES: dict[int, tuple[Held, Callable[[Table], Value | None] | None]] = {
    1: (Held.FLOAT, _float),
    2: (Held.INT, _int),
    3: (Held.STRING, _string),
    4: (Held.TENSOR, _tensor),
    5: (Held.GRAPH, _graph),
    6: (Held.FLOATS, _floats),
    7: (Held.INTS, _ints),
    8: (Held.STRINGS, None),
    9: (Held.TENSORS, None),
}
