"""What nodes of every format become once shapes are known, and the shapes that follow from them."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.graph import Node, NodeKind
from bncheck.readers.conventions import same_padding, settled
from bncheck.readers.inference import MOST_AXES, note_shapes
from bncheck.tensor import constant

K = NodeKind
IMAGE = (2, 12, 8, 6)
SETTLED: list[tuple[NodeKind, dict[str, Any], tuple[int | None, ...], dict[str, Any]]] = [
    # kind and attributes, shape of the data, attributes as they become
    (K.CONCAT, {"axis": -3}, IMAGE, {"axis": 1}),
    (K.CONCAT, {"axis": -3}, (), {"axis": -3}),
    (K.SPLIT, {"axis": -3, "chunks": 5}, IMAGE, {"axis": 1, "sizes": (3, 3, 3, 3)}),
    (K.SPLIT, {"axis": 1, "split_size": 5}, IMAGE, {"axis": 1, "sizes": (5, 5, 2)}),
    (K.SPLIT, {"axis": 1, "chunks": 2}, (None, None), {"axis": 1, "chunks": 2}),
    (
        K.SPLIT,
        {"axis": 3, "keepdim": False},
        IMAGE,
        {"axis": 3, "keepdim": False, "sizes": (1,) * 6},
    ),
    (K.SPLIT, {"axis": 1, "index": -1}, IMAGE, {"axis": 1, "index": 11}),
    (K.RESHAPE, {"dim0": 1, "dim1": -1}, IMAGE, {"perm": (0, 3, 2, 1)}),
    (K.RESHAPE, {"dim0": 1, "dim1": -1}, (), {"dim0": 1, "dim1": -1}),
    (K.RESHAPE, {"perm": (0, -1, 1, 2)}, IMAGE, {"perm": (0, 3, 1, 2)}),
    (K.RESHAPE, {"squeeze": None}, (2, 5, 1, 1), {"squeeze": (2, 3)}),
    (K.RESHAPE, {"squeeze": None}, (2, None, 1, 1), {"squeeze": None}),
    (K.RESHAPE, {"unsqueeze": (-1,)}, IMAGE, {"unsqueeze": (4,)}),
    (K.RESHAPE, {"start_dim": 1, "end_dim": -1}, IMAGE, {"start_dim": 1, "end_dim": 3}),
    (K.AVERAGE_POOL, {"axes": (-1, -2), "keepdim": True}, IMAGE, {"output_size": 1}),
    (K.AVERAGE_POOL, {"axes": (3,), "keepdim": True}, IMAGE, {"axes": (3,), "keepdim": True}),
    (K.PAD, {"padding": (0, 0, 1, 0, 0, 2)}, (), {"axes": (-1,), "padding": (1, 2)}),
    (K.PAD, {"padding": (1, 2), "axes": (1,)}, IMAGE, {"axes": (-3,), "padding": (1, 2)}),
    (K.LAYER_NORM, {"axis": 2}, IMAGE, {"axis": -2}),
]


def node(kind: NodeKind, **attributes: Any) -> Node:
    return Node(kind, "op", "", ("x",), ("y", "y2"), attributes=attributes)


@pytest.mark.parametrize(("kind", "given", "shape", "expected"), SETTLED)
def test_attributes_are_those_that_shapes_allow(
    kind: NodeKind, given: Any, shape: Any, expected: Any
) -> None:
    assert settled(node(kind, **given), {"x": shape}).attributes == expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"starts": (2,), "ends": (99,)}, ((2,), (12,))),
        ({"starts": (-3,), "ends": (-1,)}, ((9,), (11,))),
        ({"starts": (2**63 - 1,), "ends": (4,)}, ((12,), (4,))),
    ],
)
def test_sections_lie_within_the_data(bounds: Any, expected: Any) -> None:
    made = settled(node(K.SPLIT, axes=(-3,), steps=(1,), **bounds), {"x": IMAGE}).attributes
    assert made["axes"] == (1,)
    assert (made["starts"], made["ends"]) == expected


def test_a_section_that_is_read_backwards_stays_as_it_is() -> None:
    given = {"axes": (1,), "starts": (-1,), "ends": (-99,), "steps": (-1,)}
    assert settled(node(K.SPLIT, **given), {"x": IMAGE}).attributes == given


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        (K.PAD, {"padding": (0, 0, 0, 0)}),
        (K.RESHAPE, {"perm": (0, 1, 2, 3)}),
        (K.RESHAPE, {"dim0": 2, "dim1": -2}),
        (K.RESHAPE, {"squeeze": None}),
        (K.SPLIT, {"axes": (1,), "starts": (0,), "ends": (2**63 - 1,), "steps": (1,)}),
    ],
)
def test_what_changes_nothing_is_the_identity(kind: NodeKind, attributes: Any) -> None:
    found = settled(node(kind, **attributes), {"x": IMAGE})
    assert (found.kind, found.attributes) == (K.IDENTITY, {})


def test_sizes_that_are_computed_are_those_that_come_out() -> None:
    given = node(K.RESHAPE, shape=(None, 3, None, -1))
    assert settled(given, {"y": (2, 3, 4, 48)}).attributes == {"shape": (2, 3, 4, -1)}


@pytest.mark.parametrize(
    ("size", "dilation", "expected"),
    [((3, 3), (1, 1), (1, 1)), ((4,), (1,), (1, 2)), ((3, 2), (2, 1), (2, 0, 2, 1))],
)
def test_same_padding(size: Any, dilation: Any, expected: Any) -> None:
    assert same_padding(size, dilation) == expected


WINDOW = {"stride": (2, 2), "dilation": (1, 1), "padding": (1, 1), "kernel_size": (3, 3)}
MADE: list[tuple[NodeKind, dict[str, Any], tuple[int, ...], Any]] = [
    # kind and attributes, shape of a weight, shape of what is made of (2, 12, 8, 6)
    (K.CONV, {**WINDOW, "groups": 1}, (5, 12, 3, 3), (2, 5, 4, 3)),
    (K.CONV, {**WINDOW, "padding": (0, 1, 1, 2)}, (5, 12, 3, 3), (2, 5, 4, 4)),
    (K.CONV, {**WINDOW, "padding": "same"}, (5, 12, 3, 3), (2, 5, None, None)),
    (K.CONV, WINDOW, (5, 12, 3), None),
    (
        K.CONV_TRANSPOSE,
        {**WINDOW, "groups": 2, "output_padding": (1, 1)},
        (12, 4, 3, 3),
        (2, 8, 16, 12),
    ),
    (K.LINEAR, {"transB": True}, (9, 6), (2, 12, 8, 9)),
    (K.LINEAR, {"transB": False}, (6, 9), (2, 12, 8, 9)),
    (K.RELU, {}, (), IMAGE),
    (K.ADD, {}, (3, 1, 1, 1, 6), (3, 2, 12, 8, 6)),
    (K.MAX_POOL, {**WINDOW, "ceil_mode": False}, (), (2, 12, 4, 3)),
    (K.MAX_POOL, {**WINDOW, "ceil_mode": True}, (), (2, 12, None, None)),
    (K.AVERAGE_POOL, {"output_size": 1}, (), (2, 12, 1, 1)),
    (K.AVERAGE_POOL, {"output_size": (3, 2)}, (), (2, 12, 3, 2)),
    (K.AVERAGE_POOL, {"output_size": 1, "keepdim": False}, (), (2, 12)),
    (K.AVERAGE_POOL, {"axes": (3,), "keepdim": True}, (), (2, 12, 8, 1)),
    (K.RESIZE, {"mode": "nearest"}, (), (2, 12, None, None)),
    (K.PAD, {"axes": (-1,), "padding": (1, 2)}, (), (2, 12, 8, 9)),
    (K.PAD, {}, (), (None, None, None, None)),
    (K.CONCAT, {"axis": 1}, (), IMAGE),
    (K.SPLIT, {"axis": 1, "sizes": (5, 7)}, (), (2, 5, 8, 6)),
    (K.SPLIT, {"axis": 1, "index": 3}, (), (2, 8, 6)),
    (K.SPLIT, {"axis": 1, "indices": (3, 1)}, (), (2, 2, 8, 6)),
    (
        K.SPLIT,
        {"axes": (1,), "starts": (2,), "ends": (9,), "steps": (3,)},
        (),
        (2, 3, 8, 6),
    ),
    (K.RESHAPE, {"shape": (0, 3, -1, 8)}, (), (2, 3, 24, 8)),
    (K.RESHAPE, {"shape": (None, -1)}, (), (None, None)),
    (K.RESHAPE, {"perm": (0, 2, 3, 1)}, (), (2, 8, 6, 12)),
    (K.RESHAPE, {"perm": (9, 9)}, (), (None, None)),
    (K.RESHAPE, {"start_dim": 1, "end_dim": 2}, (), (2, 96, 6)),
    (K.RESHAPE, {"unsqueeze": (0, 5)}, (), (1, 2, 12, 8, 6, 1)),
    (K.RESHAPE, {"unsqueeze": (1, 1)}, (), (2, 1, 12, 8, 6, 1)),
    (K.RESHAPE, {"squeeze": (2,)}, (), (2, 12, 6)),
    (K.RESHAPE, {"groups": 3}, (), IMAGE),
    (K.RESHAPE, {"upscale_factor": 2}, (), (2, None, None, None)),
    (K.RESHAPE, {}, (), None),
    (K.OPAQUE, {}, (), None),
]


@pytest.mark.parametrize(("kind", "attributes", "weight", "expected"), MADE)
def test_shapes_follow_from_the_operation(
    kind: NodeKind, attributes: Any, weight: Any, expected: Any
) -> None:
    parameters = {"weight": constant(1.0, weight)} if weight else {}
    shapes: dict[str, Any] = {"x": IMAGE}
    note_shapes(Node(kind, "op", "", ("x",), ("y",), parameters, attributes), shapes)
    assert shapes.get("y") == expected


def test_what_the_format_states_stays() -> None:
    shapes: dict[str, Any] = {"x": IMAGE, "y": (None, 12)}
    note_shapes(Node(K.RELU, "op", "", ("x",), ("y",)), shapes)
    assert shapes["y"] == (None, 12)


def test_shapes_without_end_are_not_followed() -> None:
    shapes: dict[str, Any] = {"x": (1,) * (MOST_AXES + 1)}
    note_shapes(Node(K.RELU, "op", "", ("x",), ("y",)), shapes)
    assert "y" not in shapes
