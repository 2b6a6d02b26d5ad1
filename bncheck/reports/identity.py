"""What a finding is called by machines: where it is, and nothing of what was measured there."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from bncheck.finding import Finding
from bncheck.reports.verdict import Style, live
from bncheck.running.outcome import Checked, Outcome

DIGITS = 32  # of the digest


class Sighting(NamedTuple):
    """A finding that is reported, the model it is about, and its fingerprint."""

    finding: Finding
    checked: Checked
    fingerprint: str

    @property
    def path(self) -> str:
        """The file that was checked."""
        return self.checked.report.path


def sightings(outcome: Outcome, style: Style) -> Iterator[Sighting]:
    """The listed findings of all models, each with a fingerprint of its own.

    It stays the same while rule, file, member and layer do: the second finding of a rule at one
    place differs in the number behind the colon alone.
    """
    seen: Counter[str] = Counter()
    for checked in outcome.checked:
        for finding in filter(style.is_listed, live(checked)):
            place = _digest(finding, checked)
            seen[place] += 1
            yield Sighting(finding, checked, f"{place}:{seen[place]}")


def _digest(finding: Finding, checked: Checked) -> str:
    path, member = relative(checked.report.path), checked.report.model.member
    words = json.dumps([finding.rule, path, member, finding.layer])
    return sha256(words.encode()).hexdigest()[:DIGITS]


def relative(path: str) -> str:
    """A path from the working folder on, with slashes; outside that folder it is absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (links are not resolved)
    here = Path.cwd()
    return (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix()


def uri(path: str) -> str:
    """A path as a URI reference: relative to the working folder, else ``file:///...``."""
    local = relative(path)
    return Path(local).as_uri() if Path(local).is_absolute() else quote(os.fsencode(local))
