"""The arguments of ATen operators as the attributes that bncheck.graph tells of.

Every function takes a call and the tensors that are constant, and leaves out what is not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bncheck.readers.aten.call import Call, Value
from bncheck.readers.aten.constants import Constants
from bncheck.readers.conventions import same_padding

Arguments = Callable[[Call, Constants], dict[str, object]]
SUBTRACTIONS = ("aten.sub", "aten.rsub")
_RANK_IN_NAME = re.compile(r"([123])d")


def none(call: Call, constants: Constants) -> dict[str, object]:
    """For operators whose arguments no rule needs."""
    return {}


def known(**arguments: object) -> dict[str, object]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def convolution(call: Call, constants: Constants) -> dict[str, object]:
    """All convolutions."""
    weight = constants.get(call.value("weight"))
    rank = _rank(call, constants)
    size, dilation = weight.shape[2:] if weight else None, _window(call, "dilation", rank, 1)
    return known(
        groups=call.integer("groups", 1),
        padding=_padding(call, rank, size, dilation),
        kernel_size=size,
        stride=_window(call, "stride", rank, 1),
        dilation=dilation,
    )


def transposed_convolution(call: Call, constants: Constants) -> dict[str, object]:
    """Transposed convolutions."""
    added = _window(call, "output_padding", _rank(call, constants), 0)
    return {**convolution(call, constants), **known(output_padding=added)}


def _rank(call: Call, constants: Constants) -> int:
    """How many axes of space there are, as the operator's name or the weight tells; else 0."""
    named, weight = _RANK_IN_NAME.search(call.op), constants.get(call.value("weight"))
    if named:
        return int(named[1])
    return max(len(weight.shape) - 2, 0) if weight else 0


def _window(call: Call, name: str, rank: int, default: int) -> tuple[int, ...] | None:
    """One number for each axis of space, where a single one stands for all of them."""
    given = call.integers(name, ())
    if given is None or len(given) > 1:
        return given
    return (given or (default,)) * rank if rank else given or None


def _padding(
    call: Call, rank: int, size: tuple[int, ...] | None, dilation: tuple[int, ...] | None
) -> str | tuple[int, ...] | None:
    word = call.text("padding")
    if word is None:
        return _window(call, "padding", rank, 0)
    if word != "same":
        return (0,) * rank or None
    return "same" if size is None or dilation is None else same_padding(size, dilation)


def pooling(call: Call, constants: Constants) -> dict[str, object]:
    """max_pool and avg_pool; without a stride they move by their own size."""
    rank = _rank(call, constants)
    size = _window(call, "kernel_size", rank, 1)
    strides = call.argument("stride") not in (None, [], ())
    return known(
        kernel_size=size,
        stride=_window(call, "stride", rank, 1) if strides else size,
        padding=_window(call, "padding", rank, 0),
        dilation=_window(call, "dilation", rank, 1),
        ceil_mode=call.flag("ceil_mode", False),
        count_include_pad=call.flag("count_include_pad", True) if "avg" in call.op else False,
        divisor_override=call.integer("divisor_override"),
    )


def adaptive_pooling(call: Call, constants: Constants) -> dict[str, object]:
    """Adaptive pooling; ``output_size`` is 1 where all of space becomes one position."""
    size = call.integers("output_size")
    return known(output_size=1 if size and set(size) == {1} else size)


def mean(call: Call, constants: Constants) -> dict[str, object]:
    """mean over some axes."""
    return known(axes=call.integers("dim"), keepdim=call.flag("keepdim", False))


def homogeneous(call: Call, constants: Constants) -> dict[str, object]:
    """For functions that a positive factor passes through."""
    return {"homogeneous": True}


WITHOUT_BIAS = frozenset({"aten.mm", "aten.bmm", "aten.matmul"})


def linear(call: Call, constants: Constants) -> dict[str, object]:
    """A matrix product under the names of ONNX's Gemm: y = alpha · A·B + beta · C."""
    return known(
        transA=False,
        transB=call.op == "aten.linear",
        alpha=call.number("alpha", 1.0),
        beta=None if call.op in WITHOUT_BIAS else call.number("beta", 1.0),
    )


