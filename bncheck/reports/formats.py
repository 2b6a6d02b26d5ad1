"""The output formats of a check by name; each is imported where it is asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from bncheck.errors import BncheckError
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome

FORMATS = ("text", "json", "sarif", "junit", "github", "gitlab", "markdown", "html")
LIBRARIES = {"junit": ("junitparser",), "html": ("jinja2", "markdown_it")}
EXTRA = 'pip install "bncheck[reports]"'


def require(form: str) -> None:
    """Raises BncheckError where a library that the format needs is missing."""
    missing = [name for name in LIBRARIES.get(form, ()) if find_spec(name) is None]
    if missing:
        raise BncheckError(f"--format {form} needs {' and '.join(missing)}: {EXTRA}")


def render(form: str, outcome: Outcome, style: Style) -> str:
    """A whole run in one of FORMATS, ended by a newline unless it is empty."""
    text: str = import_module(f"bncheck.reports.{form}").render(outcome, style)
    return text
