"""The other files of a model that lies in several, opened to be read, a few at a time."""

from __future__ import annotations

from collections import OrderedDict

from bncheck.errors import UnreadableModel
from bncheck.readers.source import Source

MAX_OPEN = 8  # a model may lie in hundreds of files, and a process may open as few as 256


class Siblings:
    """The files in the folder of ``home``."""

    def __init__(self, home: Source) -> None:
        self._home = home
        self._open: OrderedDict[str, Source] = OrderedDict()

    def file(self, name: str) -> Sibling:
        """One of them. Raises UnreadableModel where it is missing, or outside the folder."""
        return Sibling(self, name, self.opened(name).size)

    def opened(self, name: str) -> Source:
        """The file itself, opened again where it was closed meanwhile."""
        source = self._open.pop(name, None) or self._home.sibling(name)
        if source is None:
            raise UnreadableModel(f"lacks its part {name!r}: download it too")
        self._open[name] = source
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return source


class Sibling:
    """A Source; or a range of one: ``size`` bytes from ``begin``."""

    def __init__(self, siblings: Siblings, name: str, size: int, begin: int = 0) -> None:
        self._siblings = siblings
        self._name = name
        self._begin = begin
        self.size = size

    def part(self, begin: int, length: int) -> Sibling:
        """A range of it as a source. Raises UnreadableModel where the file is shorter."""
        if begin < 0 or length < 0 or begin + length > self.size:
            raise UnreadableModel(f"is shorter in {self._name!r} than it says: truncated download?")
        return Sibling(self._siblings, self._name, length, self._begin + begin)

    def read(self, offset: int, length: int) -> bytes:
        """See Source.read."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise UnreadableModel(
                f"ends in {self._name!r} at byte {self.size}, but says that it holds bytes "
                f"{offset} to {offset + length}: truncated download, or damaged"
            )
        return self._siblings.opened(self._name).read(self._begin + offset, length)

    def sibling(self, name: str) -> Source | None:
        """None: a part of a model refers to no further files."""
        return None
