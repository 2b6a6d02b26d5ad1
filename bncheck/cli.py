"""The command line: options, help, and what becomes of an exception. The work is in commands/."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bncheck import console, crash
from bncheck.commands import options
from bncheck.configuration.settings import Settings, suggestion
from bncheck.errors import BncheckError
from bncheck.reports.formats import FORMATS
from bncheck.running.outcome import FAILED, OK

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

GARBAGE_THRESHOLD = 50_000  # new objects between collections; a run makes few cycles
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 80}
EXIT_CODES = """\b
Exit codes:
  0  nothing at or above --fail-on
  1  findings, or a rule under --require that could not be assessed
  2  could not do the job: a file that is missing, unreadable or no model, no
     model found, bad usage or configuration, a crash
"""
FOLD_EXIT_CODES = """\b
Exit codes:
  0  written, also when there was nothing to fold
  1  written, but a BatchNorm stayed under --require-all
  2  not possible, or not the same: nothing was written
"""
VERIFY_EXIT_CODES = """\b
Exit codes:
  0  the same within the bound
  2  not the same, or one of the two does not run
"""
ENVIRONMENT = """\b
Environment:
  NO_COLOR=1           no colour, also on a terminal
  BNCHECK_TRACEBACK=1  the traceback of a crash
"""
COMPLETION = """\b
Shell completion, for ~/.bashrc (or zsh_source, fish_source):
  eval "$(_BNCHECK_COMPLETE=bash_source bncheck)"
"""


class Commands(click.Group):
    """A group whose command may be left out: a first word that is none is a path to check."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click.Group.parse_args."""
        if ctx.resilient_parsing:  # a shell asks what could follow
            command = [] if self._begins_well(args, ctx) else ["check"]
            return super().parse_args(ctx, [*command, *args])
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(FAILED)
        if not self._begins_well(args, ctx):
            self._refuse_misspelt(args[0], ctx)
            args = ["check", *args]
        return super().parse_args(ctx, args)

    def _begins_well(self, args: list[str], ctx: click.Context) -> bool:
        own = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        return not args or args[0] in self.commands or args[0] in own

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Files beside commands: the first word may be a path to check."""
        from click.shell_completion import CompletionItem

        files = [] if incomplete.startswith("-") else [CompletionItem(incomplete, type="file")]
        return [*files, *super().shell_complete(ctx, incomplete)]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their definition."""
        return list(self.commands)

    def _refuse_misspelt(self, word: str, ctx: click.Context) -> None:
        hint = suggestion(word, self.commands) if word.isalpha() else ""
        if hint and not os.path.lexists(word):
            raise click.UsageError(f"there is no file and no command {word!r}{hint}", ctx)


@click.group(
    cls=Commands,
    context_settings=CONTEXT,
    options_metavar="",
    subcommand_metavar="[OPTIONS] PATH... | COMMAND ...",
    epilog=f"{EXIT_CODES}\n{ENVIRONMENT}\n{COMPLETION}",
)
@options.VERSION
def cli() -> None:
    """Check the normalization layers of PyTorch and ONNX model files.

    bncheck reads model files without running anything in them, and says which
    layers are quietly wrong, why it matters and what to do.

    \b
    Examples:
      bncheck model.pt                    the same as: bncheck check model.pt
      bncheck models/ other.onnx          folders are searched
      bncheck --format json model.pt      options may come first
      bncheck fold model.onnx -o out.onnx BatchNorm gone, outputs compared
      bncheck inspect model.pt            every normalization layer, as a table
      bncheck explain BN101               one rule, and how to fix what it finds
      bncheck init                        a commented configuration to start from

    The options of a check are under: bncheck check --help
    """


@cli.command(epilog=EXIT_CODES)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@options.form(*FORMATS)
@options.OUTPUT
@options.GITHUB_SUMMARY
@options.decisions
@options.key("check")
@options.CONFIG
@options.BASELINE
@options.WRITE_BASELINE
@options.RULES
@options.JOBS
def check(
    paths: tuple[str, ...],
    form: str,
    output: Path | None,
    key: str | None,
    config: Path | None,
    github_summary: bool,
    baseline: Path | None,
    write_baseline: Path | None,
    jobs: int,
    select: tuple[str, ...],
    **decisions: Any,
) -> int:
    """Check model files, and the models in folders.

    PATH is a file, a folder, which is searched with all its subfolders, or a
    glob such as "runs/**/*.pt". In a folder, what is no model is skipped. The
    command line wins over the configuration, which bncheck init begins and
    which may also suppress findings, file by file, for a reason.

    \b
    Examples:
      bncheck check model.pt --fail-on warning
      bncheck check weights.pth --require BN101
      bncheck check models/ --format json --output report.json
      bncheck check model.pt --ignore BN7,dead-channels --level BN301=error
      bncheck check models/ --jobs 2 --write-baseline known.json
      bncheck check models/ --jobs 2 --baseline known.json
    """
    from bncheck.commands.check import Request
    from bncheck.commands.check import check as run

    if baseline and write_baseline:
        raise click.UsageError("--write-baseline lists all there is: leave --baseline out")
    settings = Settings(select=select or None, **decisions)
    known = (baseline, write_baseline)
    return run(Request(paths, settings, form, output, key, config, *known, jobs, github_summary))


