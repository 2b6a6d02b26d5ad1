"""Where a command writes: results to stdout, messages to stderr, a report to a file."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import click

from bncheck.errors import BncheckError
from bncheck.reports.layout import Paint, ansi, plain, printable


def accept_every_character() -> None:
    """A name that the terminal cannot show is written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def wants_colour() -> bool:
    """Colour is for terminals, and not where NO_COLOR or a dumb terminal asks for none."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()  # None: closed before the start


def paint() -> Paint:
    """How to write to stdout."""
    return ansi if wants_colour() else plain


def message(text: str) -> None:
    """One line on stderr."""
    with suppress(OSError):
        click.echo(f"bncheck: {printable(text)}", err=True)


def write(text: str) -> None:
    """Text on stdout; a reader that has left is no error. Raises BncheckError."""
    try:
        click.echo(text, nl=False, color=wants_colour())
    except OSError as error:
        _discard(sys.stdout)
        # Windows says EINVAL of a pipe whose reader has left.
        if error.errno not in (errno.EPIPE, errno.EINVAL):
            reason = str(error.strerror).lower()
            raise BncheckError(f"cannot write to standard output: {reason}") from error


def _discard(stream: TextIO) -> None:
    """What is still buffered would fail again when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write_file(path: Path, text: str) -> None:
    """Write or replace a file, at once or not at all. Raises BncheckError."""
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            path.write_text(text, "utf-8", newline="\n")  # /dev/null, a named pipe
        else:
            _replace(Path(os.path.realpath(path)), text)
    except OSError as error:
        raise BncheckError(f"{path}: cannot be written: {str(error.strerror).lower()}") from error


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
