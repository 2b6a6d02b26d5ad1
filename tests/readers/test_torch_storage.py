from __future__ import annotations

import struct

import pytest

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.readers import limits
from bncheck.readers.limits import MAX_ELEMENTS
from bncheck.readers.torch import storage as torch_storage
from bncheck.readers.torch.pickle_machine import load
from bncheck.readers.torch.storage import Budget
from bncheck.readers.torch.values import Parameter, parameter
from bncheck.tensor import Tensor


class Memory:
    """Storages in memory, and what was read of them."""

    def __init__(self, data: dict[str, bytes], byteorder: str = "little") -> None:
        self.data, self.byteorder, self.budget = data, byteorder, Budget()
        self.asked: list[tuple[str, int, int]] = []

    def read(self, key: str, offset: int, length: int) -> bytes:
        self.asked.append((key, offset, length))
        if offset + length > len(self.data.get(key, b"")):
            raise UnreadableModel("shorter than the tensor")
        return self.data[key][offset : offset + length]


def found(make, value, storages=None) -> Parameter | None:
    return parameter(load(make.pickle(value)).value, storages or Memory({}))


def tensor(make, value, storages=None) -> Tensor:
    made = found(make, value, storages)
    assert made is not None
    assert isinstance(made.tensor, Tensor)
    return made.tensor


TEN = Memory({"0": struct.pack("<10f", *range(10))})
VIEWS = {
    "whole": ((10,), (1,), 0, [*range(10)]),
    "matrix": ((2, 5), (5, 1), 0, [*range(10)]),
    "part": ((3,), (1,), 4, [4, 5, 6]),
    "every second": ((5,), (2,), 0, [0, 2, 4, 6, 8]),
    "every second, from one": ((5,), (2,), 1, [1, 3, 5, 7, 9]),
    "transposed": ((5, 2), (1, 5), 0, [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]),
    "column": ((2, 1), (5, 1), 3, [3, 8]),
    "expanded": ((3, 2), (0, 1), 7, [7, 8, 7, 8, 7, 8]),
    "overlapping": ((3, 2), (1, 1), 0, [0, 1, 1, 2, 2, 3]),
    "cube": ((2, 2, 2), (4, 2, 1), 1, [1, 2, 3, 4, 5, 6, 7, 8]),
    "stride of a single element": ((1, 3), (99, 1), 0, [0, 1, 2]),
    "scalar": ((), (), 9, [9]),
    "empty": ((0,), (1,), 0, []),
    "empty, beyond the storage": ((0, 4), (4, 1), 99, []),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(name, make):
    shape, strides, offset, values = VIEWS[name]
    view = tensor(make, make.tensor("0", shape, strides, offset), TEN)
    assert (view.shape, list(view.values)) == (shape, values)


def test_nothing_is_read_before_the_values_are_touched(make):
    storages = Memory({"0": bytes(40)})
    view = tensor(make, make.tensor("0", (3,), (1,), 4), storages)
    assert (view.numel, view.dtype, storages.asked) == (3, "float32", [])
    _ = view.values
    assert storages.asked == [("0", 16, 12)]


@pytest.mark.parametrize(
    ("shape", "strides", "offset"), [((11,), (1,), 0), ((2,), (10,), 0), ((1,), (1,), 10)]
)
def test_a_view_beyond_its_storage_is_refused_when_it_is_touched(shape, strides, offset, make):
    view = tensor(make, make.tensor("0", shape, strides, offset), TEN)
    with pytest.raises(UnreadableModel, match="shorter"):
        _ = view.values


KINDS = {
    "DoubleStorage": ("float64", "d", [1.5, -2.0]),
    "FloatStorage": ("float32", "f", [1.5, -2.0]),
    "HalfStorage": ("float16", "e", [1.5, -2.0]),
    "LongStorage": ("int64", "q", [2**62, -5]),
    "IntStorage": ("int32", "i", [2**31 - 1, -5]),
    "ShortStorage": ("int16", "h", [2**15 - 1, -5]),
    "CharStorage": ("int8", "b", [127, -5]),
    "ByteStorage": ("uint8", "B", [255, 5]),
    "BoolStorage": ("bool", "B", [1, 0]),
}


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_storage(kind, byteorder, make):
    dtype, code, values = KINDS[kind]
    sign = "<" if byteorder == "little" else ">"
    storages = Memory({"0": struct.pack(f"{sign}2{code}", *values)}, byteorder)
    made = tensor(make, make.tensor("0", (2,), kind=kind), storages)
    assert (made.dtype, list(made.values)) == (dtype, values)


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_bfloat16_is_the_upper_half_of_a_float32(byteorder, make):
    sign = "<" if byteorder == "little" else ">"
    storages = Memory({"0": struct.pack(f"{sign}2H", 0x3FC0, 0xC000)}, byteorder)
    made = tensor(make, make.tensor("0", (2,), kind="BFloat16Storage"), storages)
    assert list(made.values) == [1.5, -2.0]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("ComplexFloatStorage", "complex64"), ("QInt8Storage", "qint8"), ("NewStorage", "unknown")],
)
def test_values_of_other_kinds_are_unknown(kind, dtype, make):
    made = tensor(make, make.tensor("0", (2,), kind=kind), TEN)
    assert (made.dtype, made.shape) == (dtype, (2,))
    with pytest.raises(UnknownFact, match="not decoded"):
        _ = made.values


