"""The result of a run: one entry for each model, and what could not be read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from bncheck.engine import Assessment
from bncheck.errors import UnhealthyModel
from bncheck.finding import Finding, Level, NotAssessed
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

if TYPE_CHECKING:
    from bncheck.acceptance.baseline import Kept
    from bncheck.acceptance.suppressions import Use
    from bncheck.packs import Pack

SCHEMA_VERSION = 1
Verdict = Literal["ok", "findings", "no-batchnorm", "unreadable"]
# A layer's entry in JSON, beside name, kind and class.
FLAGS = (
    "num_features",
    "eps",
    "momentum",
    "affine",
    "track_running_stats",
    "training",
    "requires_grad",
)
TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class ModelReport:
    """One model, and what the rules say about it."""

    path: str
    model: Model
    assessment: Assessment

    @property
    def verdict(self) -> Verdict:
        """findings: at least one error or warning that is not suppressed."""
        if any(f.level is not Level.INFO and not f.suppressed for f in self.assessment.findings):
            return "findings"
        return "ok" if self.model.batch_norms else "no-batchnorm"

    def to_dict(self) -> dict[str, object]:
        """An entry of ``files``."""
        model, result = self.model, self.assessment
        return {
            "path": self.path,
            "member": model.member,
            "format": model.format,
            "content": model.content,
            "profile": result.profile,
            "profile_reason": result.profile_reason,
            "verdict": self.verdict,
            "holds": model.holds,
            "evidence": sorted(model.evidence),
            "layers": [layer_to_dict(layer) for layer in model.layers],
            "assessed": list(result.assessed),
            "findings": [_finding_to_dict(finding) for finding in result.findings],
            "not_assessed": [
                {"rule": each.rule, "layer": each.layer, "reason": each.reason}
                for each in result.not_assessed
            ],
            "error": None,
        }


class Unreadable(NamedTuple):
    """A file that should have been checked and could not be."""

    path: str
    error: str
    verdict: Verdict = "unreadable"

    def to_dict(self) -> dict[str, object]:
        """An entry of ``files``."""
        return {
            "path": self.path,
            "member": None,
            "format": None,
            "content": None,
            "profile": None,
            "profile_reason": None,
            "verdict": self.verdict,
            "holds": "",
            "evidence": [],
            "layers": [],
            "assessed": [],
            "findings": [],
            "not_assessed": [],
            "error": self.error,
        }


class Notes(NamedTuple):
    """What a run says of itself: rules that are not bncheck's own, and what came of exceptions."""

    packs: tuple[Pack, ...] = ()
    suppressions: tuple[Use, ...] = ()
    baselines: tuple[Kept, ...] = ()


NO_NOTES = Notes()


@dataclass(frozen=True, eq=False)
class Report:
    """All that a run has to say. ``skipped``: what lay in a folder and is no model."""

    files: tuple[ModelReport | Unreadable, ...]
    skipped: tuple[str, ...] = ()
    notes: Notes = NO_NOTES

    @property
    def models(self) -> tuple[ModelReport, ...]:
        """The entries that could be read."""
        return tuple(file for file in self.files if isinstance(file, ModelReport))

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The entries that could not."""
        return tuple(file for file in self.files if isinstance(file, Unreadable))

    @property
    def ok(self) -> bool:
        """No error, and nothing unreadable. Warnings: ``at_or_above(Level.WARNING)``."""
        return not self.unreadable and not self.at_or_above(Level.ERROR)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all models."""
        return tuple(f for model in self.models for f in model.assessment.findings)

    @property
    def not_assessed(self) -> tuple[NotAssessed, ...]:
        """What could not be judged, of all models."""
        return tuple(n for model in self.models for n in model.assessment.not_assessed)

    @property
    def layers(self) -> tuple[NormLayer, ...]:
        """The normalization layers of all models."""
        return tuple(layer for model in self.models for layer in model.model.layers)

    def at_or_above(self, level: Level) -> tuple[Finding, ...]:
        """The findings of at least this level that are not suppressed."""
        return tuple(f for f in self.findings if not f.suppressed and f.level.rank >= level.rank)

    def raise_for(self, level: Level | str = Level.ERROR) -> None:
        """Raise UnhealthyModel where anything is found at or above the level, or is unreadable."""
        bad = self.at_or_above(Level(level))
        lines = [f"{file.path}: {file.error}" for file in self.unreadable]
        lines += [f"{f.rule} {f.name} {f.layer or 'model'}: {f.message} Fix: {f.fix}" for f in bad]
        if lines:
            raise UnhealthyModel("\n".join(lines))

    def to_dict(self) -> dict[str, object]:
        """The documented JSON shape, schema_version 1; NaN and infinity are strings."""
        from bncheck import __version__

        packs = [pack.to_dict() for pack in self.notes.packs]
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": {"name": "bncheck", "version": __version__, "packs": packs},
            "files": [file.to_dict() for file in self.files],
            "skipped": list(self.skipped),
            "suppressions": [use.to_dict() for use in self.notes.suppressions],
            "baselines": [kept.to_dict() for kept in self.notes.baselines],
            "summary": self.summary(),
        }

    def summary(self) -> dict[str, int]:
        """Counts over the run; suppressed findings are counted apart."""
        live = [finding.level for finding in self.findings if not finding.suppressed]
        return {
            "files": len({file.path for file in self.files}),
            "layers": len(self.layers),
            "errors": live.count(Level.ERROR),
            "warnings": live.count(Level.WARNING),
            "infos": live.count(Level.INFO),
            "suppressed": len(self.findings) - len(live),
            "unreadable": len(self.unreadable),
        }


def layer_to_dict(layer: NormLayer) -> dict[str, object]:
    """What is known of a layer; an unknown field is absent."""
    entry: dict[str, object] = {"name": layer.name}
    if layer.kind is not None:
        entry["kind"] = layer.kind
    if layer.class_path is not None:
        entry["class"] = layer.class_path
    for name in FLAGS:
        if layer.knows(getattr(NormLayer, name)):
            entry[name] = plain(getattr(layer, name))
    for name in TENSORS:
        if layer.knows(getattr(NormLayer, name)):
            entry[name] = _tensor_to_dict(getattr(layer, name))
    return entry


def _tensor_to_dict(tensor: Tensor | None) -> dict[str, object] | None:
    return None if tensor is None else {"dtype": tensor.dtype, "shape": list(tensor.shape)}


def _finding_to_dict(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule,
        "name": finding.name,
        "level": finding.level.value,
        "layer": finding.layer,
        "message": finding.message,
        "evidence": plain(finding.evidence),
        "fix": finding.fix,
        "suppressed": finding.suppressed,
        "suppression": finding.suppression or None,
    }


def plain(value: object) -> object:
    """A value that strict JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value
