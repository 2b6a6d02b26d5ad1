"""What a user is told of a mistake of ours."""

from __future__ import annotations

import os

TRACEBACK = "BNCHECK_TRACEBACK"


def wants_traceback() -> bool:
    """Whether the user asked for the whole story."""
    return os.environ.get(TRACEBACK) == "1"


def one_line(error: Exception) -> str:
    """What happened, and what to do about it."""
    what = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(": ")
    return f"bncheck itself failed ({what}); please report it, with {TRACEBACK}=1"


def show_traceback(error: Exception) -> None:
    """The whole story on stderr, where the user asked for it."""
    if wants_traceback():
        from traceback import print_exception

        print_exception(error)