class TestBudget:
    @pytest.mark.parametrize(
        ("shape", "strides"), [((2**40,), (0,)), ((2,), (2**40,)), ((2**62, 2**62), (0, 0))]
    )
    def test_a_huge_tensor_is_not_read(self, shape, strides, make):
        made = tensor(make, make.tensor("0", shape, strides), TEN)
        assert made.shape == shape
        with pytest.raises(UnknownFact, match=f"over {MAX_ELEMENTS} elements"):
            _ = made.values

    def test_all_tensors_together_are_bounded(self, make, monkeypatch):
        monkeypatch.setattr(limits, "MAX_ALL_ELEMENTS", 25)
        storages = Memory(TEN.data)
        tensors = [tensor(make, make.tensor("0", (10,)), storages) for _ in range(3)]
        assert [len(each.values) for each in tensors[:2]] == [10, 10]
        with pytest.raises(UnknownFact, match="were read already"):
            _ = tensors[2].values

    def test_steps_are_bounded(self, monkeypatch):
        monkeypatch.setattr(torch_storage, "MAX_STEPS", 10)
        budget = Budget()
        budget.step(10)
        with pytest.raises(UnreadableModel, match="over 10 tensors"):
            budget.step(1)


REFUSED = {
    "a negative length": lambda make: make.tensor("0", (-1,), (1,)),
    "a length that is none": lambda make: make.tensor("0", (True,), (1,)),
    "a length beyond 64 bits": lambda make: make.tensor("0", (2**63,), (1,)),
    "a negative stride": lambda make: make.tensor("0", (2,), (-1,)),
    "a stride too many": lambda make: make.tensor("0", (2,), (1, 1)),
    "too many dimensions": lambda make: make.tensor("0", (1,) * 65, (1,) * 65),
    "a negative offset": lambda make: make.tensor("0", (2,), (1,), -1),
    "a shape of letters": lambda make: make.Call(
        "torch._utils._rebuild_tensor_v2", (make.storage("0", 4), 0, "ab", (1,), False, None)
    ),
    "no storage": lambda make: make.Call(
        "torch._utils._rebuild_tensor_v2", ("0", 0, (2,), (1,), False, None)
    ),
    "a storage of a long name": lambda make: make.tensor("0" * 201, (4,)),
    "another reference": lambda make: make.Call(
        "torch._utils._rebuild_tensor_v2",
        (make.Reference(("module", "0")), 0, (2,), (1,), False, None),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_tensor_can_have_is_refused(name, make):
    with pytest.raises(UnreadableModel, match=r"no tensor can have|in an unknown way"):
        found(make, REFUSED[name](make))
