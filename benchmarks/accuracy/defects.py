"""Every defect that a rule names, by rule, with what plants it and in which files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

from . import file_defects as files
from . import injectors as values
from . import onnx_defects as graphs
from . import restructured as modules
from .file_defects import Names
from .formats import Format
from .injectors import WHOLE, Inject, Named, constant, each_affine, each_norm, value
from .onnx_defects import GRAPHS
from .patients import SMALL, Patient


@dataclass(frozen=True)
class Defect:
    """``files``: the formats by the names of the broken layers.

    ``is_value``: it changes nothing but numbers in tensors, so that what was exported before is
    used again with these numbers. ``erased``: formats whose exporter mends it.
    """

    rule: str
    name: str
    inject: Inject
    files: Callable[[Names], Mapping[str, Format]] = files.unchanged
    is_value: bool = False
    erased: frozenset[str] = frozenset()


def _nothing(patient: Patient, names: Sequence[str]) -> Named:
    """The layers as they are: what is broken is the file."""
    return names


def _pairs(patient: Patient, names: Sequence[str]) -> Named:
    """Healthy, but it could be folded."""
    return [name for name in patient.pairs() if name in names]


def _affine(patient: Patient, names: Sequence[str]) -> Named:
    return [name for name in names if patient.part(name).affine]


def _all(patient: Patient, names: Sequence[str]) -> Named:
    return WHOLE


def _many(patient: Patient, names: Sequence[str]) -> Named:
    return [name for name in names if patient.part(name).num_features > 1]


DYNAMO = frozenset({"ONNX dynamo plain"})  # it exports BatchNorms as if in eval mode
ONNX = frozenset(GRAPHS)
DATA = ("state_dict", "checkpoint", "safetensors")
PICKLED = (*DATA, "module")
DEFECTS = (
    Defect("BN101", "training mode", values.training, erased=DYNAMO),
    Defect("BN101", "opset 6, is_test 0", _nothing, graphs.edited(graphs.training_of_opset_6)),
    Defect("BN102", "Dropout active", modules.live_dropout),
    Defect("BN103", "half in training mode", values.mixed_mode, erased=DYNAMO),
    Defect("BN104", "no running statistics", values.no_statistics),
    Defect(
        "BN104", "statistics from an input", _nothing, graphs.edited(graphs.statistics_from_input)
    ),
    Defect(
        "BN105",
        "told not to track",
        each_norm(constant("track_running_stats", False)),
        files.only(*PICKLED),
    ),
    Defect("BN106", "half frozen", values.half_frozen, erased=DYNAMO),
    Defect("BN201", "NaN variance", each_norm(value("running_var", -1, nan)), is_value=True),
    Defect("BN201", "infinite mean", each_norm(value("running_mean", 0, -inf)), is_value=True),
    Defect("BN202", "negative variance", each_norm(value("running_var", -1, -0.3)), is_value=True),
    Defect("BN203", "reset", each_norm(values.never_updated), is_value=True),
    Defect("BN204", "counted only", each_norm(values.counted_only), is_value=True),
    Defect("BN205", "five batches", each_norm(values.five_batches)),
    Defect("BN206", "three times as many", values.uneven_counts, is_value=True),
    Defect("BN207", "dead channel", each_norm(values.dead_channel), is_value=True),
    Defect("BN208", "variance near eps", each_norm(values.small_variance), is_value=True),
    Defect("BN209", "bfloat16", values.bfloat16),
    Defect("BN210", "beyond float16", values.beyond_half),
    Defect("BN211", "means moved", each_norm(values.shifted_means), is_value=True),
    Defect("BN212", "another layer's", values.copied_statistics, is_value=True),
    Defect("BN213", "one large gain", each_affine(values.large_gain), is_value=True),
    Defect("BN214", "one large mean", each_norm(values.large_mean), is_value=True),
    Defect("BN301", "batch of two, stated", _all, files.hyper_parameters),
    Defect(
        "BN301",
        "batch of two, exported",
        values.tiny_batch,
        files.only(
            "TorchScript traced",
            "pt2",
            "ONNX kept",
        ),
    ),
    Defect("BN302", "groups of one value", modules.ending(modules.groups_of_one, "last.0")),
    Defect("BN401", "NaN weight", each_affine(value("weight", 0, nan)), is_value=True),
    Defect("BN401", "infinite bias", each_affine(value("bias", -1, inf)), is_value=True),
    Defect("BN401", "NaN weight of a GroupNorm", modules.broken_groups, graphs.group_norms),
    Defect("BN402", "zero weight", each_affine(values.zero_weight), is_value=True),
    Defect("BN403", "half of the weight zero", each_affine(values.sparse_weight), is_value=True),
    Defect("BN404", "untouched", each_affine(values.untouched_affine), is_value=True),
    Defect("BN405", "weight decay", _affine, files.decayed),
    Defect("BN501", "momentum 0.9", each_norm(constant("momentum", 0.9))),
    Defect("BN502", "momentum 0", values.live_momentum_zero, erased=DYNAMO),
    Defect("BN503", "momentum 1.5", each_norm(constant("momentum", 1.5))),
    Defect("BN504", "momentum 1", each_norm(constant("momentum", 1.0))),
    Defect("BN505", "another eps", values.other_eps),
    Defect("BN506", "eps 0.1", each_norm(constant("eps", 0.1))),
    Defect("BN506", "eps 0, variance 0", each_norm(values.no_eps_no_variance)),
    Defect("BN507", "synchronized", values.synchronized, files.only(*PICKLED)),
    Defect("BN508", "pruned by hand", values.pruned_by_hand, files.only(*PICKLED)),
    Defect("BN508", "variance too short", _nothing, graphs.edited(graphs.shorter_statistics)),
    Defect("BN601", "bias", modules.biases),
    Defect("BN602", "Dropout before", modules.behind_linear(modules.dropout)),
    Defect("BN603", "two in a row", modules.behind_linear(modules.second_norm)),
    Defect("BN604", "LayerNorm over the width", modules.row_norm),
    Defect("BN605", "shared, for inference", modules.shared),
    Defect("BN605", "shared, in training", modules.shared_in_training),
    Defect("BN606", "groups of one channel", modules.single_groups, graphs.group_norms),
    Defect("BN607", "on the output", modules.ending(modules.normalized_output, "last.0")),
    Defect("BN701", "foldable", _pairs),
    Defect("BN702", "identity", each_affine(values.identity), is_value=True),
    Defect("BN703", "folded twice", modules.folded_twice),
    Defect("BN704", "between sigmoids", modules.sigmoids),
    Defect("BN705", "Mul and Add", modules.decomposed),
    Defect("BN706", "spatial", _many, graphs.edited(graphs.attribute("spatial", 0))),
    Defect("BN706", "opset 6", _nothing, graphs.edited(graphs.old_operator)),
    Defect("BN707", "three outputs", _nothing, graphs.edited(graphs.extra_outputs)),
    Defect("BN708", "quantized first", modules.behind_linear(modules.rounding)),
    Defect("BN709", "NaN folded", modules.folded_broken),
    Defect("BN709", "NaN folded by the exporter", values.broken_before_export, graphs.folded),
    Defect("BN801", "TensorFlow's names", _nothing, files.rewritten(files.legacy_names)),
    Defect("BN802", "no counter", _nothing, files.rewritten(files.without_counters)),
    Defect("BN803", "InstanceNorm with statistics", modules.instance_norms, erased=ONNX),
)
RULES = tuple(dict.fromkeys(each.rule for each in DEFECTS))
SCARCE = (  # more than a handful of layers, layers of one size, images, one output
    "BN206",
    "BN212",
    "BN302",
    "BN505",
    "BN604",
    "BN605",
    "BN606",
    "BN607",
    "BN701",
    "BN704",
    "BN709",
    "BN803",
)


def rules_for(network: str) -> Sequence[str]:
    """What is planted in a network: in the deeper ones what the small ones cannot have."""
    return RULES if network in SMALL else SCARCE
