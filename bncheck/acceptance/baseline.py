"""A baseline: findings that a project knew when it began, by identity, so that only new ones fail.

A finding is told by file, model within the file, rule and layer; never by a count, which would let
a new finding take the place of one that was mended. Paths are relative to the baseline's folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from bncheck.configuration.patterns import real
from bncheck.errors import ConfigurationError
from bncheck.finding import Finding
from bncheck.report import ModelReport

MARKER = "bncheck_baseline"
VERSION = 1
MAX_BYTES = 1 << 28


class Place(NamedTuple):
    """A model: its file, relative to the baseline and with slashes, and its name in the file."""

    path: str
    member: str | None


class Known(NamedTuple):
    """What makes two findings of a model the same; ``layer`` is None for the whole model."""

    rule: str
    layer: str | None


class Stale(NamedTuple):
    """An entry that is over: the run looked there and found nothing, or the model is gone."""

    place: Place
    known: Known

    def to_dict(self) -> dict[str, object]:
        """An entry of ``stale`` in JSON."""
        return {**self.place._asdict(), **self.known._asdict()}


class Kept(NamedTuple):
    """What came of a baseline in a run: its entries, how many were met, and which are over."""

    file: Path
    entries: int
    used: int
    stale: tuple[Stale, ...]

    def to_dict(self) -> dict[str, object]:
        """An entry of ``baselines`` in JSON."""
        return {
            "path": str(self.file),
            "entries": self.entries,
            "used": self.used,
            "stale": [each.to_dict() for each in self.stale],
        }


@dataclass(slots=True)
class Baseline:
    """The known findings, and what a run meets of them."""

    file: Path
    known: Mapping[Place, frozenset[Known]]
    _used: int = 0
    _seen: set[Place] = field(default_factory=set)
    _broken: set[str] = field(default_factory=set)
    _stale: list[Stale] = field(default_factory=list)

    def applied(self, report: ModelReport) -> ModelReport:
        """A report whose known findings are marked."""
        place = place_of(report, self.file.parent)
        self._seen.add(place)
        known, found = self.known.get(place, frozenset()), report.assessment
        if not known:
            return report
        met = known & {_known(each) for each in found.findings}
        self._used += len(met)
        self._stale += (Stale(place, each) for each in _judged(known - met, report))
        marked = tuple(self._marked(each, met) for each in found.findings)
        return replace(report, assessment=found._replace(findings=marked))

    def unreadable(self, path: str) -> None:
        """Take note of a file that may hold what is known of it."""
        self._broken.add(relative(Path(path), self.file.parent))

    def kept(self, whole_files: bool = True) -> Kept:
        """What came of it; ``whole_files``: the run looked at every model of its files."""
        lost = (place for place in self.known if self._is_lost(place, whole_files))
        gone = [Stale(place, each) for place in lost for each in self.known[place]]
        entries = sum(map(len, self.known.values()))
        return Kept(self.file, entries, self._used, tuple(sorted(self._stale + gone, key=_order)))

    def _marked(self, finding: Finding, met: frozenset[Known]) -> Finding:
        if finding.suppressed or _known(finding) not in met:
            return finding
        return replace(finding, suppressed=True, suppression=f"known before ({self.file.name})")

    def _is_lost(self, place: Place, whole_files: bool) -> bool:
        if place in self._seen or place.path in self._broken:
            return False
        if not os.path.lexists(self.file.parent / place.path):
            return True
        return whole_files and any(seen.path == place.path for seen in self._seen)


def _known(finding: Finding) -> Known:
    return Known(finding.rule, finding.layer)


def _judged(entries: Iterable[Known], report: ModelReport) -> Iterator[Known]:
    """The entries whose rules were assessed where they found something once."""
    assessed = set(report.assessment.assessed)
    missing = {(each.rule, each.layer) for each in report.assessment.not_assessed}
    return (each for each in entries if each.rule in assessed and each not in missing)


def place_of(report: ModelReport, folder: Path) -> Place:
    """Where a model lies, as a baseline in a folder has it."""
    return Place(relative(Path(report.path), folder), report.model.member)


def relative(path: Path, folder: Path) -> str:
    """A path as a baseline in a folder has it, with slashes on every system."""
    found, base = real(path), Path(os.path.realpath(folder))
    try:
        return Path(os.path.relpath(found, base)).as_posix()
    except ValueError:  # another drive of Windows
        return found.as_posix()


def read(file: Path) -> Baseline:
    """The baseline of a file. Raises ConfigurationError where it is none."""
    try:
        return Baseline(file, _places(_document(file)))
    except _NoBaseline as error:
        raise ConfigurationError(f"baseline {file}: {error}") from None


class _NoBaseline(Exception):
    """Why a file is none."""


def _document(file: Path) -> dict[str, Any]:
    import json

    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise _NoBaseline("is no regular file, or too large to be one")
        document = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise _NoBaseline("does not exist; --write-baseline makes it") from None
    except OSError as error:
        raise _NoBaseline(str(error.strerror).lower()) from None
    except (ValueError, RecursionError) as error:
        raise _NoBaseline(f"is no valid JSON ({error})") from None
    version = document.get(MARKER) if isinstance(document, dict) else None
    if version is None:
        raise _NoBaseline("is no baseline of bncheck")
    if version != VERSION:
        raise _NoBaseline(
            f"is of version {version!r}, not {VERSION}; write it again with --write-baseline"
        )
    return dict(document)


def _places(document: dict[str, Any]) -> dict[Place, frozenset[Known]]:
    try:
        return dict(_checked(each) for each in document["models"])
    except (KeyError, TypeError, AttributeError):
        raise _NoBaseline("is damaged; write it again with --write-baseline") from None


def _checked(model: dict[str, Any]) -> tuple[Place, frozenset[Known]]:
    """A model's entries. Raises KeyError, TypeError or AttributeError where they are none."""
    place = Place(model["path"], model["member"])
    known = [Known(rule, layer) for rule, held in model["findings"].items() for layer in held]
    layers = {each.layer for each in known}
    if not isinstance(place.path, str) or not all(
        isinstance(each, str | None) for each in (place.member, *layers)
    ):
        raise TypeError(place)
    return place, frozenset(known)


def text(reports: Iterable[ModelReport], folder: Path, wanted: Callable[[Finding], bool]) -> str:
    """A baseline for a folder, of the findings that are wanted and not yet suppressed."""
    import json

    found = ((place_of(each, folder), _layers(each, wanted)) for each in reports)
    by_place = sorted(found, key=lambda each: (each[0].path, each[0].member or ""))
    models = [{**place._asdict(), "findings": held} for place, held in by_place if held]
    return json.dumps({MARKER: VERSION, "models": models}, indent=1, allow_nan=False) + "\n"


def _layers(report: ModelReport, wanted: Callable[[Finding], bool]) -> dict[str, list[str | None]]:
    """By rule where it found something, each place once."""
    rules: dict[str, dict[str | None, None]] = {}
    for finding in report.assessment.findings:
        if not finding.suppressed and wanted(finding):
            rules.setdefault(finding.rule, {})[finding.layer] = None
    return {rule: list(rules[rule]) for rule in sorted(rules)}


def _order(each: Stale) -> tuple[str, str, str, str]:
    return each.place.path, each.place.member or "", each.known.rule, each.known.layer or ""
