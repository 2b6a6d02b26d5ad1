"""The options of bncheck check, and how what is typed becomes settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bncheck.configuration.settings import FAIL_ON, PROFILES, SHOW, expand, rule_named
from bncheck.errors import ConfigurationError
from bncheck.finding import Level

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


def complete_rules(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[str]:
    """The ids and names of rules that go on so, after the last comma."""
    from bncheck import catalogue

    before, comma, last = incomplete.rpartition(",")
    words = (word for rule in catalogue.load().values() for word in (rule.id, rule.name))
    return [before + comma + word for word in words if word.lower().startswith(last.lower())]


def _rule_list(name: str, text: str) -> Callable[[Command], Command]:
    return click.option(
        name,
        metavar="RULE,...",
        multiple=True,
        callback=_each(_rules),
        shell_complete=complete_rules,
        help=text,
    )


OUTPUT = click.option(
    "--output",
    type=FILE,
    metavar="FILE",
    help="Write the report to FILE, which is replaced only by a whole report.  [default: stdout]",
)
GITHUB_SUMMARY = click.option(
    "--github-summary",
    is_flag=True,
    help="Add a summary in Markdown to the job's page: to the file $GITHUB_STEP_SUMMARY.",
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


def _show_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from bncheck.commands.version import version

        ctx.exit(version())


VERSION = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and which optional parts are installed.",
)


def _use_rules(ctx: click.Context, option: click.Parameter, folders: Sequence[Path]) -> None:
    from bncheck import packs

    ctx.call_on_close(packs.forget)
    for folder in folders:
        packs.use(folder)


RULES = click.option(
    "--rules",
    type=FILE,
    metavar="DIR",
    multiple=True,
    is_eager=True,  # the rules must be known where other options name them
    expose_value=False,
    callback=_use_rules,
    help="Add the rules of a folder: pages, and modules with their checks. This runs that code.",
)
BASELINE = click.option(
    "--baseline",
    type=FILE,
    metavar="FILE",
    help="Suppress the findings that FILE lists, and say which of them are gone.",
)
WRITE_BASELINE = click.option(
    "--write-baseline",
    type=FILE,
    metavar="FILE",
    help="Write what speaks against the models to FILE: from now on only new findings count.",
)
JOBS = click.option(
    "--jobs",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    show_default=True,
    help="Check N files at once, each in a process; 0: as many as there are cores.",
)
TOLERANCE = click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    metavar="ERROR",
    help="Largest absolute error of an output, instead of the measured bound.",
)
INPUTS = click.option(
    "--inputs", type=FILE, metavar="NPZ", help="An array for each input, instead of random ones."
)
TRUST = click.option(
    "--trust",
    is_flag=True,
    help="Let torch load .pt2, TorchScript and pickled modules, which may run code from them.",
)
