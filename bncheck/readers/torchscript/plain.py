"""Operators on numbers, truths, strings and lists of them, computed where all is known.

Their names are those of aten and prim. What does not come out as a number of common size, or is
no operator of this kind, is left to the caller as UNKNOWN.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence

from bncheck.readers.torchscript.values import UNKNOWN, Computed, Runtime, is_plain, words

LARGEST = 2**63 - 1
LONGEST = 1000  # characters of a string, items of a list


def compute(name: str, arguments: Sequence[Runtime]) -> Runtime:
    """The result for plain arguments; UNKNOWN where it is not known."""
    function = FUNCTIONS.get(name)
    if function is None or not all(map(_is_small, arguments)):
        return UNKNOWN
    if name not in OF_STRINGS and any(isinstance(value, str) for value in arguments):
        return UNKNOWN  # "%" would format
    try:
        result = function(*arguments)
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN
    return result if _is_small(result) else UNKNOWN


def _is_small(value: Runtime) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST
    if isinstance(value, int):
        return abs(value) <= LARGEST
    return is_plain(value)


def _is(left: Runtime, right: Runtime) -> bool | Computed:
    return left is right if left is None or right is None else UNKNOWN


def _is_not(left: Runtime, right: Runtime) -> bool | Computed:
    return left is not right if left is None or right is None else UNKNOWN


def _add(left: Runtime, right: Runtime, alpha: int = 1) -> Runtime:
    return left + right if alpha == 1 else _subtract(left, right, -alpha)


def _subtract(left: Runtime, right: Runtime, alpha: int = 1) -> Runtime:
    if isinstance(right, str):  # which a number would repeat
        raise TypeError
    return left - alpha * right


def _range_length(begin: int, end: int, step: int) -> int:
    return len(range(begin, end, step))


def _derived_index(index: int, start: int, step: int) -> int:
    return start + index * step


def _itself(value: Runtime) -> Runtime:
    return value


def _equal(left: Runtime, right: Runtime) -> bool:
    return bool(left == right)


FUNCTIONS: Mapping[str, Callable[..., Runtime]] = {
    "add": _add,
    "sub": _subtract,
    "mul": operator.mul,
    "div": operator.truediv,
    "floordiv": operator.floordiv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "neg": operator.neg,
    "abs": abs,
    "min": min,
    "max": max,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": _equal,
    "ne": lambda left, right: not _equal(left, right),
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
    "__not__": operator.not_,
    "__is__": _is,
    "__isnot__": _is_not,
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "len": len,
    "__range_length": _range_length,
    "__derive_index": _derived_index,
    "NumToTensor": _itself,
    "Int": int,
    "Float": float,
    "Bool": bool,
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
}
OF_STRINGS = words("add eq ne len str int float __is__ __isnot__")
# What makes numbers of numbers, beside those: with an unknown number among its arguments and no
# tensor, the result is an unknown number.
NUMERIC = frozenset(FUNCTIONS) | words(
    "pow exp log sin cos round trunc true_divide rsub minimum maximum to detach clone numel size "
    "format sorted any all sum index count find split join strip startswith endswith lower upper "
    "replace ord chr item __contains__ keys values items list slice get pop copy type "
    "ScalarImplicit IntImplicit FloatImplicit unwrap_optional _unwrap_optional fmod gcd factorial "
    "isnan isinf isfinite hash hex oct bin title"
)
# What tells of a tensor's form and not of its content.
OF_SHAPE = words(
    "size dim ndim len numel stride storage_offset shape dtype device layout requires_grad is_cuda "
    "is_cpu is_meta is_xpu is_mps is_floating_point is_complex is_contiguous is_leaf is_sparse "
    "is_quantized is_nested is_signed is_mkldnn is_neg is_conj is_same_size __is__ __isnot__ type "
    "itemsize nbytes element_size get_device names name _size_if_not_equal"
)
# What makes a number or a truth of a tensor's content.
OF_CONTENT = words("item is_nonzero equal allclose tolist Int Float Bool int float bool")
