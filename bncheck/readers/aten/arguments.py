"""The arguments of ATen operators as attributes of nodes, under the names that ONNX's get too.

Every function takes a call and the tensors that are constant, and leaves out what is not known.
``padding`` of convolutions and pooling is "same" or a tuple with one number for each axis of space.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bncheck.readers.aten.call import Call, Value
from bncheck.readers.aten.constants import Constants

Arguments = Callable[[Call, Constants], dict[str, object]]
TO_THE_END = 2**63 - 1  # how ATen writes it
_RANK_IN_NAME = re.compile(r"([123])d")


def none(call: Call, constants: Constants) -> dict[str, object]:
    """For operators whose arguments no rule needs."""
    return {}


def _known(**arguments: object) -> dict[str, object]:
    return {name: value for name, value in arguments.items() if value is not None}


def convolution(call: Call, constants: Constants) -> dict[str, object]:
    """All convolutions."""
    weight = constants.get(call.value("weight"))
    rank = _rank(call, constants)
    return _known(
        groups=call.integer("groups", 1),
        padding=_padding(call, rank),
        kernel_size=weight.shape[2:] if weight else None,
        stride=_window(call, "stride", rank, 1),
        dilation=_window(call, "dilation", rank, 1),
    )


def transposed_convolution(call: Call, constants: Constants) -> dict[str, object]:
    """Transposed convolutions."""
    added = _window(call, "output_padding", _rank(call, constants), 0)
    return {**convolution(call, constants), **_known(output_padding=added)}


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


def _padding(call: Call, rank: int) -> str | tuple[int, ...] | None:
    word = call.text("padding")
    if word is not None:
        return "same" if word == "same" else (0,) * rank or None
    return _window(call, "padding", rank, 0)


def pooling(call: Call, constants: Constants) -> dict[str, object]:
    """max_pool and avg_pool; without a stride they move by their own size."""
    rank = _rank(call, constants)
    size = _window(call, "kernel_size", rank, 1)
    strides = call.argument("stride") not in (None, [], ())
    return _known(
        kernel_size=size,
        stride=_window(call, "stride", rank, 1) if strides else size,
        padding=_window(call, "padding", rank, 0),
        dilation=_window(call, "dilation", rank, 1) if "max" in call.op else None,
        ceil_mode=call.flag("ceil_mode", False),
        count_include_pad=call.flag("count_include_pad", True) if "avg" in call.op else False,
        divisor_override=call.integer("divisor_override"),
    )


def adaptive_pooling(call: Call, constants: Constants) -> dict[str, object]:
    """Adaptive pooling; ``output_size`` is 1 where all of space becomes one position."""
    size = call.integers("output_size")
    return _known(output_size=1 if size and set(size) == {1} else size)


def mean(call: Call, constants: Constants) -> dict[str, object]:
    """mean over some axes."""
    return _known(axes=call.integers("dim"), keepdim=call.flag("keepdim", False))


def linear(call: Call, constants: Constants) -> dict[str, object]:
    """A matrix product under the names of ONNX's Gemm: y = alpha · A·B + beta · C."""
    return _known(
        transA=False,
        transB=call.op == "aten.linear",
        alpha=call.number("alpha", 1.0),
        beta=call.number("beta", 1.0),
    )


def upright(call: Call, constants: Constants) -> dict[str, object]:
    """A matrix product whose right side is the transpose of what is stored."""
    return {**linear(call, constants), "transB": True}


def batch_norm(call: Call, constants: Constants) -> dict[str, object]:
    """Every variant of batch_norm that says in an argument whether it trains."""
    return _known(**_constants_of_norm(call), training=call.flag("training"))


def training_batch_norm(call: Call, constants: Constants) -> dict[str, object]:
    """A variant that always takes the statistics of the batch."""
    return _known(**_constants_of_norm(call), training=True)


def eval_batch_norm(call: Call, constants: Constants) -> dict[str, object]:
    """A variant that never takes the statistics of the batch."""
    return _known(**_constants_of_norm(call), training=False)


def _constants_of_norm(call: Call) -> dict[str, object]:
    eps = "epsilon" if "epsilon" in call.arguments else "eps"
    momentum = "exponential_average_factor" if eps == "epsilon" else "momentum"
    return _known(eps=call.number(eps, 1e-5), momentum=call.number(momentum))


def instance_norm(call: Call, constants: Constants) -> dict[str, object]:
    """instance_norm; without ``use_input_stats`` it takes the running statistics."""
    return _known(**_constants_of_norm(call), use_input_stats=call.flag("use_input_stats"))


def group_norm(call: Call, constants: Constants) -> dict[str, object]:
    """group_norm and native_group_norm."""
    groups = call.integer("num_groups" if "num_groups" in call.arguments else "group")
    return _known(eps=call.number("eps", 1e-5), num_groups=groups)


