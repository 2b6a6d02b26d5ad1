from __future__ import annotations

import math
import struct
import sys
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bncheck.facts import Unknown, UnknownFact
from bncheck.tensor import DTYPES, Tensor, constant, decode, itemsize

NAN, INF = math.nan, math.inf


def tensor(*values: float, dtype: str = "float32") -> Tensor:
    return Tensor((len(values),), dtype, lambda: array("d", values))


class TestDecoding:
    @pytest.mark.parametrize("byteorder", ["little", "big"])
    @pytest.mark.parametrize("dtype", [name for name, (_, code) in DTYPES.items() if code])
    def test_plain_numbers(self, dtype, byteorder):
        width, code = DTYPES[dtype]
        sign = "<" if byteorder == "little" else ">"
        values = [1, 0, 1]
        data = struct.pack(f"{sign}3{code}", *values)
        assert len(data) == 3 * width == 3 * itemsize(dtype)
        assert list(decode(data, dtype, byteorder)) == values

    @given(st.lists(st.floats(width=16)))
    def test_half(self, values):
        data = struct.pack(f"<{len(values)}e", *values)
        assert repr(list(decode(data, "float16"))) == repr(values)

    def test_half_in_pieces(self):
        """It is unpacked piece by piece; the seams must not show."""
        values = [float(i % 2000) for i in range(40_000)]
        data = struct.pack(f">{len(values)}e", *values)
        assert list(decode(data, "float16", "big")) == values

    @given(st.lists(st.integers(0, 2**16 - 1)))
    def test_bfloat16_is_the_upper_half_of_a_float(self, halves):
        data = struct.pack(f"<{len(halves)}H", *halves)
        expected = [struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in halves]
        assert repr(list(decode(data, "bfloat16"))) == repr(expected)

    @pytest.mark.parametrize("byteorder", ["little", "big"])
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_many_are_widened_as_few_are(self, dtype, byteorder):
        """All 65,536 of them, and one more, which is where numpy comes in."""
        sign = "<" if byteorder == "little" else ">"
        data = struct.pack(f"{sign}65537H", *range(2**16), 0)
        parts = (decode(data[i : i + 2**12], dtype, byteorder) for i in range(0, 2**17, 2**12))
        few = [value for part in parts for value in part]
        assert repr(list(decode(data, dtype, byteorder))[: 2**16]) == repr(few)

    def test_the_machines_own_order_is_not_assumed(self):
        assert list(decode(b"\0\0\0\1", "int32", "big")) == [1]
        assert list(decode(b"\1\0\0\0", "int32", "little")) == [1]
        assert sys.byteorder in ("little", "big")

    @pytest.mark.parametrize("dtype", ["complex64", "qint8", "float8_e5m2", "unknown", ""])
    def test_other_dtypes_have_no_size(self, dtype):
        assert itemsize(dtype) is None


class TestReading:
    def test_values_are_read_once(self):
        reads = []
        held = Tensor((1,), "float32", lambda: reads.append(1) or array("f", [2.0]))
        assert (held.values, held.values, held.read()) == (array("f", [2.0]),) * 3
        assert len(reads) == 1

    def test_what_is_read_is_not_kept(self):
        held = tensor(1.0, 2.0)
        assert list(held.read()) == [1.0, 2.0]
        assert "values" not in vars(held)


class TestReductions:
    @pytest.mark.parametrize(
        ("values", "finite", "least", "most"),
        [
            ([1, -2, 3], True, -2, 3),
            ([5], True, 5, 5),
            ([], True, INF, -INF),
            ([1, INF], False, 1, INF),
            ([-INF, INF], False, -INF, INF),
            ([1, NAN, INF], False, NAN, NAN),
            ([NAN], False, NAN, NAN),
            ([1e308, 1e308], True, 1e308, 1e308),  # their sum is infinite
            ([-0.0, 0.0], True, 0, 0),
        ],
    )
    def test_extremes(self, values, finite, least, most):
        made = tensor(*values)
        assert made.finite is finite
        assert repr([float(made.minimum), float(made.maximum)]).replace("-0.0", "0.0") == repr(
            [float(least), float(most)]
        )

    @given(st.lists(st.floats(width=32)))
    def test_finite(self, values):
        assert tensor(*values).finite == all(map(math.isfinite, values))

    @pytest.mark.parametrize(
        ("values", "value", "expected"),
        [
            ([1, 1], 1, True),
            ([1, 2], 1, False),
            ([], 1, True),
            ([NAN, NAN], NAN, False),
            ([1, NAN], 1, False),
            ([INF], INF, True),
        ],
    )
    def test_all_equal(self, values, value, expected):
        assert tensor(*values).all_equal(value) is expected

    def test_where(self):
        assert tensor(1, -1, NAN, -2).where(lambda value: value < 0) == (1, 3)


class TestLaziness:
    def test_values_are_loaded_once_and_not_before_they_are_touched(self):
        loads = []
        made = Tensor((1,), "float32", lambda: loads.append(1) or array("d", [7]))
        assert (made.numel, made.shape, repr(made), loads) == (1, (1,), "Tensor([1], float32)", [])
        assert (made.minimum, made.maximum, list(made.values), loads) == (7, 7, [7], [1])

    def test_a_loader_that_knows_nothing_says_so_each_time(self):
        def load():
            raise UnknownFact(Unknown("values", "they are quantized"))

        made = Tensor((1,), "qint8", load)
        for reduced in ("values", "minimum", "finite"):
            with pytest.raises(UnknownFact, match="quantized"):
                getattr(made, reduced)


@pytest.mark.parametrize(
    ("shape", "values"), [((), [3]), ((2,), [3, 3]), ((2, 0), []), ((2, 2), [3] * 4)]
)
def test_constant(shape, values):
    made = constant(3, shape)
    assert (made.shape, made.dtype, list(made.values)) == (shape, "float64", values)
