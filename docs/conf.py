"""The settings of the site, and the pages that are made when it is built.

What is written once elsewhere (the README, rules/, docstrings, --help) is taken from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from sphinx.application import Sphinx

import bncheck
from bncheck import catalogue
from bncheck.catalogue import Rule
from bncheck.cli import cli
from bncheck.folding.reasons import Reason

project = "bncheck"
version = release = bncheck.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "bncheck"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
exclude_patterns = ["_build"]
nitpicky = False
highlight_language = "text"

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
PLACEHOLDER = re.compile(r"^<!-- (\w+)(?:: (.+?))? -->$", re.MULTILINE)
LOCAL = re.compile(r"\[([^]]+)\]\((?!https?:|#)[^)]+\)")
RULE = re.compile(r"\bBN\d{3}\b")
FAMILIES = {
    "1": "Mode",
    "2": "Statistics",
    "3": "Batch size",
    "4": "Weight and bias",
    "5": "Configuration",
    "6": "Architecture",
    "7": "Export",
    "8": "Hygiene",
    "9": "Data",
}


def setup(app: Sphinx) -> None:
    """Make the pages of the rules before Sphinx looks for pages."""
    app.connect("builder-inited", lambda _: _write_rules())
    app.connect("source-read", _fill_in)


def _write_rules() -> None:
    folder = HERE / "rules"
    folder.mkdir(exist_ok=True)
    pages = {"index.md": _index()}
    pages |= {_file(rule): _page(rule) for rule in catalogue.own().values()}
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        page = folder / name
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def _fill_in(app: Sphinx, name: str, source: list[str]) -> None:
    """Put into a page what it takes from elsewhere."""
    source[0] = PLACEHOLDER.sub(lambda found: _MAKERS[found[1]](found[2] or ""), source[0])


def _file(rule: Rule) -> str:
    return f"{rule.id}-{rule.name}.md"


def _index() -> str:
    names = [_file(rule).removesuffix(".md") for rule in catalogue.own().values()]
    contents = ["```{toctree}", ":hidden:", "", *names, "```"]
    return "\n".join(["# Rules", "", *_families(), *contents, ""])


def _families() -> Iterator[str]:
    rules = catalogue.own().values()
    for digit, title in FAMILIES.items():
        members = [rule for rule in rules if rule.id[2] == digit]
        if members:
            yield f"## {title}\n\n| | rule | level | what it finds |\n|---|---|---|---|"
            yield from map(_row, members)
            yield ""


def _row(rule: Rule) -> str:
    preview = ", in preview" if rule.in_preview else ""
    return f"| [{rule.id}]({_file(rule)}) | {rule.name} | {rule.level}{preview} | {rule.headline} |"


def _page(rule: Rule) -> str:
    title, _, text = rule.page.partition("\n")
    return "\n".join([title, "", *_facts(rule), "", _linked(text, rule)])


def _facts(rule: Rule) -> Iterator[str]:
    yield "| | |\n|---|---|"
    train = f"; {rule.train_level} of a training checkpoint" if rule.train_level else ""
    yield f"| level | {rule.level}{train} |"
    yield f"| layers | {', '.join(sorted(rule.kinds))} |"
    yield f"| evidence | {', '.join(sorted(rule.evidence))} |"
    yield f"| default | {_default(rule)} |"
    if rule.options:
        options = ", ".join(f"`{name} = {o.default}`" for name, o in rule.options.items())
        yield f"| options | {options} in `[tool.bncheck.rules.{rule.id}]` |"
    yield f"| since | {rule.since} |"


def _default(rule: Rule) -> str:
    if rule.in_preview:
        return "off, in preview: `--preview` turns it on"
    return "on" if rule.default else "off"


def _linked(text: str, page: Rule) -> str:
    """A page in which other rules are links; code stays as it is."""
    parts = re.split(r"(```.*?```|`[^`]*`)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("`") else _links(part, page) for part in parts)


def _links(text: str, page: Rule) -> str:
    known = catalogue.own()

    def link(found: re.Match[str]) -> str:
        rule = known.get(found[0])
        return found[0] if rule is None or rule is page else f"[{rule.id}]({_file(rule)})"

    return RULE.sub(link, text)


def _of_readme(heading: str) -> str:
    """A section of the README, without its heading, and without links to files beside it."""
    _, found, rest = README.read_text("utf-8").partition(f"\n## {heading}\n")
    if not found:
        raise ValueError(f"the README has no section {heading!r}")
    return LOCAL.sub(r"\1", rest.partition("\n## ")[0].strip())


def _help(name: str) -> str:
    command = cli if not name else cli.commands[name]
    words = f"bncheck {name}".strip()
    with click.Context(
        command, info_name=words, max_content_width=80, terminal_width=80
    ) as context:
        return f"```text\n{command.get_help(context)}\n```"


def _helps(_: str) -> str:
    names = ["", *cli.commands]
    return "\n\n".join(f"## bncheck {name}\n\n{_help(name)}".replace(" \n", "\n") for name in names)


def _reasons(_: str) -> str:
    rows = [f"| `{reason}` | {reason.text} |" for reason in Reason]
    return "\n".join(["| reason | it stays since |", "|---|---|", *rows])


def _of_file(name: str) -> str:
    """A file of the repository, without its title."""
    return (README.parent / name).read_text("utf-8").partition("\n")[2].strip()


_MAKERS = {"file": _of_file, "readme": _of_readme, "help": _helps, "reasons": _reasons}
