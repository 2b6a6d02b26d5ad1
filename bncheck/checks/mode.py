"""BN1xx: layers that normalize with the batch that they are given, and other live modes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bncheck.checks.words import LISTED, is_onnx, label, some
from bncheck.facts import Unknown, UnknownFact
from bncheck.finding import Level, Observation
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Kind, Model, NormLayer

SWITCHED: frozenset[Kind] = frozenset({"batch", "sync-batch"})  # eval() means something to these
KIND = Unknown(
    "kind",
    "a weight and a bias do not tell LayerNorm from a BatchNorm without running statistics",
    "check the exported .onnx, or the module saved whole",
)
DEPENDS = "each output depends on the other samples of its batch"


def training_mode(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN101: in training mode, on data that a caller gives."""
    if layer.training and _mixes_samples(layer, model):
        yield _in_training_mode(model)


def _in_training_mode(model: Model) -> Observation:
    evidence = {"training": True}
    if model.content == "graph":
        message = f"Exported in training mode: {DEPENDS}, and eval() cannot repair a graph."
        return Observation(message, evidence, fix="Export again after model.eval().")
    if model.loader_calls_eval:
        who = model.loader_calls_eval
        message = f"Saved in training mode; switched to eval mode after loading by {who}."
        return Observation(message, {**evidence, "loader_calls_eval": who}, Level.INFO)
    if model.format == "module":
        message = f"In training mode: until eval() is called, {DEPENDS}."
        return Observation(message, evidence, fix="model.eval() before inference.")
    return Observation(
        f"Saved in training mode: unless the loader calls eval(), {DEPENDS}.", evidence
    )


def active_dropout(model: Model) -> Iterator[Observation]:
    """BN102: Dropout that still drops at inference."""
    active = [label(node) for node in model.graph.nodes if _drops(node, model.graph)]
    if active:
        yield Observation(
            f"{len(active)} Dropout active at inference ({some(active)}): the outputs are random."
            + _exporter_hint(model),
            {"count": len(active), "nodes": active[:LISTED]},
            fix="model.eval() before saving." if model.content == "module" else None,
        )


def _drops(node: Node, graph: Graph) -> bool:
    ratio = node.attributes.get("p", 0.5)  # the default of every format
    return (
        node.kind is NodeKind.DROPOUT
        and node.attributes.get("training") is True
        and isinstance(ratio, int | float)
        and ratio > 0
        and any(map(graph.depends_on_input, node.inputs))
    )


def _exporter_hint(model: Model) -> str:
    if not is_onnx(model) or any(la.get(NormLayer.training, False) for la in _switched(model)):
        return ""
    return (
        " PyTorch's default exporter leaves just this of a model in training mode: "
        "it converts BatchNorm, Dropout stays live."
    )


def mixed_mode(model: Model) -> Iterator[Observation]:
    """BN103: some layers in training mode, others in eval mode without being frozen."""
    layers = _switched(model)
    if len(layers) < 2:
        return
    in_training = [la for la in layers if la.training]
    training = [la.name for la in in_training if _updates_statistics(la, model)]
    evaluating = [la.name for la in layers if not la.training and not _is_frozen(la)]
    if training and evaluating:
        yield _mixed(training, evaluating, model)


def _switched(model: Model) -> list[NormLayer]:
    return [layer for layer in model.layers if layer.kind in SWITCHED]


def _updates_statistics(layer: NormLayer, model: Model) -> bool:
    return layer.get(NormLayer.has_running_stats, True) and _mixes_samples(layer, model)


def _is_frozen(layer: NormLayer) -> bool:
    """Whether a layer is in eval mode for good: nothing of it is there to train."""
    trainable = layer.get(NormLayer.requires_grad, True)
    return not (trainable and layer.get(NormLayer.affine, True))


def _mixed(training: Sequence[str], evaluating: Sequence[str], model: Model) -> Observation:
    return Observation(
        f"{len(training)} BatchNorm in training mode ({some(training)}), {len(evaluating)} in eval "
        f"mode ({some(evaluating)}) but not frozen: eval() or train() reached only a part.",
        {
            "training": len(training),
            "eval": len(evaluating),
            "training_layers": list(training[:LISTED]),
            "eval_layers": list(evaluating[:LISTED]),
        },
        _unless_eval_follows(model),
    )


def batch_statistics_at_inference(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN104: no running statistics, so that eval() changes nothing."""
    if layer.kind is None and layer.bias is not None:  # BatchNorm has both weight and bias, or none
        raise UnknownFact(KIND)
    if layer.kind in SWITCHED and not layer.has_running_stats and _mixes_samples(layer, model):
        yield Observation(
            "Has no running statistics: in eval mode too it normalizes with those of the batch, so "
            f"{DEPENDS}.",
            {"has_running_stats": False},
        )


def tracking_flag_conflict(layer: NormLayer) -> Iterator[Observation]:
    """BN105: told not to track statistics, but holding some."""
    if not layer.track_running_stats and layer.running_mean is not None:
        yield Observation(
            "track_running_stats is False, but running statistics are there: eval mode uses them "
            "(since torch 1.6), training never updates them.",
            {"track_running_stats": False},
        )


def half_frozen(layer: NormLayer, model: Model) -> Iterator[Observation]:
    """BN106: weight and bias frozen, running statistics not."""
    if layer.training and layer.weight is not None and not layer.requires_grad:
        yield Observation(
            "Half frozen: weight and bias have requires_grad=False, but in training mode every "
            "batch still moves running_mean and running_var.",
            {"training": True, "requires_grad": False},
            _unless_eval_follows(model),
        )


def _unless_eval_follows(model: Model) -> Level | None:
    return Level.INFO if model.loader_calls_eval else None


def _mixes_samples(layer: NormLayer, model: Model) -> bool:
    """Whether the layer sees batches of what a caller gives; that of a module always does."""
    if model.content != "graph":
        return True
    return any(_mixes(call, layer, model.order) for call in layer.calls)


def _mixes(call: Node, layer: NormLayer, graph: Graph) -> bool:
    (data,) = call.inputs[:1] or ("",)
    if not graph.depends_on_input(data):  # weight standardization normalizes a parameter
        return False
    return layer.get(NormLayer.has_running_stats, True) or not _is_one_sample(data, graph)


def _is_one_sample(value: str, graph: Graph) -> bool:
    """Whether a batch was reshaped into one sample: so InstanceNorm is decomposed."""
    maker = graph.producer(value)
    folded = maker is not None and maker.kind is NodeKind.RESHAPE
    return folded and graph.shapes.get(value, ())[:1] == (1,)