@cli.command()
@click.argument("model", metavar="MODEL", type=options.FILE)
@options.form("table", "json")
@options.key("show")
def inspect(model: Path, form: str, key: str | None) -> int:
    """Show every normalization layer of a model file.

    A column that the file says nothing about is left out; "?" stands for what
    is not known of one layer, "-" for what a layer does not have.
    """
    from bncheck.commands.inspect import inspect as run

    return run(model, form, key)


@cli.command(epilog=FOLD_EXIT_CODES)
@click.argument("model", metavar="MODEL", type=options.FILE)
@click.option("-o", "--output", type=options.FILE, metavar="OUT", help="The folded model.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@click.option("--no-verify", is_flag=True, help="Do not compare the two models.")
@options.TOLERANCE
@options.INPUTS
@options.TRUST
@click.option(
    "--arch",
    metavar="MODULE:FACTORY",
    help="For a file of weights: import MODULE and call FACTORY, which gives the nn.Module that "
    "they are for. This runs that code.",
)
@options.key("fold")
@click.option("--scale-only", is_flag=True, help="Fold scales alone too; each leaves an Add.")
@click.option("--require-all", is_flag=True, help="Exit 1 when a BatchNorm stays.")
@click.option("--report", type=options.FILE, metavar="FILE", help="All that was done, as JSON.")
def fold(
    model: Path,
    output: Path | None,
    dry_run: bool,
    no_verify: bool,
    tolerance: float | None,
    inputs: Path | None,
    trust: bool,
    arch: str | None,
    key: str | None,
    scale_only: bool,
    require_all: bool,
    report: Path | None,
) -> int:
    """Fold the BatchNorms of a model file into the layers around them.

    MODEL is an .onnx, .pt2 or TorchScript file, a file of weights (with
    --arch), or a pickled module (with --trust); OUT is of the same format. The
    folded model is written beside OUT, compared with the original on random
    inputs, and takes its name only when no output and no folded place has
    moved by more than rounding does. What stays is listed with the reason.

    \b
    Examples:
      bncheck fold resnet.onnx -o folded.onnx
      bncheck fold resnet.onnx --dry-run
      bncheck fold bert.onnx -o out.onnx --inputs batch.npz
      bncheck fold program.pt2 -o folded.pt2 --trust
      bncheck fold weights.pth -o folded.pth --arch mypackage.nets:resnet18
    """
    from bncheck.commands.fold import fold as run
    from bncheck.commands.fold import unwritten
    from bncheck.folding.options import Options

    if output is None and not dry_run:
        raise click.UsageError("give the name of the folded model: -o OUT, or --dry-run")
    target = unwritten(model) if output is None or dry_run else output
    wanted = not no_verify and not dry_run
    decided = Options(wanted, tolerance, inputs, scale_only, dry_run, trust, arch, key)
    return run(model, target, decided, report, require_all)


@cli.command(epilog=VERIFY_EXIT_CODES)
@click.argument("original", metavar="ORIGINAL", type=options.FILE)
@click.argument("folded", metavar="FOLDED", type=options.FILE)
@options.TOLERANCE
@options.INPUTS
@options.TRUST
@options.form("text", "json")
def verify(
    original: Path,
    folded: Path,
    tolerance: float | None,
    inputs: Path | None,
    trust: bool,
    form: str,
) -> int:
    """Judge a fold made by any tool: do two model files compute the same?

    Both run on the same random inputs, and every output is compared; of two
    ONNX files also every BatchNorm inside whose value the folded one still
    makes under its name. The two may be of different formats, where they take
    their inputs and give their outputs in the same order.

    \b
    Examples:
      bncheck verify resnet.onnx slim.onnx
      bncheck verify resnet.pt2 resnet.onnx --trust
    """
    from bncheck.commands.fold import verify as run
    from bncheck.folding.options import Options

    return run(original, folded, Options(True, tolerance, inputs, trust=trust), form)


@cli.command()
@click.argument(
    "words", metavar="RULE...", nargs=-1, required=True, shell_complete=options.complete_rules
)
@options.RULES
def explain(words: tuple[str, ...]) -> int:
    """Explain rules, given by id or by name.

    \b
    Example:
      bncheck explain BN101 dead-channels
    """
    from bncheck.commands.rules import explain as run

    return run(words)


@cli.command()
@options.form("table", "json")
@options.RULES
def rules(form: str) -> int:
    """List all rules."""
    from bncheck.commands.rules import rules as run

    return run(form)


@cli.command()
@click.argument("folder", default=".", type=options.FILE)
def init(folder: Path) -> int:
    """Write a commented configuration to start from.

    It is bncheck.toml in FOLDER, the root of a project, by default the current
    folder. A configuration that is there already is left alone.
    """
    from bncheck.commands.init import init as run

    return run(folder)


def process() -> int:
    """The command line of this process, which ends with it: see main."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    code = main()
    gc.freeze()  # the collection at exit would walk through all that is left, for nothing
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own; the exit code is one of EXIT_CODES."""
    console.accept_every_character()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(cli.main(given, "bncheck", standalone_mode=False) or OK)
    except click.Abort:
        console.message("interrupted")
    except click.ClickException as error:
        error.show()
    except BncheckError as error:
        console.message(str(error))
    except SystemExit as stop:  # click's own: a closed pipe, shell completion
        return FAILED if stop.code else OK
    except Exception as error:
        crash.show_traceback(error)
        console.message(crash.one_line(error))
    return FAILED