def layer_norm(call: Call, constants: Constants) -> dict[str, object]:
    """layer_norm: ``axis`` is the first of the normalized ones, counted from the end."""
    return {**_known(eps=call.number("eps", 1e-5)), **_first_axis(call)}


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
    return _known(
        size=call.integer("size"),
        alpha=call.number("alpha", 1e-4),
        beta=call.number("beta", 0.75),
        k=call.number("k", 1.0),
    )


def elementwise(call: Call, constants: Constants) -> dict[str, object]:
    """add, sub, mul and div with a constant on the right; ``alpha`` is a factor on it."""
    alpha = call.number("alpha", 1)
    return _known(alpha=None if alpha == 1 else alpha)


def reversed_elementwise(call: Call, constants: Constants) -> dict[str, object]:
    """A constant from which, or by which, data is taken."""
    return {**elementwise(call, constants), "reversed": True}


def dropout(call: Call, constants: Constants) -> dict[str, object]:
    """Every dropout: p is the probability to be zeroed."""
    return _known(p=call.number("p", 0.5), training=_trains(call))


def _trains(call: Call) -> bool | None:
    if call.op == "aten.native_dropout" and call.argument("train") is None:
        return True
    return call.flag("train", True)


def cast(call: Call, constants: Constants) -> dict[str, object]:
    """to and _to_copy."""
    return _known(dtype=call.text("dtype"))


def resize(call: Call, constants: Constants) -> dict[str, object]:
    """upsample_* and interpolate; the mode is "nearest", "linear", "cubic" or "area"."""
    word = call.text("mode") if "mode" in call.arguments else call.op
    modes = ("nearest", "linear", "cubic", "area")
    return _known(mode=next((mode for mode in modes if mode in (word or "")), None))


def pad(call: Call, constants: Constants) -> dict[str, object]:
    """All padding: ``padding`` covers ``axes``, all before, then all after, as ONNX has it."""
    fixed = call.op not in ("aten.pad", "aten.constant_pad_nd")
    word = (call.op if fixed else call.text("mode")) or ""
    modes = {"reflect": "reflect", "replic": "replicate", "circular": "circular"}
    mode = next((mode for part, mode in modes.items() if part in word), "constant")
    sides = call.integers("padding" if "padding" in call.arguments else "pad") or ()
    number = len(sides) // 2  # PyTorch begins with the last axis, both sides of it
    return _known(
        mode=mode,
        padding=(*sides[::2][::-1], *sides[1::2][::-1]) or None,
        axes=tuple(range(-number, 0)) or None,
        value=call.number("value", 0.0),
    )


def axis(call: Call, constants: Constants) -> dict[str, object]:
    """cat, split, chunk, select: the axis at which they join or part."""
    return _known(axis=call.integer("dim", 0))


def cut(call: Call, constants: Constants) -> dict[str, object]:
    """slice and narrow along one axis."""
    begin, length = call.integer("start", 0), call.integer("length")
    end = call.integer("end", TO_THE_END) if length is None else (begin or 0) + length
    if begin is None or end is None:
        return _known(axes=call.integers("dim", (0,)))
    return _known(
        axes=call.integers("dim", (0,)),
        starts=(begin,),
        ends=(end,),
        steps=call.integers("step", (1,)),
    )


def reshape(call: Call, constants: Constants) -> dict[str, object]:
    """view and reshape: the shape that is asked for, with -1 for "the rest"."""
    return _known(shape=call.sizes("shape" if call.op == "aten.reshape" else "size"))


def flatten(call: Call, constants: Constants) -> dict[str, object]:
    """flatten: ``axis`` where it goes from there to the last, as ONNX's Flatten does."""
    first, last = call.integer("start_dim", 0), call.integer("end_dim", -1)
    return _known(axis=first) if last == -1 else _known(start_dim=first, end_dim=last)


def squeeze(call: Call, constants: Constants) -> dict[str, object]:
    """squeeze and unsqueeze."""
    return _known(axes=call.integers("dim"))


def permute(call: Call, constants: Constants) -> dict[str, object]:
    """permute."""
    return _known(perm=call.integers("dims"))


def transpose(call: Call, constants: Constants) -> dict[str, object]:
    """transpose: the two axes that are swapped."""
    return _known(dim0=call.integer("dim0"), dim1=call.integer("dim1"))


def shuffle(call: Call, constants: Constants) -> dict[str, object]:
    """pixel_shuffle and pixel_unshuffle, which order channels as ONNX's mode CRD does."""
    factor = call.integer("upscale_factor", call.integer("downscale_factor"))
    return _known(block_size=factor, mode="CRD")


def channel_shuffle(call: Call, constants: Constants) -> dict[str, object]:
    """channel_shuffle."""
    return _known(groups=call.integer("groups"))
