"""The JSON report, schema_version 1."""

from __future__ import annotations

import json

from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome


def render(outcome: Outcome, style: Style) -> str:
    """The report as strict JSON in ASCII, ended by a newline; all findings, whatever the style."""
    return dump(outcome.report.to_dict())


def dump(value: object) -> str:
    """Strict JSON: a NaN that is not yet a string is a mistake of ours."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
