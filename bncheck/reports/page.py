"""A rule's page for a terminal: what the catalogue knows, then its text without the markup."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.catalogue import Rule
from bncheck.model import KINDS
from bncheck.reports.contents import CLASSES
from bncheck.reports.layout import Paint, fill, plain, words

FENCE = "```"
CODE = "    "
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
ITEM = re.compile(r"(?:[-*]|\d+\.) ")
INDENT = "  "


def page(rule: Rule, paint: Paint = plain) -> str:
    """The whole page, ended by a newline."""
    head = f"{paint(rule.id, 'bold')} {paint(rule.name, 'bold')}\n"
    return head + "".join(_facts(rule, paint)) + "".join(_body(rule.page, paint))


def _facts(rule: Rule, paint: Paint) -> Iterator[str]:
    train = f", {rule.train_level} in a training checkpoint" if rule.train_level else ""
    facts = {
        "level": f"{rule.level}{train}",
        "layers": kinds(rule),
        "evidence": ", ".join(sorted(rule.evidence)),
        "default": default(rule),
        "since": rule.since,
        "pack": rule.pack,
        "options": options(rule),
    }
    for label, text in facts.items():
        if text:
            yield fill(words(f"{label}: {text}"), INDENT, INDENT * 2, paint)


def default(rule: Rule) -> str:
    """Whether a rule runs unasked, and how to ask for it."""
    if rule.in_preview:
        return f"off, in preview; turn it on with --preview or --select {rule.id}"
    return "on" if rule.default else f"off; turn it on with --select {rule.id}"


def kinds(rule: Rule) -> str:
    """The kinds of layers that a rule looks at, in words."""
    if rule.kinds == set(KINDS):
        return "every normalization layer"
    return ", ".join(CLASSES[kind] for kind in KINDS if kind in rule.kinds)


def options(rule: Rule) -> str:
    """The options with their defaults, as a configuration file has them; "" without any."""
    shown = [f"{name} = {toml(option.default)}" for name, option in rule.options.items()]
    return f"{', '.join(shown)} in [tool.bncheck.rules.{rule.id}]" if shown else ""


def toml(value: object) -> str:
    """A default as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _body(markdown: str, paint: Paint) -> Iterator[str]:
    before = ""
    for block in _blocks(markdown):
        if block.startswith("# "):  # the name of the rule, which stands above already
            continue
        in_list = ITEM.match(block) and ITEM.match(before)
        gap = "" if in_list or _is_heading(before) else "\n"
        yield gap + _rendered(block, paint)
        before = block


def _rendered(block: str, paint: Paint) -> str:
    lines = block.splitlines()
    if _is_heading(block):
        return paint(block.lstrip("# "), "bold") + "\n"
    if block.startswith(FENCE):
        return "".join(f"{INDENT * 2}{line}".rstrip() + "\n" for line in lines[1:])
    if block.startswith(("|", CODE)):
        return "".join(f"{INDENT}{line.removeprefix(INDENT)}\n" for line in lines)
    hanging = INDENT * 2 if ITEM.match(block) else INDENT
    return fill(words(LINK.sub(r"\1 (\2)", block)), INDENT, hanging, paint)


def _is_heading(block: str) -> bool:
    return block.startswith("#")


def _blocks(markdown: str) -> Iterator[str]:
    """Headings, paragraphs, list items, tables, and code with its opening fence."""
    block: list[str] = []
    for line in markdown.splitlines():
        in_code = bool(block) and block[0].startswith(FENCE)
        ends = line.startswith(FENCE) if in_code else _begins(line, block)
        if ends and block:
            yield "\n".join(block)
            block = []
        if not (ends and in_code) and (in_code or line.strip()):
            block.append(line)
    if block:
        yield "\n".join(block)


def _begins(line: str, block: list[str]) -> bool:
    """Whether a line outside code does not go on with the block before it."""
    if not block or not line.strip() or line.startswith((FENCE, "#")) or ITEM.match(line):
        return True
    return _is_heading(block[0]) or line.startswith("|") != block[0].startswith("|")
