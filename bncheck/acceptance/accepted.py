"""What a run accepts of what it finds: by suppressions of configurations, and by a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from bncheck.configuration.settings import Plan
from bncheck.report import Notes, Unreadable
from bncheck.running.outcome import Checked, Entry

if TYPE_CHECKING:
    from bncheck.acceptance.baseline import Baseline, Kept, Stale
    from bncheck.acceptance.suppressions import Ledger, Use
    from bncheck.packs import Pack

SHOWN = 3  # stale entries that a message names
OF_NO_USE = {
    "unused": "is unused: nothing that it would suppress was found",
    "expired": "no longer suppresses anything: it expired on {day}",
}


class Accepted:
    """Marks what is accepted, entry by entry, and says afterwards what came of it.

    ``plans`` are those of the files by path; ``searched`` as in Ledger; ``whole_files``: every
    model of the files is looked at. Raises ConfigurationError for a baseline that is none.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        searched: bool = True,
        whole_files: bool = True,
    ) -> None:
        self._plans = plans
        self._whole_files = whole_files
        self._baselines = _baselines(plan.baseline for plan in plans.values() if plan.baseline)
        suppresses = any(plan.suppressions for plan in plans.values())
        self._ledger = _ledger(searched) if suppresses else None

    def applied(self, entry: Entry) -> Entry:
        """An entry whose accepted findings are marked."""
        if isinstance(entry, Unreadable):
            self._note(entry)
        elif isinstance(entry, Checked):
            return self._marked(entry)
        return entry

    def notes(self, packs: tuple[Pack, ...]) -> Notes:
        """For the report, once every entry has been seen."""
        kept = (each.kept(self._whole_files) for each in self._baselines.values())
        return Notes(packs, self._ledger.uses() if self._ledger else (), tuple(kept))

    def _marked(self, checked: Checked) -> Checked:
        report, plan = checked.report, checked.plan
        if self._ledger and plan.file:
            report = self._ledger.applied(report, plan.suppressions, plan.file)
        if plan.baseline:
            report = self._baselines[plan.baseline].applied(report)
        return Checked(report, plan)

    def _note(self, file: Unreadable) -> None:
        plan = self._plans[file.path]
        if self._ledger and plan.file:
            self._ledger.unreadable(Path(file.path), plan.suppressions, plan.file)
        if plan.baseline:
            self._baselines[plan.baseline].unreadable(file.path)


def _ledger(searched: bool) -> Ledger:
    from bncheck.acceptance.suppressions import Ledger

    return Ledger(date.today(), searched)


def _baselines(files: Iterable[Path]) -> dict[Path, Baseline]:
    unique = dict.fromkeys(files)
    if not unique:
        return {}
    from bncheck.acceptance import baseline

    return {file: baseline.read(file) for file in unique}


def notices(notes: Notes) -> Iterator[str]:
    """A line for every suppression that is of no use, and for every baseline with such entries."""
    yield from (_of_suppression(use) for use in notes.suppressions if use.state in OF_NO_USE)
    yield from (_of_baseline(kept) for kept in notes.baselines if kept.stale)


def _of_suppression(use: Use) -> str:
    entry = use.entry
    said = OF_NO_USE[use.state].format(day=entry.expires)
    return f"{use.file.name}: ignore {entry.number} ({', '.join(entry.words)}) {said}"


def _of_baseline(kept: Kept) -> str:
    named = [_named(each) for each in kept.stale[:SHOWN]]
    if len(kept.stale) > SHOWN:
        named.append(f"... +{len(kept.stale) - SHOWN}")
    what = f"stale entries, {len(kept.stale)} of {kept.entries}: {', '.join(named)}"
    return f"baseline {kept.file}: {what}; write it again with --write-baseline"


def _named(stale: Stale) -> str:
    member = f" [{stale.place.member}]" if stale.place.member else ""
    layer = f" {stale.known.layer}" if stale.known.layer is not None else ""
    return f"{stale.place.path}{member} {stale.known.rule}{layer}"
