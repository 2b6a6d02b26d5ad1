"""JSON of an archive, parsed under budgets.

A union, which torch writes as an object of one key, becomes a pair: ``("as_int", 8)``. An object
that holds a key twice is refused: a parser that keeps the first would read another program.
"""

from __future__ import annotations

import json
from typing import Any

from bncheck.errors import UnreadableModel

MOST_BYTES = 64 * 2**20  # of plain ASCII, which is what torch writes; of other text a quarter
MOST_CONTAINERS = 1_000_000  # objects and lists; a node of a program takes about 60
MOST_ITEMS = 4_000_000
READ_OF_NOTES = ("nn_module_stack",)

Json = Any  # None, bool, int, float, str, list, dict, or a pair that was a union


def parse(data: bytes, what: str) -> dict[str, Json]:
    """The object that a document is. Raises UnreadableModel for anything else."""
    _require_bounds(data, what)
    try:
        parsed = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(f"has a {what} that is no JSON: damaged") from error
    if not isinstance(parsed, dict):
        raise UnreadableModel(f"has a {what} that is no JSON object")
    return parsed


def _require_bounds(data: bytes, what: str) -> None:
    # A character beyond ASCII makes all of its text take up to four times the room.
    plain = data.isascii() and b"\\u" not in data
    limit = MOST_BYTES if plain else MOST_BYTES // 4
    containers = data.count(b"{") + data.count(b"[")
    if len(data) > limit or containers > MOST_CONTAINERS or data.count(b",") > MOST_ITEMS:
        raise UnreadableModel(f"has a {what} too large for a model: {len(data):,} bytes")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json] | tuple[str, Json]:
    if len(pairs) == 1 and pairs[0][0].startswith("as_"):
        return pairs[0]
    held = dict(pairs)
    if len(held) != len(pairs):
        raise UnreadableModel("has a JSON object that names something twice")
    if "stack_trace" in held:  # the notes on an operation, most of which are long
        return {name: held[name] for name in READ_OF_NOTES if name in held}
    return held
