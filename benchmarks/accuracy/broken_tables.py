"""Tables of what was said of broken networks, and the expectation that CI holds them against."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.accuracy.outcomes import Outcome, Verdict, summed
from benchmarks.tables import Goal
from bncheck import catalogue

EXPECTED = Path(__file__).with_name("assessed.json")
COLUMNS = {
    "state_dict": "state_dict",
    "checkpoint": "check- point",
    "safetensors": "safe- tensors",
    "module": "module",
    "live": "live",
    "live, traced": "live, inputs",
    "TorchScript traced": "traced",
    "TorchScript scripted": "scripted",
    "pt2": "pt2",
    "ONNX kept": "ONNX",
    "ONNX dynamo plain": "ONNX dynamo",
}
WANTED = 20  # networks for each defect
Expected = dict[str, dict[str, Verdict]]
Line = Mapping[str, Any]


def recall(found: Sequence[Outcome]) -> dict[str, str]:
    """Every table about planted defects."""
    checked = [each for each in found if not each.failure]
    return {
        "recall": f"{_totals(checked)}\n\n{tables.goals(_goals(found))}",
        "found": _by_format(checked),
        "missed": _missed(checked),
        "not planted": _failures(found),
    }


def expected(found: Iterable[Outcome]) -> Expected:
    """What each rule comes to in each format that can carry one of its defects."""
    verdicts: defaultdict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for each in found:
        if each.format:
            verdicts[each.rule, each.format].append(each.verdict)
    held: Expected = {}
    for (rule, format), seen in sorted(verdicts.items()):
        if (verdict := summed(seen)) != "no file":
            held.setdefault(rule, {})[format] = verdict
    return held


def write_expected(held: Expected) -> None:
    """Put it where CI finds it."""
    EXPECTED.write_text(json.dumps(held, indent=1) + "\n", "utf-8")


def _layers(found: Iterable[Outcome]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for each in found:
        for name in ("wanted", "found", "silenced", "open", "missed", "misplaced"):
            counts[name] += len(getattr(each, name))
    return counts


def _totals(checked: Sequence[Outcome]) -> str:
    counts = _layers(checked)
    defects = {(each.rule, each.defect) for each in checked}
    rows = [
        ("rules", len({each.rule for each in checked})),
        ("defects", len(defects)),
        ("networks", len({each.network for each in checked})),
        ("files", len(checked)),
        ("places where a defect was planted", counts["wanted"]),
        ("of these found, at the right layer", counts["found"]),
        ("its root cause named there instead", counts["silenced"]),
        ("not assessed: the file does not hold the evidence", counts["open"]),
        ("missed", counts["missed"]),
        ("findings of the rule at other layers", counts["misplaced"]),
    ]
    return tables.table([(name, f"{number:,}") for name, number in rows], ("planted", "number"))


def _goals(found: Sequence[Outcome]) -> list[Goal]:
    counts = _layers(found)
    judged = counts["found"] + counts["silenced"]
    share = judged / (judged + counts["missed"]) if judged else 0.0
    fewest, rule, defect = min(_networks(found), default=(0, "", ""))
    return [
        Goal(
            "100 % recall where the file holds the evidence",
            f"{100 * share:.2f} %: {counts['missed']} missed",
            counts["missed"] == 0,
        ),
        Goal("the right layer", f"{counts['misplaced']} elsewhere", counts["misplaced"] == 0),
        Goal(
            f"each defect in {WANTED} networks",
            f"{fewest}: {rule}, {defect}",
            fewest >= WANTED,
        ),
    ]


def _networks(found: Iterable[Outcome]) -> list[tuple[int, str, str]]:
    """In how many networks each defect could be planted."""
    networks: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for each in found:
        if not each.failure:
            networks[each.rule, each.defect].add(each.network)
    return [(len(names), rule, defect) for (rule, defect), names in networks.items()]


def _by_format(checked: Sequence[Outcome]) -> str:
    """Rules by formats."""
    cells: defaultdict[tuple[str, str], Counter[Verdict]] = defaultdict(Counter)
    networks: defaultdict[str, set[str]] = defaultdict(set)
    for each in checked:
        cells[each.rule, each.format][each.verdict] += 1
        networks[each.rule].add(each.network)
    rows = [
        (
            f"{rule.id} {rule.name}",
            str(len(networks[rule.id])),
            *(_cell(cells[rule.id, format]) for format in COLUMNS),
        )
        for rule in catalogue.load().values()
        if networks[rule.id]
    ]
    return tables.table(rows, ("rule", "networks", *COLUMNS.values()))


def _cell(verdicts: Counter[Verdict]) -> str:
    if not verdicts:
        return ""
    if verdicts["missed"]:
        return f"**{verdicts['missed']} missed**"
    if not verdicts["found"] and not verdicts["partly"]:
        return "?"
    rest = verdicts["partly"] + verdicts["not assessed"]
    return f"{verdicts['found']}" + f" + {rest}?" * bool(rest)


def _missed(checked: Sequence[Outcome]) -> str:
    rows = [
        (each.rule, each.defect, each.network, each.format, "missed", _names(each.missed))
        for each in checked
        if each.missed
    ] + [
        (each.rule, each.defect, each.network, each.format, "elsewhere", _names(each.misplaced))
        for each in checked
        if each.misplaced
    ]
    if not rows:
        return "None."
    headers = ("rule", "defect", "network", "file", "", "layers")
    return tables.table(rows, headers, words=len(headers))


def _names(layers: Iterable[str | None]) -> str:
    return ", ".join(layer or "the model" for layer in layers)


def _failures(found: Iterable[Outcome]) -> str:
    """Files that could not be made, by format and reason."""
    counts = Counter(
        (each.format or "the module", _first(each.failure)) for each in found if each.failure
    )
    rows = [(format, reason, str(number)) for (format, reason), number in counts.most_common()]
    return tables.table(rows, ("file", "why", "files"), words=2)


def _first(failure: str) -> str:
    """The kind of error, and its first words."""
    return " ".join(failure.split())[:70].replace("|", "/")


def training(results: Sequence[Line]) -> str:
    """Networks whose training went wrong: accuracy, and what is said of each file."""
    rows = [
        (
            str(each["text"]),
            f"{each['healthy']:.1%}",
            f"{each['broken']:.1%}",
            *(_heard(each, kind) for kind in each["said"]),
        )
        for each in results
    ]
    kinds = [*results[0]["said"]] if results else []
    headers = ("what went wrong", "healthy", "broken", *kinds)
    return tables.table(rows, headers, words=len(headers))


def _heard(result: Line, kind: str) -> str:
    """The findings, those that are about the case in bold."""
    return ", ".join(
        f"**{each}**" if each.split()[0] in result["wanted"] else each
        for each in result["said"][kind]
    )


def peers(rows: Sequence[Line]) -> str:
    """Who noticed what, and how much in all."""
    tools = [*rows[0]["verdicts"]] if rows else []
    lines = [
        (f"{each['rule']} {each['defect']}", *(WORDS[each["verdicts"][tool]] for tool in tools))
        for each in rows
    ]
    total = (
        "noticed, of the defects that a file could be made of",
        *(_share(rows, t) for t in tools),
    )
    return tables.table([total, *lines], ("defect", *tools))


WORDS = {"notices": "yes", "silent": "-", "no file": "", "not installed": "not installed"}


def _share(rows: Sequence[Line], tool: str) -> str:
    verdicts = Counter(each["verdicts"][tool] for each in rows)
    if verdicts["not installed"]:
        return "not installed"
    return f"{verdicts['notices']} of {verdicts['notices'] + verdicts['silent']}"
