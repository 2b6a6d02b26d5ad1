"""One page for people: what is wrong, in which layers, and what their statistics look like.

It needs nothing but itself: no script, no font, no address is loaded, and its policy forbids any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from bncheck import __version__
from bncheck.acceptance.accepted import notices
from bncheck.catalogue import Rule
from bncheck.reports.contents import plural
from bncheck.reports.html.views import ModelView, model_view
from bncheck.reports.identity import relative
from bncheck.reports.layout import printable
from bncheck.reports.summary import subtitle, title
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome

DRAWN = 1500  # layers of a page with charts; beyond these, those with errors and warnings have them
GRAVE = ("error", "warning")
BELOW = 1  # by how much the headings of a rule's page go down
SIZES = {name: import_module(f"{__name__}.{name}") for name in ("charts", "overview", "scales")}


def render(outcome: Outcome, style: Style) -> str:
    """The page."""
    models = _models(outcome, style)
    unreadable = [_printed(file.path, file.error) for file in outcome.report.unreadable]
    grave = [model.level for model in models] + ["error"] * len(unreadable)
    page = _environment().get_template("page.html")
    return page.render(
        version=__version__,
        title=title(outcome, style),
        level=next((level for level in GRAVE if level in grave), "ok"),
        facts=_facts(outcome, style),
        models=models,
        unreadable=unreadable,
        notices=list(map(printable, notices(outcome.notes))),
        packs=[printable(f"{pack.name} {pack.version or ''}") for pack in outcome.notes.packs],
        skipped=[printable(relative(path)) for path in outcome.report.skipped],
        rules=[(rule, _page(rule)) for rule in _rules(outcome, models)],
        **SIZES,
    )


def _facts(outcome: Outcome, style: Style) -> str:
    """The run in a line."""
    layers = outcome.report.summary()["layers"]
    norms = f"{layers:,} normalization {plural(layers, 'layer')}"
    return " · ".join([*subtitle(outcome, style), norms, f"exit code {outcome.exit_code}"])


def _printed(path: str, error: str) -> tuple[str, str]:
    return printable(relative(path)), printable(error)


def _models(outcome: Outcome, style: Style) -> list[ModelView]:
    left = DRAWN

    def draws(level: str) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 or level in GRAVE

    return [
        model_view(checked, style, f"m{number}", draws)
        for number, checked in enumerate(outcome.checked, start=1)
    ]


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__name__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _rules(outcome: Outcome, models: Iterable[ModelView]) -> Iterator[Rule]:
    """The rules that found something, in order."""
    found = {
        each.rule for model in models for each in (*model.findings, *model.infos, *model.suppressed)
    }
    known = {rule.id: rule for checked in outcome.checked for rule in checked.plan.rules}
    return (known[id] for id in sorted(found))


def _page(rule: Rule) -> Markup:
    """A rule's page, without its title; HTML in it is text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(rule.page.partition("\n")[2])
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(int(token.tag[1:]) + BELOW, 6)}"
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))
