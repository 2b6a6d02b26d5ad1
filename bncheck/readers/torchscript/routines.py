"""Routines that hand each other on: deep nesting of code is no deep recursion here."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias

from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.values import Runtime

DEEPEST = 400  # routines that wait for each other; a call takes about three

# Yields a routine to be run, and is sent its result; what it returns is its own.
Routine: TypeAlias = "Generator[Routine, Runtime, Runtime]"


NOTHING: Runtime = object()  # the result of statements that return nothing


class Raised(Exception):
    """The code raises an error on this path."""


def drive(routine: Routine) -> Runtime:
    """The result of a routine. Raises Unclear, and Raised where nothing in it catches that."""
    waiting = [routine]
    result: Runtime = None
    error: Raised | None = None
    while waiting:
        try:
            step = waiting[-1].send(result) if error is None else waiting[-1].throw(error)
        except StopIteration as stop:
            waiting.pop()
            result, error = stop.value, None
        except Raised as raised:
            waiting.pop()
            error = raised
        else:
            waiting.append(step)
            result, error = None, None
            if len(waiting) > DEEPEST:
                raise Unclear(f"the code nests calls over {DEEPEST} deep")
    if error is not None:
        raise error
    return result
