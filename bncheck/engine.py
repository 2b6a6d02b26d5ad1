"""Runs rules over a model: who is asked, at what level, what a root cause silences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from bncheck.catalogue import Rule
from bncheck.errors import BncheckError
from bncheck.facts import Evidence, UnknownFact
from bncheck.finding import Finding, Level, NotAssessed, Observation
from bncheck.model import BATCH_KINDS, Kind, Model, NormLayer

Profile = Literal["deploy", "train"]
UNTOLD: frozenset[Kind] = frozenset({"group", "layer"})  # what a layer of unknown kind may be


@dataclass(frozen=True, slots=True)
class Policy:
    """What a user decides about rules: the profile ("auto" asks the model), levels, options."""

    profile: Literal["auto", "deploy", "train"] = "auto"
    levels: Mapping[str, Level] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


class Assessment(NamedTuple):
    """What the rules say about one model."""

    profile: Profile
    profile_reason: str
    findings: tuple[Finding, ...]
    assessed: tuple[str, ...]
    not_assessed: tuple[NotAssessed, ...]


def assess(model: Model, rules: Iterable[Rule], policy: Policy = Policy()) -> Assessment:
    """Run every rule over a model. Raises only what is wrong with bncheck or the file itself."""
    profile, reason = _profile(model, policy)
    rules = tuple(rules)
    findings: list[Finding] = []
    not_assessed: list[NotAssessed] = []
    assessed: list[str] = []
    for rule in rules:
        run = _Run(rule, model, policy.options.get(rule.id, {}))
        found, missing, judged = run.everywhere()
        findings += map(partial(_finding, rule, profile, policy.levels.get(rule.id)), found)
        not_assessed += missing
        if judged:
            assessed.append(rule.id)
    kept = _without_consequences(findings, {rule.id: rule for rule in rules})
    return Assessment(profile, reason, tuple(kept), tuple(assessed), tuple(not_assessed))


def _profile(model: Model, policy: Policy) -> tuple[Profile, str]:
    if policy.profile != "auto":
        return policy.profile, "as asked"
    if model.training_state:
        return "train", f"a training checkpoint: {model.training_state}"
    return "deploy", "nothing says that training goes on"


class _Sighting(NamedTuple):
    layer: str | None
    observation: Observation


class _Run(NamedTuple):
    """One rule over one model."""

    rule: Rule
    model: Model
    options: Mapping[str, object]

    def everywhere(self) -> tuple[list[_Sighting], list[NotAssessed], bool]:
        """What was seen, what could not be judged, and whether anything was judged."""
        targets = self._targets()
        if not targets and self._proves_nothing() and self.model.statistics_gone:
            return [], [NotAssessed(self.rule.id, None, self.model.statistics_gone)], False
        seen: list[_Sighting] = []
        missing: list[NotAssessed] = []
        for target in targets:
            name = target.name if isinstance(target, NormLayer) else None
            try:
                seen.extend(_Sighting(name, o) for o in self._call(target))
            except UnknownFact as error:
                missing.append(NotAssessed(self.rule.id, name, error.unknown))
            except Exception as error:
                if self.rule.pack and not isinstance(error, BncheckError):
                    raise self._blamed(error) from error
                raise
        return seen, _merged(missing, len(targets)), len(missing) < max(len(targets), 1)

    def _blamed(self, error: Exception) -> BncheckError:
        """What a rule of a pack does wrong is for its authors."""
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        return BncheckError(f"{self.rule.id} of {self.rule.pack} failed ({what})")

    def _targets(self) -> Sequence[NormLayer | Model]:
        if self.rule.scope == "model":
            return (self.model,)
        kinds = self.rule.kinds
        everything = kinds >= BATCH_KINDS | {"layer"} or kinds <= UNTOLD
        return tuple(
            layer
            for layer in self.model.layers
            if layer.kind in kinds or (layer.kind is None and everything)
        )

    def _proves_nothing(self) -> bool:
        """Whether a model without BatchNorm leaves the rule open rather than satisfied."""
        return Evidence.TENSORS in self.rule.evidence and self.rule.kinds <= BATCH_KINDS

    def _call(self, target: NormLayer | Model) -> Iterator[Observation]:
        context = {"model": self.model} if self.rule.wants_model else {}
        return self.rule.check(target, **context, **self.options)


def _merged(missing: list[NotAssessed], targets: int) -> list[NotAssessed]:
    """One entry for the whole model where every layer lacks the same."""
    if len(missing) == targets > 0 and len({m.unknown for m in missing}) == 1:
        return [NotAssessed(missing[0].rule, None, missing[0].unknown)]
    return missing


def _finding(rule: Rule, profile: Profile, asked: Level | None, seen: _Sighting) -> Finding:
    level = rule.capped(seen.observation.level or rule.level, profile)
    return Finding(
        rule=rule.id,
        name=rule.name,
        level=asked or level,
        layer=seen.layer,
        message=seen.observation.message,
        evidence=seen.observation.evidence,
        fix=seen.observation.fix or rule.fix,
    )


def _without_consequences(findings: list[Finding], rules: Mapping[str, Rule]) -> list[Finding]:
    causes = {(finding.rule, finding.layer) for finding in findings}
    return [
        finding
        for finding in findings
        if not any(
            (cause, finding.layer) in causes or (cause, None) in causes
            for cause in rules[finding.rule].silenced_by
        )
    ]
