"""What a fold or a verification came to, in ten lines or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bncheck.folding.result import Deviation, FoldResult, Kept, Verification
from bncheck.reports.layout import fill, plain, words

MOST_OUTPUTS = 4
MOST_REASONS = 3


def summary(target: str, result: FoldResult, written: bool) -> str:
    """What a person wants to know of a fold."""
    total = len(result.folded) + len(result.kept)
    lines = [f"{target}: {len(result.folded)} of {total} BatchNorm folded"]
    if not written:
        lines[0] += " (dry run: nothing was written)"
    lines += _saved(result) + _kept(result.kept)
    if result.verification is None:
        lines.append("not verified")
    else:
        lines += verification(result.verification)
    return "".join(_line(line, "  " if at else "") for at, line in enumerate(lines))


def _line(text: str, indent: str) -> str:
    return fill(words(text), indent, indent + "  ", plain)


def _saved(result: FoldResult) -> list[str]:
    saved = result.saved
    if not result.folded or not saved:
        return []
    parts = [f"{saved.get('nodes', 0)} nodes", f"{saved.get('parameters', 0):,} parameters"]
    size = saved.get("bytes", 0)
    return [f"saved {', '.join(parts)}" + (f", {size:,} bytes" if size > 0 else "")]


def _kept(kept: Sequence[Kept]) -> list[str]:
    by_reason = Counter(each.reason for each in kept)
    lines = []
    for reason, count in by_reason.most_common(MOST_REASONS):
        first = next(each for each in kept if each.reason == reason)
        which = first.layer if count == 1 else f"{count} layers, {first.layer} first"
        lines.append(f"kept: {which}: {first.text}")
    rest = sum(by_reason.values()) - sum(n for _, n in by_reason.most_common(MOST_REASONS))
    return lines + ([f"kept: {rest} more, for other reasons (--report)"] if rest else [])


def verification(proof: Verification) -> list[str]:
    """The largest error of each output, and how the places inside did."""
    lines = [_output(each) for each in proof.outputs[:MOST_OUTPUTS]]
    more = len(proof.outputs) - MOST_OUTPUTS
    if more > 0:
        lines.append(f"and {more} more outputs, largest error {proof.max_abs_error:.2g}")
    return [*lines, _sites(proof)]


def _output(each: Deviation) -> str:
    verdict = "" if each.within else "  NOT within"
    bound = f"{each.bound:.2g}"
    return f"output {each.name}: largest error {each.max_abs:.2g}, allowed {bound}{verdict}"


def _sites(proof: Verification) -> str:
    seen = [each for each in proof.sites if each.exercised]
    wrong = [each for each in proof.sites if not each.within]
    runs = f"{proof.runs} run{'s' * (proof.runs != 1)} in {proof.engine}"
    if wrong:
        return f"{len(wrong)} of {len(proof.sites)} places differ, {wrong[0].name} first; {runs}"
    if not proof.sites:
        return f"verified by {runs}"
    return f"verified by {runs}: {len(seen)} of {len(proof.sites)} folded places compared"


def to_dict(result: FoldResult) -> dict[str, object]:
    """A fold for a machine."""
    return {
        "folded": [{"layer": each.layer, "into": [*each.into]} for each in result.folded],
        "kept": [
            {"layer": each.layer, "reason": each.reason, "text": each.text} for each in result.kept
        ],
        "saved": dict(result.saved),
        "verification": None if result.verification is None else proof_to_dict(result.verification),
    }


def proof_to_dict(proof: Verification) -> dict[str, object]:
    """A verification for a machine."""
    return {
        "passed": proof.passed,
        "runs": proof.runs,
        "engine": proof.engine,
        "outputs": [_deviation(each) for each in proof.outputs],
        "sites": [_deviation(each) for each in proof.sites],
    }


def _deviation(each: Deviation) -> dict[str, object]:
    return {
        "name": each.name,
        "max_abs_error": each.max_abs,
        "bound": each.bound,
        "rms": each.rms,
        "exercised": each.exercised,
        "within": each.within,
    }
