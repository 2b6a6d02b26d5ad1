"""BN5xx: constants and sizes of a layer that cannot be right, or are hardly meant."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks.values import PER_ELEMENT
from bncheck.checks.words import channels, is_onnx, where
from bncheck.finding import Level, Observation
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

LARGE_EPS = 0.1  # the default momentum; the largest eps in use is 1e-3
Size = tuple[int, ...]


def momentum_convention(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN501: a momentum that is meant as the weight of the old statistics."""
    momentum = layer.momentum
    if momentum is None or not 0.5 <= momentum < 1:
        return
    batches = (2 - momentum) / momentum
    yield Observation(
        f"momentum is {_momentum(momentum, model)}: a batch replaces {100 * momentum:.4g}% of the "
        f"running statistics, which are as noisy as an average over {batches:.3g} batches.",
        {"momentum": momentum, "batches": batches},
        Level.INFO if is_onnx(model) else None,
    )


def momentum_out_of_range(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN503: a momentum that makes no average."""
    momentum = layer.momentum
    if momentum is not None and not 0 <= momentum <= 1:
        yield Observation(
            f"momentum is {_momentum(momentum, model)}: outside 0 to 1 the moving average "
            "overshoots or diverges, and running_var can turn negative.",
            {"momentum": momentum},
        )


def _momentum(momentum: float, model: Model) -> str:
    if not is_onnx(model):
        return f"{momentum:.4g}"
    return f"{momentum:.4g} in PyTorch's convention, {1 - momentum:.4g} in ONNX's"


def eps_out_of_range(layer: NormLayer) -> Iterator[Observation]:
    """BN506: an eps that is no small positive number, or too small for the variance."""
    eps = layer.eps
    if eps is None:
        return
    var = layer.get(NormLayer.running_var, None)
    if not eps >= 0:
        yield Observation(
            f"eps is {eps:.4g}, no number from 0 up: where the variance does not outweigh it, the "
            "output is NaN.",
            {"eps": eps},
        )
    elif var is not None and var.minimum + eps <= 0:
        yield _no_square_root(var, eps)
    elif eps >= LARGE_EPS:
        yield Observation(
            f"eps is {eps:.4g}, and 1e-3 the largest in use: a momentum in its place, as in "
            "BatchNorm2d(64, 0.1)?",
            {"eps": eps},
            Level.WARNING,
        )


def _no_square_root(var: Tensor, eps: float) -> Observation:
    broken = var.where(lambda value: value + eps <= 0)
    return Observation(
        f"running_var + eps is {var.minimum + eps:.4g} in {where(broken, var.numel)}: the output "
        "there is infinite or NaN.",
        {**channels(broken, var.numel), "min": var.minimum, "eps": eps},
    )


def shape_mismatch(layer: NormLayer) -> Iterator[Observation]:
    """BN508: tensors of one layer that disagree about its size."""
    sizes = _sizes(layer)
    if len(set(sizes.values())) > 1:
        held = ", ".join(f"{name} {_size(size)}" for name, size in sizes.items())
        yield Observation(f"Sizes disagree ({held}): the layer cannot run.", _evidence(sizes))
    elif sizes and layer.kind not in PER_ELEMENT:
        yield from _stale_num_features(layer, *set(sizes.values()))


def _sizes(layer: NormLayer) -> dict[str, Size]:
    """The sizes to compare: channels, or the shape where weight and bias scale each element."""
    tensors = {"weight": layer.weight, "bias": layer.bias}
    if layer.kind in PER_ELEMENT:
        held = {n: t.shape for n, t in tensors.items() if t is not None and t.numel != 1}
        return {name: _broadcast(shape) for name, shape in held.items()}
    tensors["running_mean"] = layer.get(NormLayer.running_mean, None)
    tensors["running_var"] = layer.get(NormLayer.running_var, None)
    return {name: (t.numel,) for name, t in tensors.items() if t is not None}


def _broadcast(shape: Size) -> Size:
    """A shape without leading ones, which ONNX lets weight and bias differ in."""
    ones = next((axis for axis, length in enumerate(shape) if length != 1), len(shape))
    return shape[ones:]


def _size(size: Size) -> str:
    return " x ".join(map(str, size))


def _evidence(sizes: dict[str, Size]) -> dict[str, object]:
    return {name: size[0] if len(size) == 1 else list(size) for name, size in sizes.items()}


def _stale_num_features(layer: NormLayer, size: Size) -> Iterator[Observation]:
    """torch never reads num_features again, so the model runs: what rebuilds the layer breaks."""
    stated = layer.get(NormLayer.num_features, size[0])
    if stated != size[0]:
        yield Observation(
            f"num_features is {stated}, but the tensors have {size[0]} channels: pruned by hand? "
            "torch runs it; what rebuilds the layer from num_features breaks.",
            {"num_features": stated, "channels": size[0]},
            Level.WARNING,
        )
