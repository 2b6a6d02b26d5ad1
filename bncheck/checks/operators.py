"""BN7xx: BatchNormalization operators of ONNX that runtimes refuse, or read in two ways."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.finding import Observation
from bncheck.graph import Node
from bncheck.model import NormLayer
from bncheck.tensor import Tensor

LAST_WITH_CONSUMED_INPUTS, LAST_WITH_IS_TEST, LAST_WITH_SPATIAL = 5, 6, 8
TRAINING_IS_AN_ATTRIBUTE = 14
LAST_VERSION = {
    "consumed_inputs": LAST_WITH_CONSUMED_INPUTS,
    "is_test": LAST_WITH_IS_TEST,
    "spatial": LAST_WITH_SPATIAL,
}


def old_onnx_attributes(layer: NormLayer) -> Iterator[Observation]:
    """BN706: is_test, spatial=0 or consumed_inputs."""
    for call in layer.calls:
        outdated, version = call.attributes.get("outdated"), call.attributes.get("version")
        if not isinstance(outdated, tuple) or not isinstance(version, int):
            continue
        said = _what_is_old(call, outdated, version)
        if said:
            message, fix = said
            yield Observation(message, {"attributes": [*outdated], "version": version}, fix=fix)
            return


def _what_is_old(
    call: Node, outdated: tuple[str, ...], version: int
) -> tuple[str, str | None] | None:
    """What is wrong and, where it is not conversion, what to do."""
    gone = [name for name in outdated if version > LAST_VERSION[name]]
    if gone:
        named = " and ".join(gone)
        return (
            f"Has the attribute {named}, which version {version} of the operator does not know: "
            "runtimes refuse the model."
        ), f"Remove {named}, then compare the outputs with those of the original."
    if call.attributes.get("spatial") is False:
        return _per_position(call)
    unread = [name for name in outdated if version <= LAST_WITH_IS_TEST and name != "spatial"]
    if unread:
        return (
            f"Is version {version} of the operator, with {' and '.join(unread)}: onnxruntime has "
            "none for it, and converters read it in different ways."
        ), None
    return None


def _per_position(call: Node) -> tuple[str, str]:
    mean, asked = call.parameters.get("running_mean"), "spatial=0 asks for a mean and a variance of"
    if isinstance(mean, Tensor) and len(mean.shape) == 1:
        return (
            f"{asked} each position: these have one for each of {mean.numel} channels, and "
            "runtimes refuse them."
        ), "Remove spatial, then compare the outputs with those of the original."
    return (
        f"{asked} each position: no version of the operator since opset 9 can, and many runtimes "
        "never could."
    ), "Export again, or write it as Mul and Add with constants of that shape."


def extra_outputs(layer: NormLayer) -> Iterator[Observation]:
    """BN707: more than one output, of an operator for inference or of one without a mode."""
    for call in layer.calls:
        outputs, version = sum(map(bool, call.outputs)), call.attributes.get("version")
        if outputs < 2 or not isinstance(version, int):
            continue
        message = _what_they_mean(outputs, version, bool(call.attributes.get("training")))
        if message:
            yield Observation(message, {"outputs": outputs, "version": version})
            return


def _what_they_mean(outputs: int, version: int, training: bool) -> str:
    if LAST_WITH_IS_TEST < version < TRAINING_IS_AN_ATTRIBUTE:
        return (
            f"{outputs} outputs: in version {version} of the operator that alone is what asks for "
            "training mode, and the batch's statistics are used."
        )
    if training:
        return ""
    mode = "training_mode=0" if version >= TRAINING_IS_AN_ATTRIBUTE else "is_test=1"
    return (
        f"{outputs} outputs with {mode}: at inference there is one, and runtimes refuse the model."
    )
