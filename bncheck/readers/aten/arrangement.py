"""The arguments of ATen operators that only move values: join, part, pad, reshape, resize."""

from __future__ import annotations

from bncheck.readers.aten.arguments import known
from bncheck.readers.aten.call import Call
from bncheck.readers.aten.constants import Constants

TO_THE_END = 2**63 - 1  # how ATen writes it


def resize(call: Call, constants: Constants) -> dict[str, object]:
    """upsample_* and interpolate; the mode is "nearest", "linear", "cubic" or "area"."""
    word = call.text("mode") if "mode" in call.arguments else call.op
    modes = ("nearest", "linear", "cubic", "area")
    return known(mode=next((mode for mode in modes if mode in (word or "")), None))


def pad(call: Call, constants: Constants) -> dict[str, object]:
    """All padding: ``padding`` covers ``axes``, all before, then all after, as ONNX has it."""
    fixed = call.op not in ("aten.pad", "aten.constant_pad_nd")
    word = (call.op if fixed else call.text("mode")) or ""
    modes = {"reflect": "reflect", "replic": "replicate", "circular": "circular"}
    mode = next((mode for part, mode in modes.items() if part in word), "constant")
    sides = call.integers("padding" if "padding" in call.arguments else "pad") or ()
    number = len(sides) // 2  # PyTorch begins with the last axis, both sides of it
    return known(
        mode=mode,
        padding=(*sides[::2][::-1], *sides[1::2][::-1]) or None,
        axes=tuple(range(-number, 0)) or None,
        value=call.number("value", 0.0),
    )


def axis(call: Call, constants: Constants) -> dict[str, object]:
    """cat: the axis at which data is joined."""
    return known(axis=call.integer("dim", 0))


def parts(call: Call, constants: Constants) -> dict[str, object]:
    """split, split_with_sizes and chunk."""
    lengths = call.argument("split_sizes", call.argument("split_size"))
    several = isinstance(lengths, list | tuple)
    return known(
        **axis(call, constants),
        sizes=call.integers("split_sizes" if "split_sizes" in call.arguments else "split_size")
        if several
        else None,
        split_size=None if several else call.integer("split_size"),
        chunks=call.integer("chunks"),
    )


def unbound(call: Call, constants: Constants) -> dict[str, object]:
    """unbind: every place of an axis, which is gone afterwards."""
    return {**axis(call, constants), "keepdim": False}


def place(call: Call, constants: Constants) -> dict[str, object]:
    """select: one place of an axis, which is gone afterwards."""
    return known(**axis(call, constants), index=call.integer("index"))


def places(call: Call, constants: Constants) -> dict[str, object]:
    """index_select: some places of an axis."""
    return known(**axis(call, constants), indices=constants.integers(call.value("index")))


def cut(call: Call, constants: Constants) -> dict[str, object]:
    """slice and narrow along one axis."""
    begin, length = call.integer("start", 0), call.integer("length")
    end = call.integer("end", TO_THE_END) if length is None else (begin or 0) + length
    axes = call.integers("dim", (0,))
    if begin is None or end is None:
        return known(axes=axes)
    return known(axes=axes, starts=(begin,), ends=(end,), steps=call.integers("step", (1,)))


def reshape(call: Call, constants: Constants) -> dict[str, object]:
    """view and reshape."""
    return known(shape=call.sizes("shape" if call.op == "aten.reshape" else "size"))


def flatten(call: Call, constants: Constants) -> dict[str, object]:
    """flatten."""
    return known(start_dim=call.integer("start_dim", 0), end_dim=call.integer("end_dim", -1))


def unflatten(call: Call, constants: Constants) -> dict[str, object]:
    """unflatten: one axis becomes several."""
    return known(axis=call.integer("dim"), sizes=call.integers("sizes"))


def squeeze(call: Call, constants: Constants) -> dict[str, object]:
    """squeeze, of all axes where it names none."""
    every: dict[str, object] = {"squeeze": None}
    return every if call.argument("dim") is None else known(squeeze=call.integers("dim"))


def unsqueeze(call: Call, constants: Constants) -> dict[str, object]:
    """unsqueeze."""
    return known(unsqueeze=call.integers("dim"))


def permute(call: Call, constants: Constants) -> dict[str, object]:
    """permute."""
    return known(perm=call.integers("dims"))


def transpose(call: Call, constants: Constants) -> dict[str, object]:
    """transpose, t and mT: the two axes that are swapped."""
    if call.op == "aten.t":
        return {"perm": (1, 0)}
    if call.op == "aten.mT":
        return {"dim0": -2, "dim1": -1}
    return known(dim0=call.integer("dim0"), dim1=call.integer("dim1"))


def shuffle(call: Call, constants: Constants) -> dict[str, object]:
    """pixel_shuffle and pixel_unshuffle, which order channels as ONNX's mode CRD does."""
    names = ("upscale_factor", "downscale_factor")
    return known(**{name: call.integer(name) for name in names}, mode="CRD")


def channel_shuffle(call: Call, constants: Constants) -> dict[str, object]:
    """channel_shuffle."""
    return known(groups=call.integer("groups"))
