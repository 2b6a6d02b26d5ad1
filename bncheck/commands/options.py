"""The options of bncheck check, and how what is typed becomes settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bncheck.errors import ConfigurationError
from bncheck.finding import Level
from bncheck.settings import FAIL_ON, PROFILES, SHOW, expand, rule_named

T = TypeVar("T")
Command = Callable[..., Any]
FILE = click.Path(path_type=Path)


def _each(parse: Callable[[list[str]], T]) -> Callable[..., T]:
    """A callback for an option that is repeated or holds commas."""

    def callback(ctx: click.Context, option: click.Parameter, given: Sequence[str]) -> T:
        words = [word.strip() for each in given for word in each.split(",")]
        try:
            return parse([word for word in words if word])
        except ConfigurationError as error:
            raise click.BadParameter(str(error), ctx, option) from error

    return callback


def _rules(words: list[str]) -> tuple[str, ...]:
    for word in words:
        expand(word)
    return tuple(words)


def _levels(words: list[str]) -> dict[str, Level]:
    return dict(map(_level, words))


def _level(word: str) -> tuple[str, Level]:
    rule, _, level = word.partition("=")
    if level not in list(Level):
        raise ConfigurationError(f"{word!r} is not RULE=LEVEL with LEVEL error, warning or info")
    return rule_named(rule).id, Level(level)


def form(*choices: str) -> Callable[[Command], Command]:
    """--format, the first of the choices by default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="Form of what is printed.",
    )


def key(verb: str) -> Callable[[Command], Command]:
    """--key."""
    return click.option(
        "--key", metavar="NAME", help=f"Of a file with several models, {verb} this one."
    )


def _rule_list(name: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, metavar="RULE,...", multiple=True, callback=_each(_rules), help=text)


OUTPUT = click.option(
    "--output",
    type=FILE,
    metavar="FILE",
    help="Write the report to FILE, which is replaced only by a whole report.  [default: stdout]",
)
CONFIG = click.option(
    "--config",
    type=FILE,
    metavar="FILE",
    help="Read the configuration from FILE.  [default: the closest bncheck.toml, or "
    "pyproject.toml with [tool.bncheck], at or above each checked file]",
)
DECISIONS: Iterable[Callable[[Command], Command]] = (
    click.option(
        "--show",
        type=click.Choice(SHOW),
        help="List infos too, and all that was not assessed.  [default: infos are counted]",
    ),
    click.option(
        "--profile",
        type=click.Choice(PROFILES),
        help="What the model is for. Under train, some rules about the mode and the batch size "
        "give infos; auto takes train for what is plainly a training checkpoint.  "
        "[default: auto]",
    ),
    _rule_list(
        "--select",
        "Run these rules only: ids, names, prefixes such as BN2, or ALL.  "
        "[default: all that are on by default]",
    ),
    _rule_list("--ignore", "Leave these rules out, beside those that the configuration ignores."),
    click.option(
        "--level",
        "levels",
        metavar="RULE=LEVEL",
        multiple=True,
        callback=_each(_levels),
        help="Report what a rule finds as error, warning or info.  [default: the rule's own]",
    ),
    click.option(
        "--preview",
        is_flag=True,
        default=None,
        help="Run the rules too that are in preview: new, and not yet trusted as the others.",
    ),
    _rule_list("--require", "Exit 1 where one of these rules cannot be assessed.  [default: none]"),
    click.option(
        "--fail-on",
        type=click.Choice(FAIL_ON),
        help="Exit 1 for findings of this level or above.  [default: error]",
    ),
)


def decisions(command: Command) -> Command:
    """The options that stand in a configuration file too, as fields of Settings."""
    for option in reversed(tuple(DECISIONS)):
        command = option(command)
    return command


TOLERANCE = click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    metavar="ERROR",
    help="Largest absolute error of an output, instead of the measured bound.",
)
INPUTS = click.option(
    "--inputs", type=FILE, metavar="NPZ", help="An array for each input, instead of random ones."
)
