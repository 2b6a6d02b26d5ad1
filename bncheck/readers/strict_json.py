"""JSON objects from files beside a model, under budgets and with one reading only."""

from __future__ import annotations

import json

from bncheck.errors import UnreadableModel


def parse(data: bytes, what: str, most: int) -> dict[str, object]:
    """The object that a text is; ``what`` it is, with its article; ``most``: how many values.

    Raises UnreadableModel for anything else, and where an object names something twice.
    """
    # A character beyond ASCII makes all of its text take up to four times the room.
    wide = len(data) if data.isascii() and b"\\u" not in data else 4 * len(data)
    if sum(map(data.count, (b",", b"[", b"{"))) > most or wide > 64 * most:
        raise UnreadableModel(f"is {what} of over {most} values, or very long ones")
    try:
        parsed = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(f"is {what} that is no JSON: damaged") from error
    if not isinstance(parsed, dict):
        raise UnreadableModel(f"is {what} that is no JSON object")
    return parsed


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise UnreadableModel("names something twice in a JSON object")
    return unique
