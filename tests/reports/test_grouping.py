"""What is said once."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.reports.grouping import gaps, grouped, ranges


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([], []),
        (["BN101"], ["BN101"]),
        (["BN101", "BN102"], ["BN101-102"]),
        (["BN101", "BN102", "BN103", "BN105"], ["BN101-103", "BN105"]),
        (["BN199", "BN200"], ["BN199-200"]),
        (["AB1", "BN2"], ["AB1", "BN2"]),
    ],
)
def test_ranges(rules: list[str], said: list[str]) -> None:
    assert ranges(rules) == said


@pytest.mark.parametrize(
    ("message", "layers", "groups"),
    [
        ("the same", 1, [1]),
        ("the same", 53, [53]),
        ("number {}", 3, [1, 1, 1]),
        ("number {}", 4, [4]),
    ],
)
def test_one_message_stands_for_many(
    make: Any, message: str, layers: int, groups: list[int]
) -> None:
    found = grouped(make.findings("BN202", [f"bn{i}" for i in range(layers)], message))
    assert [len(group.layers) for group in found] == groups
    assert [group.is_example for group in found] == [groups == [4]] * len(groups)


def test_errors_first_and_few_layers_before_many(make: Any) -> None:
    found = grouped(
        [
            *make.findings("BN207", ["a"], "dead"),
            *make.findings("BN301", [None], "tiny"),
            *make.findings("BN101", ["a", "b"], "training"),
            *make.findings("BN202", ["b"], "negative"),
        ]
    )
    assert [group.first.rule for group in found] == ["BN202", "BN101", "BN301", "BN207"]


def test_levels_are_kept_apart(make: Any) -> None:
    found = grouped(
        [
            *make.findings("BN301", ["a"], "tiny", level="info"),
            *make.findings("BN301", ["b"], "tiny", level="warning"),
        ]
    )
    assert [(group.first.level, group.layers) for group in found] == [
        ("warning", ("b",)),
        ("info", ("a",)),
    ]


def test_gaps_are_joined_by_reason(make: Any) -> None:
    found = gaps(
        [
            *make.missing(["BN102"], "order", "none here", "look there"),
            *make.missing(["BN101"], "mode", "none here", "look there"),
            *make.missing(["BN301"], "batch size", "none here"),
            *make.missing(["BN201"], "values", "too large", layers=["a", "b"]),
        ]
    )
    assert [(gap.facts, gap.rules, gap.layers) for gap in found] == [
        (("order", "mode"), ("BN101", "BN102"), 0),
        (("batch size",), ("BN301",), 0),
        (("values",), ("BN201",), 2),
    ]
