"""Findings that a configuration accepts for a reason: marked and counted, never dropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from bncheck.configuration import patterns
from bncheck.finding import Finding

if TYPE_CHECKING:
    from bncheck.report import ModelReport

State = Literal["used", "unused", "expired", "open"]


@dataclass(frozen=True, slots=True)
class Suppression:
    """An entry of ``ignore`` with a reason; without ``files`` or ``layers`` it means all of them.

    ``words`` are the rules as written, ``rules`` their ids. ``number`` counts the entries of the
    file from 1. On the day that it expires it still holds.
    """

    words: tuple[str, ...]
    rules: frozenset[str]
    reason: str
    files: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    expires: date | None = None
    number: int = 1

    def means_file(self, path: Path, folder: Path) -> bool:
        """Whether it is for a file; ``folder`` is where its patterns begin."""
        return not self.files or patterns.matches(self.files, folder, path)

    def means(self, finding: Finding) -> bool:
        """Whether it is for a finding, wherever that is. A model-wide one has no layer to match."""
        if finding.rule not in self.rules:
            return False
        if not self.layers:
            return True
        name = finding.layer
        return name is not None and any(fnmatchcase(name, each) for each in self.layers)

    def has_expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and self.expires < today


class Use(NamedTuple):
    """What came of an entry in a run.

    ``unused``: the run looked where it could have been of use. ``open``: it did not, or not
    everywhere.
    """

    entry: Suppression
    file: Path
    state: State
    findings: int

    def to_dict(self) -> dict[str, object]:
        """An entry of ``suppressions`` in JSON."""
        entry = self.entry
        return {
            "source": self.file.name,
            "number": entry.number,
            "rules": list(entry.words),
            "files": list(entry.files),
            "layers": list(entry.layers),
            "reason": entry.reason,
            "expires": entry.expires.isoformat() if entry.expires else None,
            "state": self.state,
            "findings": self.findings,
        }


@dataclass(slots=True)
class _Record:
    file: Path
    entry: Suppression
    findings: int = 0
    judged: bool = False  # one of its rules, in a file that it means
    doubtful: bool = False  # a file that it means could not be read


@dataclass(slots=True)
class Ledger:
    """Applies the suppressions of a run, and remembers which of them were of use.

    ``searched``: the run went through a folder rather than through files that were named, so that
    a pattern or an entry for all files has had its chance.
    """

    today: date
    searched: bool = True
    _records: dict[tuple[Path, int], _Record] = field(default_factory=dict)

    def applied(
        self, report: ModelReport, entries: Iterable[Suppression], file: Path
    ) -> ModelReport:
        """A report whose accepted findings are marked with the reason."""
        records = self._of(Path(report.path), entries, file)
        if not records:
            return report
        found = report.assessment
        for record in records:
            record.judged |= not record.entry.rules.isdisjoint(found.assessed)
        marked = tuple(self._marked(finding, records) for finding in found.findings)
        return replace(report, assessment=found._replace(findings=marked))

    def unreadable(self, path: Path, entries: Iterable[Suppression], file: Path) -> None:
        """Take note of a file that may hold what an entry is for."""
        for record in self._of(path, entries, file):
            record.doubtful = True

    def uses(self) -> tuple[Use, ...]:
        """What came of every entry that the run met, in order of appearance."""
        return tuple(
            Use(each.entry, each.file, self._state(each), each.findings)
            for each in self._records.values()
        )

    def _of(self, path: Path, entries: Iterable[Suppression], file: Path) -> list[_Record]:
        records = [
            self._records.setdefault((file, entry.number), _Record(file, entry))
            for entry in entries
        ]
        return [each for each in records if each.entry.means_file(path, file.parent)]

    def _marked(self, finding: Finding, records: Iterable[_Record]) -> Finding:
        meant = [record for record in records if record.entry.means(finding)]
        for record in meant:
            record.findings += 1
        valid = [each for each in meant if not each.entry.has_expired(self.today)]
        if not valid or finding.suppressed:
            return finding
        why = f"{valid[0].entry.reason} ({valid[0].file.name})"
        return replace(finding, suppressed=True, suppression=why)

    def _state(self, record: _Record) -> State:
        if record.entry.has_expired(self.today):
            return "expired"
        if record.findings:
            return "used"
        whole = self.searched or _means_single_files(record)
        return "unused" if whole and record.judged and not record.doubtful else "open"


def _means_single_files(record: _Record) -> bool:
    files, folder = record.entry.files, record.file.parent
    return bool(files) and all(patterns.is_file(each, folder) for each in files)
