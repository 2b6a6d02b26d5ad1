"""The JSON report, schema_version 1."""

from __future__ import annotations

import json

from bncheck.report import Report


def render(report: Report) -> str:
    """The report as strict JSON in ASCII, ended by a newline."""
    return dump(report.to_dict())


def dump(value: object) -> str:
    """Strict JSON: a NaN that is not yet a string is a mistake of ours."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
