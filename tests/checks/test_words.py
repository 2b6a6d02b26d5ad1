"""How many, which and where, in words."""

from __future__ import annotations

import pytest

from bncheck.checks.words import channels, label, some, where
from bncheck.graph import Node, NodeKind


@pytest.mark.parametrize(
    ("items", "text"),
    [
        (["a"], "a"),
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d"], "a, b, c, ... +1"),
        ([3, 17], "3, 17"),
    ],
)
def test_some(items: list[object], text: str) -> None:
    assert some(items) == text


@pytest.mark.parametrize(
    ("indices", "total", "text"),
    [
        ([17], 256, "channel 17 of 256"),
        ([0], 1, "channel 0 of 1"),
        ([3, 17], 256, "2 of 256 channels (3, 17)"),
        ([0, 1, 2, 3], 5, "4 of 5 channels (0, 1, 2, ... +1)"),
        ([0, 1, 2, 3], 4, "every channel"),
    ],
)
def test_where(indices: list[int], total: int, text: str) -> None:
    assert where(indices, total) == text


def test_evidence_lists_the_first_channels_and_counts_all() -> None:
    assert channels([3], 8) == {"channels": [3], "count": 1, "of": 8}
    many = channels(range(20), 20)
    assert (many["channels"], many["count"]) == (list(range(16)), 20)


@pytest.mark.parametrize(
    ("name", "outputs", "expected"),
    [("conv1", ("c",), "conv1"), ("", ("", "c"), "c"), ("", (), "Conv")],
)
def test_a_node_has_some_name(name: str, outputs: tuple[str, ...], expected: str) -> None:
    assert label(Node(NodeKind.CONV, "Conv", name, (), outputs)) == expected
