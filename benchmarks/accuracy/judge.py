"""What bncheck says of a file, in few words that can be kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import bncheck
from bncheck import Finding, Level, Report


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, all rules in preview included.

    ``found``: how many findings by "RULE level". ``said``: what errors and warnings say, by the
    same. ``layers``: by kind. ``assessed``: the rules that judged anything; ``missing``: those that
    left something open, with the first reason.
    """

    found: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    assessed: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def judge(path: Path) -> Verdict:
    """Check a file, or raise the UnreadableModel that bncheck raises."""
    return verdict(bncheck.check(path, preview=True))


def verdict(report: Report) -> Verdict:
    """What is kept of a report."""
    bad = (f for f in reversed(report.findings) if f.level is not Level.INFO)
    return Verdict(
        found=dict(Counter(map(_key, report.findings))),
        said={_key(finding): f"{finding.layer}: {finding.message}" for finding in bad},
        layers=dict(Counter(layer.kind or "unknown" for layer in report.layers)),
        assessed=sorted({rule for m in report.models for rule in m.assessment.assessed}),
        missing={each.rule: each.reason for each in reversed(report.not_assessed)},
    )


def _key(finding: Finding) -> str:
    return f"{finding.rule} {finding.level}"
