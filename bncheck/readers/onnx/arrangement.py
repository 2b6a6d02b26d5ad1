"""The arguments of ONNX operators that only move values: join, part, pad, reshape, resize."""

from __future__ import annotations

from bncheck.readers.onnx.arguments import known, scalar
from bncheck.readers.onnx.constants import Constants
from bncheck.readers.onnx.operation import Operation
from bncheck.readers.onnx.views import axes_of, shape_asked_for


def resize(operation: Operation, constants: Constants) -> dict[str, object]:
    """Resize and Upsample; the mode is "nearest", "linear" or "cubic"."""
    return {"mode": operation.text("mode", "nearest")}


def pad(operation: Operation, constants: Constants) -> dict[str, object]:
    """Pad; ``padding`` covers all axes, or ``axes`` of them: all before, then all after."""
    name = "paddings" if operation.version < 2 else "pads"
    old = operation.version < 11
    mode = operation.text("mode", "constant")
    return known(
        mode={"edge": "replicate", "wrap": "circular"}.get(mode, mode),
        padding=operation.integers(name) if old else constants.integers(operation.operand(1)),
        value=operation.real("value", 0.0) if old else scalar(operation, 2, constants, 0.0),
        axes=constants.integers(operation.operand(3)),
    )


def axis(operation: Operation, constants: Constants) -> dict[str, object]:
    """Concat and quantization: the axis at which they join, or at which the scales lie."""
    return {"axis": operation.integer("axis", 1)}


def split(operation: Operation, constants: Constants) -> dict[str, object]:
    """Split: lengths as an attribute at first, as an input since opset 13, else equal parts."""
    sizes = operation.integers("split") or constants.integers(operation.operand(1))
    equal = sizes is None and not operation.operand(1)
    return {
        "axis": operation.integer("axis", 0),
        **known(sizes=sizes, chunks=len(operation.outputs) if equal else None),
    }


def gather(operation: Operation, constants: Constants) -> dict[str, object]:
    """Gather: one place, of a scalar index, or several."""
    axis, index = operation.integer("axis", 0), constants.get(operation.operand(1))
    places = constants.integers(operation.operand(1))
    if index is None or places is None or len(index.shape) > 1:
        return {"axis": axis}
    return {"axis": axis, "indices": places} if index.shape else {"axis": axis, "index": places[0]}


def cut(operation: Operation, constants: Constants) -> dict[str, object]:
    """Slice: attributes before opset 10, inputs since; all axes where it names none."""
    names = ("starts", "ends", "axes", "steps")
    if operation.version < 10:
        given = {name: operation.integers(name) for name in names}
    else:
        held = (constants.integers(operation.operand(i)) for i in range(1, 5))
        given = dict(zip(names, held, strict=True))
    starts, whole = given["starts"], range(len(given["starts"] or ()))
    if starts is not None and not operation.operand(3) and given["axes"] is None:
        given["axes"] = tuple(whole)
    if starts is not None and not operation.operand(4):
        given["steps"] = tuple(1 for _ in whole)
    return known(**given)


def reshape(operation: Operation, constants: Constants) -> dict[str, object]:
    """Reshape, which may compute some sizes: one of them is the rest."""
    shape = shape_asked_for(operation, constants.sizes)
    if shape is not None and shape.count(None) == 1 and -1 not in shape:
        shape = tuple(-1 if size is None else size for size in shape)
    return known(shape=shape)


def flatten(operation: Operation, constants: Constants) -> dict[str, object]:
    """Flatten: two dimensions, parted before the axis."""
    axis = operation.integer("axis", 1)
    if axis == 1:
        return {"start_dim": 1, "end_dim": -1}
    return {"shape": (1, -1)} if axis == 0 else {"shape": (None, -1)}


def squeeze(operation: Operation, constants: Constants) -> dict[str, object]:
    """Squeeze, of all axes where it names none."""
    axes = axes_of(operation, constants.integers)
    return {} if axes is None and operation.operand(1) else {"squeeze": axes}


def unsqueeze(operation: Operation, constants: Constants) -> dict[str, object]:
    """Unsqueeze."""
    return known(unsqueeze=axes_of(operation, constants.integers))


def transpose(operation: Operation, constants: Constants) -> dict[str, object]:
    """Transpose."""
    return known(perm=operation.integers("perm"))


def depth_to_space(operation: Operation, constants: Constants) -> dict[str, object]:
    """DepthToSpace; its mode DCR goes through the channels last."""
    factor, mode = operation.integer("blocksize", 1), operation.text("mode", "DCR")
    return {"upscale_factor": factor, "mode": mode}


def space_to_depth(operation: Operation, constants: Constants) -> dict[str, object]:
    """SpaceToDepth, the inverse of DepthToSpace in mode DCR."""
    return {"downscale_factor": operation.integer("blocksize", 1), "mode": "DCR"}
