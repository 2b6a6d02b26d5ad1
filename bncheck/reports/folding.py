"""What a fold or a verification came to, in ten lines or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf, isnan

from bncheck import __version__
from bncheck.folding.result import Deviation, FoldResult, Kept, Verification
from bncheck.report import plain as json_ready
from bncheck.reports.layout import fill, plain, words

LINES = 10
MOST = ((3, 4), (3, 2), (2, 2), (1, 2), (1, 1))  # reasons and outputs, as far as there is room


def summary(target: str, result: FoldResult, written: bool) -> str:
    """What a person wants to know of a fold, in ten lines unless names are very long."""
    shown = [_summary(target, result, written, *most) for most in MOST]
    return next((text for text in shown if text.count("\n") <= LINES), shown[-1])


def _summary(target: str, result: FoldResult, written: bool, reasons: int, outputs: int) -> str:
    total = len(result.folded) + len(result.kept)
    head = f"{target}: {len(result.folded)} of {total} BatchNorm folded"
    if not written:
        head += " (dry run: nothing was written)"
    proof = result.verification
    proved = ["not verified"] if proof is None else verification(proof, outputs)
    return block([head, *_saved(result), *_kept(result.kept, reasons), *proved])


def block(lines: Sequence[str]) -> str:
    """Lines of text, those behind the first indented."""
    return "".join(_line(line, "  " if at else "") for at, line in enumerate(lines))


def _line(text: str, indent: str) -> str:
    return fill(words(text), indent, indent + "  ", plain)


def _saved(result: FoldResult) -> list[str]:
    saved = result.saved
    if not result.folded or not saved:
        return []
    parts = (_count(saved.get(what, 0), what) for what in ("nodes", "parameters", "bytes"))
    return [f"saved {', '.join(filter(None, parts))}"]


def _count(number: int, what: str) -> str:
    """A number of things; nothing where there are none."""
    return f"{number:,} {what if number != 1 else what[:-1]}" if number > 0 else ""


def _kept(kept: Sequence[Kept], most: int) -> list[str]:
    by_reason = Counter(each.reason for each in kept)
    lines = []
    for reason, count in by_reason.most_common(most):
        first = next(each for each in kept if each.reason == reason)
        which = first.layer if count == 1 else f"{count} layers, {first.layer} first"
        lines.append(f"kept: {which}: {first.text}")
    rest = sum(by_reason.values()) - sum(n for _, n in by_reason.most_common(most))
    return lines + ([f"kept: {rest} more, for other reasons (--report)"] if rest else [])


def verification(proof: Verification, most: int = MOST[0][1]) -> list[str]:
    """The largest error of each output, the worst first, and how the places inside did."""
    ordered = sorted(proof.outputs, key=_badness, reverse=True)
    lines = [_output(each) for each in ordered[:most]]
    more = len(ordered) - most
    if more > 0:
        lines.append(f"and {more} more output{'s' * (more != 1)}, which differ by less")
    return [*lines, _sites(proof)]


def _badness(each: Deviation) -> float:
    """How much of what is allowed an error is; of NaN more than of anything."""
    if isnan(each.max_abs):
        return inf
    return each.max_abs / each.bound if each.bound else inf if each.max_abs else 0.0


def _output(each: Deviation) -> str:
    verdict = "" if each.within else "  NOT within"
    name = "output" if each.name == "output" else f"output {each.name}"
    return f"{name}: largest error {each.max_abs:.2g}, allowed {each.bound:.2g}{verdict}"


def _sites(proof: Verification) -> str:
    seen = [each for each in proof.sites if each.exercised]
    wrong = [each for each in proof.sites if not each.within]
    runs = f"{proof.runs} run{'s' * (proof.runs != 1)} in {proof.engine}"
    if wrong:
        return f"{len(wrong)} of {len(proof.sites)} places differ, {wrong[0].name} first; {runs}"
    if not proof.sites:
        return f"verified by {runs}"
    return f"verified by {runs}: {len(seen)} of {len(proof.sites)} places compared"


def to_dict(original: str, output: str | None, result: FoldResult) -> dict[str, object]:
    """A fold for a machine; ``output`` is None where nothing was written."""
    proof = result.verification
    return {
        **_head(),
        "original": original,
        "output": output,
        "folded": [{"layer": each.layer, "into": [*each.into]} for each in result.folded],
        "kept": [
            {"layer": each.layer, "reason": each.reason, "text": each.text} for each in result.kept
        ],
        "saved": dict(result.saved),
        "verification": None if proof is None else _proof(proof),
    }


def proof_to_dict(original: str, folded: str, proof: Verification) -> dict[str, object]:
    """A verification for a machine."""
    return {**_head(), "original": original, "folded": folded, **_proof(proof)}


def _head() -> dict[str, object]:
    return {"schema_version": 1, "tool": {"name": "bncheck", "version": __version__}}


def _proof(proof: Verification) -> dict[str, object]:
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
        "max_abs_error": json_ready(each.max_abs),
        "bound": json_ready(each.bound),
        "rms": json_ready(each.rms),
        "exercised": each.exercised,
        "within": each.within,
    }
