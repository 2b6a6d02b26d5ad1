"""BN5xx: constants and sizes of a layer that cannot be right, or are hardly meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bncheck.checks.calls import sees_data
from bncheck.checks.values import PER_ELEMENT
from bncheck.checks.words import CLASS, LISTED, channels, is_onnx, some, where
from bncheck.facts import UnknownFact
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
    unused = _never_counted(layer)
    yield Observation(
        f"momentum is {_momentum(momentum, model)}: a batch replaces {100 * momentum:.4g}% of the "
        f"running statistics, which are as noisy as an average over {batches:.3g} batches."
        f"{' No batch was counted with it yet.' * unused}",
        {"momentum": momentum, "batches": batches},
        Level.INFO if is_onnx(model) or unused else None,
    )


def _never_counted(layer: NormLayer) -> bool:
    """Whether the momentum has done nothing yet, and is about to do nothing: not in training."""
    if layer.get(NormLayer.training, True):
        return False
    counter = layer.get(NormLayer.num_batches_tracked, None)
    return counter is not None and counter.numel > 0 and not any(counter.values)


def momentum_out_of_range(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN503: a momentum that makes no average."""
    momentum = layer.momentum
    if momentum is not None and not 0 <= momentum <= 1:
        yield Observation(
            f"momentum is {_momentum(momentum, model)}: outside 0 to 1 the moving average "
            "overshoots or diverges, and running_var can turn negative.",
            {"momentum": momentum},
        )


def momentum_zero(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN502: a momentum with which no batch changes the running statistics."""
    if layer.momentum == 0 and _updates(layer, model) and not _is_frozen(layer):
        yield Observation(
            f"momentum is {_momentum(0.0, model)}: no batch changes running_mean and running_var, "
            "which stay as they were made or loaded, whatever becomes of the weights.",
            {"momentum": 0.0},
        )


def momentum_one(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN504: a momentum with which only the last batch counts."""
    if layer.momentum == 1 and layer.get(NormLayer.has_running_stats, True):
        yield Observation(
            f"momentum is {_momentum(1.0, model)}: running_mean and running_var are those of the "
            "last batch alone.",
            {"momentum": 1.0},
        )


def _updates(layer: NormLayer, model: Model) -> bool:
    """Whether training updates the layer, or would: an inference graph never does again."""
    if not layer.get(NormLayer.has_running_stats, True):
        return False
    if model.content != "graph":
        return True
    return layer.training and any(sees_data(call, model) for call in layer.calls)


def _is_frozen(layer: NormLayer) -> bool:
    """Whether weight and bias are frozen too, so that the layer is meant to stay as it is."""
    return not layer.get(NormLayer.requires_grad, True)


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


def eps_mixed(model: Model, *, share: float = 0.2) -> Iterator[Observation]:
    """BN505: fewer than ``share`` of the BatchNorms have another eps than the rest."""
    used = {la.name: eps for la in model.batch_norms if (eps := la.eps) is not None}
    usual = next((eps for eps, _ in Counter(used.values()).most_common(1)), None)
    others = {name: eps for name, eps in used.items() if eps != usual}
    if usual is not None and others and len(others) < share * len(used):
        values = some([f"{eps:.4g}" for eps in dict.fromkeys(others.values())])
        yield Observation(
            f"{len(others)} of {len(used)} BatchNorms use eps {values} ({some([*others])}), the "
            f"others {usual:.4g}: trained so, or rebuilt with a default?",
            {"usual": usual, "count": len(others), "layers": dict([*others.items()][:LISTED])},
        )


def sync_batch_norm_left(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN507: a SyncBatchNorm, which only training on several devices needs."""
    if model.content == "graph":  # which holds the operation alone, not the class
        return
    if layer.kind == "sync-batch":
        yield Observation(
            "A SyncBatchNorm in training mode: it needs a process group on GPUs."
            if layer.training
            else "A SyncBatchNorm: in eval mode it computes what BatchNorm does, but compilers, "
            "quantizers and torch.jit.script do not know it.",
            {"training": layer.training},
        )
    elif layer.class_path is None:
        raise UnknownFact(CLASS)


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
