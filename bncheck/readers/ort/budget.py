"""What reading one file may cost, and how a file that costs more, or is unsound, is refused."""

from __future__ import annotations

from typing import NoReturn

from bncheck.errors import UnreadableModel

TABLES = 1_000_000  # as many as FlatBuffers' own verifier lets pass
ELEMENTS = 2_000_000  # numbers and references in vectors
RECORDS = 600_000  # what is kept of them: attributes and names
RECORD = 5  # what a node or tensor costs of these
ADVICE = "download it again, or convert it again"


class Budget:
    """Counts what is read out of a file of so many bytes."""

    def __init__(self, size: int) -> None:
        self._bytes_left = size
        self._tables_left = TABLES
        self._elements_left = ELEMENTS
        self._records_left = RECORDS
        self._claimed: set[int] = set()

    def read_table(self, size: int) -> None:
        """Count a table of so many bytes."""
        self._tables_left -= 1
        self._require(self._tables_left)
        self.spend(size)

    def read_elements(self, count: int) -> None:
        """Count elements of a vector."""
        self._elements_left -= count
        self._require(self._elements_left)

    def keep(self, records: int) -> None:
        """Count what stays in memory."""
        self._records_left -= records
        self._require(self._records_left)

    def spend(self, length: int) -> None:
        """Count bytes as read out: together they are no more than the file has."""
        self._bytes_left -= length
        if self._bytes_left < 0:
            _not_once()

    def claim(self, at: int) -> None:
        """Refuse what was claimed before: a thing that is read later, each time it is met."""
        if at in self._claimed:
            _not_once()
        self._claimed.add(at)

    def _require(self, left: int) -> None:
        if left < 0:
            raise UnreadableModel("holds more nodes, tensors and names than any model does")


def damaged(at: int, what: str) -> NoReturn:
    """Refuse what is no sound FlatBuffer; ``at`` is a byte of the source."""
    raise UnreadableModel(f"is damaged: {what}, at byte {at}; {ADVICE}")


def _not_once() -> NoReturn:
    raise UnreadableModel(f"is damaged: it refers to one place from several; {ADVICE}")