def upright(call: Call, constants: Constants) -> dict[str, object]:
    """A matrix product whose right side is the transpose of what is stored."""
    return {**linear(call, constants), "transB": call.op != "aten.linear"}


def batch_norm(call: Call, constants: Constants) -> dict[str, object]:
    """Every variant of batch_norm that says in an argument whether it trains."""
    return known(**_constants_of_norm(call), training=call.flag("training"))


def training_batch_norm(call: Call, constants: Constants) -> dict[str, object]:
    """A variant that always takes the statistics of the batch."""
    return known(**_constants_of_norm(call), training=True)


def eval_batch_norm(call: Call, constants: Constants) -> dict[str, object]:
    """A variant that never takes the statistics of the batch."""
    return known(**_constants_of_norm(call), training=False)


def _constants_of_norm(call: Call) -> dict[str, object]:
    eps = "epsilon" if "epsilon" in call.arguments else "eps"
    momentum = "exponential_average_factor" if eps == "epsilon" else "momentum"
    return known(eps=call.number(eps, 1e-5), momentum=call.number(momentum))


def instance_norm(call: Call, constants: Constants) -> dict[str, object]:
    """instance_norm; without ``use_input_stats`` it takes the running statistics."""
    return known(**_constants_of_norm(call), use_input_stats=call.flag("use_input_stats"))


def group_norm(call: Call, constants: Constants) -> dict[str, object]:
    """group_norm and native_group_norm."""
    groups = call.integer("num_groups" if "num_groups" in call.arguments else "group")
    return known(eps=call.number("eps", 1e-5), num_groups=groups)


def layer_norm(call: Call, constants: Constants) -> dict[str, object]:
    """layer_norm: ``axis`` is the first of the normalized ones, counted from the end."""
    return {**known(eps=call.number("eps", 1e-5)), **_first_axis(call)}


def rms_norm(call: Call, constants: Constants) -> dict[str, object]:
    """rms_norm: without an eps, the library takes that of the dtype."""
    eps = call.argument("eps")
    held: dict[str, object] = {} if isinstance(eps, Value) else {"eps": call.number("eps")}
    return {**held, **_first_axis(call)}


def _first_axis(call: Call) -> dict[str, object]:
    shape = call.argument("normalized_shape")
    return {"axis": -len(shape)} if isinstance(shape, list | tuple) else {}


def local_response_norm(call: Call, constants: Constants) -> dict[str, object]:
    """torch.nn.functional.local_response_norm."""
    return known(
        size=call.integer("size"),
        alpha=call.number("alpha", 1e-4),
        beta=call.number("beta", 0.75),
        k=call.number("k", 1.0),
    )


def elementwise(call: Call, constants: Constants) -> dict[str, object]:
    """add, sub, mul and div of data and a constant, or of two data."""
    alpha = call.number("alpha", 1)
    return known(
        subtract=call.op in SUBTRACTIONS or None,
        divide=call.op == "aten.div" or None,
        alpha=None if alpha == 1 else alpha,
    )


def reversed_elementwise(call: Call, constants: Constants) -> dict[str, object]:
    """The same of a constant and data, in this order, which matters to sub and div."""
    taken = call.op in SUBTRACTIONS or call.op == "aten.div"
    return {**elementwise(call, constants), **({"reversed": True} if taken else {})}


def dropout(call: Call, constants: Constants) -> dict[str, object]:
    """Every dropout: p is the probability to be zeroed."""
    return known(p=call.number("p", 0.5), training=_trains(call))


def _trains(call: Call) -> bool | None:
    if call.op == "aten.native_dropout" and call.argument("train") is None:
        return True
    return call.flag("train", True)


def cast(call: Call, constants: Constants) -> dict[str, object]:
    """to and _to_copy."""
    return known(dtype=call.text("dtype"))
