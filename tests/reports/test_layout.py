"""Lines of 80 columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bncheck.reports.layout import WIDTH, fill, name, plain, printable, words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("layer1.0.bn2", "layer1.0.bn2"),
        ("größe", "größe"),
        ("a b", "a b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202eevil", "\\u202eevil"),
        ("\udc80", "\\udc80"),
        ("\x9b", "\\x9b"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_words_are_filled_and_never_broken() -> None:
    text = fill(words("word " * 20), "  ", "    ", plain)
    assert text == "  " + "word " * 14 + "word\n" + "    " + "word " * 4 + "word\n"


def test_the_last_column_is_used() -> None:
    assert fill(words("x" * 40 + " " + "y" * 39), "", "", plain).count("\n") == 1
    assert fill(words("x" * 40 + " " + "y" * 40), "", "", plain).count("\n") == 2


def test_what_stands_apart_is_set_off_by_two_spaces_on_its_line_only() -> None:
    assert fill([name("a"), name("b c", apart=True)], "", "  ", plain) == "a  b c\n"
    assert fill([name("a" * 79), name("b", apart=True)], "", "  ", plain).endswith("\n  b\n")


@given(st.text())
def test_any_text_is_filled_without_loss(text: str) -> None:
    filled = fill(words(text), "  ", "    ", plain)
    assert filled.split() == printable(" ".join(text.split())).split()
    assert all(line.isprintable() for line in filled.splitlines())
    long = [line for line in filled.splitlines() if len(line) > WIDTH]
    assert all(len(line.split()) == 1 for line in long)
