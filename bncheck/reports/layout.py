"""Lines for a terminal: 80 columns, whole words, and nothing in them that a terminal obeys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

WIDTH = 80
LONGEST = 200  # characters of a name that a report for machines repeats again and again
GAP = " ... "
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

Paint = Callable[[str, str], str]


def printable(text: str) -> str:
    """Text of a file with its control characters, line ends included, as backslash escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Text of a file in so many printable characters, the middle left out where it is longer."""
    shown = printable(text)
    if len(shown) <= longest:
        return shown
    head = (longest - len(GAP)) // 2
    return shown[:head] + GAP + shown[len(shown) - (longest - len(GAP) - head) :]


def layer_name(layer: str) -> str:
    """A layer as it is called in a report; a model that is one layer has no name inside itself."""
    return layer or "(root)"


def place(layer: str | None, member: str | None) -> str:
    """What stands before a message: ``[ema] layer1.0.bn2: ``; nothing for the only model."""
    names = [f"[{shortened(member)}]"] if member else []
    names += [shortened(layer_name(layer))] if layer is not None else []
    return f"{' '.join(names)}: " if names else ""


def plain(text: str, style: str) -> str:
    """Paint without colour."""
    return text


def ansi(text: str, style: str) -> str:
    """Paint with the terminal's own colours; a style is words of _STYLES."""
    codes = ";".join(_STYLES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m" if codes else text


class Word(NamedTuple):
    """What is never broken over lines; ``apart`` sets it off by two spaces."""

    text: str
    style: str = ""
    apart: bool = False


def words(text: str, style: str = "", apart: bool = False) -> list[Word]:
    """The words of a text; ``apart`` sets off the first."""
    parts = [Word(part, style) for part in printable(" ".join(text.split())).split(" ") if part]
    return [Word(parts[0].text, style, apart), *parts[1:]] if parts else []


def name(text: str, style: str = "", apart: bool = False) -> Word:
    """A path or a name: one word even where it holds spaces."""
    return Word(printable(text), style, apart)


def model_name(path: str, member: str | None) -> list[Word]:
    """Which model of which file."""
    told_apart = [name(f"[{member}]", apart=True)] if member else []
    return [name(path, "bold"), *told_apart]


def listed(items: Sequence[str], apart: bool = False) -> list[Word]:
    """Items with commas between, each kept whole; ``apart`` sets off the first."""
    ended = [*(f"{item}," for item in items[:-1]), *items[-1:]]
    return [name(item, apart=apart and i == 0) for i, item in enumerate(ended)]


def fill(content: Iterable[Word], first: str, rest: str, paint: Paint) -> str:
    """Lines of up to 80 columns, each ended; ``first`` and ``rest`` stand before them."""
    lines, line, length, empty = [], first, len(first), True
    for word in content:
        gap = "" if empty else "  " if word.apart else " "
        if not empty and length + len(gap) + len(word.text) > WIDTH:
            lines.append(line)
            line, length, gap = rest, len(rest), ""
        line += gap + paint(word.text, word.style)
        length += len(gap) + len(word.text)
        empty = False
    return "".join(f"{each}\n" for each in (*lines, line))
