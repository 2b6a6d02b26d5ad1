"""Tables of what was said of healthy networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks import tables
from benchmarks.accuracy.formats import FORMATS
from benchmarks.accuracy.rows import Row
from benchmarks.tables import Goal
from bncheck import catalogue

PARTS = {
    "healthy": "architectures",
    "traps": "the same with a trap planted",
    "trained": "trained on digits",
}
FEW = 3  # examples in a cell


def render(rows: Sequence[Row]) -> dict[str, str]:
    """Every table, under the name of its place in README.md."""
    return {
        "healthy": f"{_files(rows)}\n\n{_alarms(rows)}\n\n{tables.goals(_goals(rows))}",
        "trained": _trained([row for row in rows if row.accuracy is not None]),
        "infos": _infos(rows),
        "traps": _traps([row for row in rows if row.trap]),
        "exporters": _exporters(rows),
        "assessed": _assessed([row for row in rows if not row.trap]),
    }


def count(rows: Iterable[Row], level: str) -> int:
    """How many findings are of a level."""
    return sum(n for row in rows for key, n in row.found.items() if key.endswith(f" {level}"))


def _files(rows: Sequence[Row]) -> str:
    lines = [_totals(title, _of(rows, part)) for part, title in PARTS.items()]
    headers = ("networks", "number", "files", "norm layers", "errors", "warnings", "unreadable")
    return tables.table([*lines, _totals("all", rows)], headers)


def _of(rows: Iterable[Row], part: str) -> list[Row]:
    return [row for row in rows if row.part == part]


def _totals(title: str, rows: Sequence[Row]) -> tuple[str, ...]:
    held = [row for row in rows if row.is_checked]
    numbers = (
        len({row.network for row in held}),
        len(held),
        sum(sum(row.layers.values()) for row in held),
        count(held, "error"),
        count(held, "warning"),
        sum(bool(row.unreadable) for row in rows),
    )
    return (title, *(f"{number:,}" for number in numbers))


def _alarms(rows: Sequence[Row]) -> str:
    """Every error and warning, by what raised it."""
    seen: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for key in row.said:
            seen.setdefault((key, row.network, row.trap or "-"), []).append(row.format)
    if not seen:
        return "No file has an error or a warning."
    lines = [(*key, ", ".join(formats)) for key, formats in sorted(seen.items())]
    return tables.table(lines, ("rule", "network", "trap", "files"), words=4)


def _goals(rows: Sequence[Row]) -> list[Goal]:
    number = len({row.network for row in _of(rows, "healthy") if row.is_checked})
    trained = len({row.network for row in _of(rows, "trained") if row.is_checked})
    alarms = count(rows, "error") + count(rows, "warning")
    unread = sum(bool(row.unreadable) for row in rows)
    return [
        Goal("at least 150 architectures", f"{number}", number >= 150),
        Goal("at least 12 trained networks", f"{trained}", trained >= 12),
        Goal("no error and no warning on any file", f"{alarms}", not alarms),
        Goal("every file can be read", f"{unread} cannot", not unread),
    ]


def _trained(rows: Sequence[Row]) -> str:
    lines = []
    for name in sorted({row.network for row in rows}):
        held = [row for row in rows if row.network == name]
        _, _, files, layers, errors, warnings, _ = _totals(name, held)
        lines.append((name, f"{held[0].accuracy:.1%}", files, layers, errors, warnings))
    headers = ("network", "accuracy", "files", "norm layers", "errors", "warnings")
    return tables.table(lines, headers)


def _infos(rows: Sequence[Row]) -> str:
    """How often each rule has something to say without alarm."""
    parts = {part: [row for row in _of(rows, part) if row.is_checked] for part in PARTS}
    keys = {key for row in rows for key in row.found if key.endswith(" info")}
    lines = []
    for rule in sorted(key.split()[0] for key in keys):
        spoken = [_spoken(f"{rule} info", held) for held in parts.values()]
        lines.append((f"{rule} {catalogue.load()[rule].name}", *spoken))
    headers = (f"{title} ({len(parts[part]):,} files)" for part, title in PARTS.items())
    return tables.table(lines, ("info", *headers))


def _spoken(key: str, rows: Sequence[Row]) -> str:
    held = [row.found[key] for row in rows if key in row.found]
    share = len(held) / len(rows) if rows else 0
    return f"{len(held):,} files ({share:.0%}), {sum(held):,} findings" if held else "-"


def _traps(rows: Sequence[Row]) -> str:
    lines = []
    for trap in sorted({row.trap for row in rows}):
        held = [row for row in rows if row.trap == trap]
        infos = Counter(key.split()[0] for row in held for key in row.found if "info" in key)
        usual = ", ".join(rule for rule, _ in infos.most_common())
        _, number, files, _, errors, warnings, _ = _totals(trap, held)
        lines.append((trap, usual or "-", number, files, errors, warnings))
    headers = ("trap", "infos, most frequent first", "networks", "files", "errors", "warnings")
    return tables.table(lines, headers, words=2)


def _exporters(rows: Sequence[Row]) -> str:
    """Where there is no file to check, and why."""
    plain = [row for row in rows if not row.trap]
    lines = []
    for name in [*FORMATS, "process"]:
        held = [row for row in plain if row.format == name]
        failed = [row.failure for row in held if row.failure]
        if held:
            reasons = Counter(failure.partition(":")[0] for failure in failed).most_common(FEW)
            told = ", ".join(f"{kind} {number}" for kind, number in reasons)
            lines.append((name, told or "-", f"{len(held) - len(failed)}", f"{len(failed)}"))
    return tables.table(lines, ("format", "exceptions", "files", "not made"), words=2)


def _assessed(rows: Sequence[Row]) -> str:
    """In which share of the files each rule left nothing open."""
    by_format = {name: [row for row in rows if row.format == name] for name in FORMATS}
    lines = [
        (rule, *(_share(rule, held) for held in by_format.values()))
        for rule in catalogue.load()
        if any(rule in row.assessed or rule in row.missing for row in rows)
    ]
    return f"{tables.table(lines, ('rule', *by_format))}\n\n{_reasons(rows)}"


def _share(rule: str, rows: Iterable[Row]) -> str:
    """Of the files with layers that the rule is about."""
    concerned = [row for row in rows if rule in row.assessed or rule in row.missing]
    whole = sum(rule not in row.missing for row in concerned)
    partly = sum(rule in row.assessed and rule in row.missing for row in concerned)
    if not concerned:
        return ""
    share = f"{whole / len(concerned):.0%}"
    return f"{share} + {partly / len(concerned):.0%}" if partly else share


def _reasons(rows: Iterable[Row]) -> str:
    """Why rules were not assessed in graphs, which hold all but the modules."""
    why: dict[str, Counter[str]] = {}
    for row in rows:
        for rule, reason in row.missing.items() if row.format in GRAPHS else ():
            why.setdefault(rule, Counter())[reason] += 1
    lines = []
    for rule, reasons in sorted(why.items()):
        ((usual, files),) = reasons.most_common(1)
        lines.append((rule, usual, f"{files:,}"))
    headers = ("rule", "the usual reason why it is not assessed in a graph", "files")
    return tables.table(lines, headers, words=2)


GRAPHS = ("pt2", "ONNX kept", "ONNX dynamo plain", "TorchScript traced")
