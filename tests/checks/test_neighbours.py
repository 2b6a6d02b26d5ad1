"""BN601-603 on graphs made by hand: what comes before a BatchNorm."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from bncheck.checks.neighbours import (
    bias_before_batch_norm,
    consecutive_batch_norm,
    dropout_before_batch_norm,
)
from bncheck.facts import UnknownFact

IMAGE = (2, 3, 1, 1)  # of a convolution's weight: 3 channels to 2


def conv(make: Any, bias: Any = (0.5, -2.0), inputs: str = "x", output: str = "c") -> Any:
    held = {"weight": make.tensor([1.0] * 6, IMAGE)}
    return make.node("conv", inputs, output, held | ({"bias": list(bias)} if bias else {}))


def linear(make: Any, output: str = "c", op: str = "") -> Any:
    held = {"weight": make.tensor([1.0] * 6, (3, 2)), "bias": [0.5, -2.0]}
    return make.node("linear", "x", output, held, op=op)


def norm(make: Any, inputs: str = "c", output: str = "y", **attributes: object) -> Any:
    return make.node("batch-norm", inputs, output, **attributes)


def judge(make: Any, check: Any, *nodes: Any, calls: Any = None, **fields: Any) -> list[Any]:
    """What a check says of the last node, or of some calls, in the graph of all nodes."""
    content = fields.pop("content", "module")
    facts = {"training": fields.pop("training", False)}
    layer = make.layer(calls=calls or nodes[-1:], **facts)
    options = fields.pop("options", {})
    model = make.model(layer, content=content, graph=make.graph(*nodes, **fields))
    return list(check(layer, model, **options))


def test_a_bias_is_named_with_what_it_costs(make: Any) -> None:
    (seen,) = judge(make, bias_before_batch_norm, conv(make), norm(make))
    assert seen.message.startswith("c (conv) directly before it adds a bias")
    assert seen.evidence == {"linear": ["c"], "parameters": 2, "largest": 2.0}


@pytest.mark.parametrize(
    ("bias", "found"),
    [
        pytest.param((0.5, -2.0), 1, id="a bias"),
        pytest.param((0.0, 1e-9), 1, id="all but zero"),
        pytest.param((0.0, 0.0), 0, id="zeros of an exporter"),
        pytest.param((), 0, id="none"),
        pytest.param((nan, 0.0), 0, id="NaN, which BN709 is about"),
        pytest.param((inf, 0.0), 0, id="infinite"),
    ],
)
def test_which_biases_count(make: Any, bias: tuple[float, ...], found: int) -> None:
    assert len(judge(make, bias_before_batch_norm, conv(make, bias), norm(make))) == found


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("identity", 1),
        ("dropout", 0),
        ("relu", 0),
        ("max-pool", 0),
        ("reshape", 0),
        ("quantize", 0),
    ],
)
def test_only_identity_may_lie_between(make: Any, kind: str, found: int) -> None:
    nodes = conv(make), make.node(kind, "c", "i", p=0.5), norm(make, "i")
    assert len(judge(make, bias_before_batch_norm, *nodes)) == found


def test_a_bias_that_something_else_reads_is_needed(make: Any) -> None:
    other = make.node("relu", "c", "z")
    assert not judge(make, bias_before_batch_norm, conv(make), other, norm(make))
    assert not judge(make, bias_before_batch_norm, conv(make), norm(make), outputs="c y")
    shape = make.node("shape", "c", "s")
    assert judge(make, bias_before_batch_norm, conv(make), shape, norm(make))


def test_two_batch_norms_both_subtract_it(make: Any) -> None:
    one, other = norm(make), norm(make, output="z")
    assert judge(make, bias_before_batch_norm, conv(make), other, one, outputs="y z")


def test_a_shared_layer_has_a_bias_before_each_of_its_calls(make: Any) -> None:
    first, second = norm(make, output="n"), norm(make, "d")
    with_bias = conv(make, inputs="n", output="d")
    calls = (first, second)
    nodes = conv(make), first, with_bias, second
    (seen,) = judge(make, bias_before_batch_norm, *nodes, calls=calls)
    assert seen.evidence["linear"] == ["c", "d"]
    without = conv(make, (), "n", "d")
    assert not judge(make, bias_before_batch_norm, conv(make), first, without, second, calls=calls)


@pytest.mark.parametrize(
    ("shape", "found"), [((2, 1, 1), 1), ((1, 2, 1, 1), 1), ((2,), 0), ((1, 1, 2), 0), ((), 0)]
)
def test_a_constant_for_each_channel_is_a_bias(make: Any, shape: Any, found: int) -> None:
    constant = make.tensor([0.5, 1.0][: 2 if shape else 1], shape)
    added = make.node("add", "c", "b", {"bias": constant})
    nodes = conv(make, ()), added, norm(make, "b")
    assert len(judge(make, bias_before_batch_norm, *nodes)) == found


@pytest.mark.parametrize(
    ("shapes", "op", "found"),
    [({"c": (None, 2)}, "", 1), ({"c": (None, 7, 2)}, "", 0), ({}, "Gemm", 1)],
)
def test_a_linear_layer_must_make_a_matrix(make: Any, shapes: Any, op: str, found: int) -> None:
    nodes = linear(make, op=op), norm(make)
    assert len(judge(make, bias_before_batch_norm, *nodes, shapes=shapes)) == found


def test_sizes_that_differ_show_that_another_axis_is_normalized(make: Any) -> None:
    """No value of the bias is read: it may be large."""
    call = norm(make)
    layer = make.layer(calls=(call,), num_features=7)
    model = make.model(layer, graph=make.graph(linear(make), call))
    assert not make.seen(bias_before_batch_norm(layer, model))


def test_a_linear_layer_of_unknown_rank_is_left_open(make: Any) -> None:
    with pytest.raises(UnknownFact, match=r"makes a matrix .*; check the exported \.onnx"):
        judge(make, bias_before_batch_norm, linear(make), norm(make))


@pytest.mark.parametrize("check", [bias_before_batch_norm, consecutive_batch_norm])
def test_what_is_not_known_in_front_leaves_it_open(make: Any, check: Any) -> None:
    hidden = make.node("opaque", "x", "c", op="MyBlock"), norm(make)
    with pytest.raises(UnknownFact, match=r"look through MyBlock$"):
        judge(make, check, *hidden)
    with pytest.raises(UnknownFact, match=r"MyBlock; check the exported \.onnx"):
        judge(make, check, *hidden, complete=False)
    with pytest.raises(UnknownFact, match="what comes before is not in this file"):
        judge(make, check, norm(make), complete=False)
    assert not judge(make, check, norm(make, "x"))


@pytest.mark.parametrize("check", [bias_before_batch_norm, consecutive_batch_norm])
def test_a_way_has_an_end(make: Any, check: Any) -> None:
    many = [make.node("identity", f"i{n}", f"i{n + 1}") for n in range(3000)]
    with pytest.raises(UnknownFact, match="more than 2000 operations"):
        judge(make, check, *many, norm(make, "i3000"), inputs="i0")


def dropout(make: Any, inputs: str = "x", output: str = "d", **attributes: object) -> Any:
    return make.node("dropout", inputs, output, **{"p": 0.5, "training": False} | attributes)


@pytest.mark.parametrize(
    ("p", "options", "found"),
    [(0.5, {}, 1), (0.1, {}, 1), (0.05, {}, 0), (0.05, {"p": 0.01}, 1), (0.5, {"p": 0.6}, 0)],
)
def test_which_dropout_counts(make: Any, p: float, options: Any, found: int) -> None:
    nodes = dropout(make, p=p), norm(make, "d")
    assert len(judge(make, dropout_before_batch_norm, *nodes, options=options)) == found


def test_dropout_is_named(make: Any) -> None:
    (seen,) = judge(make, dropout_before_batch_norm, dropout(make), norm(make, "d"))
    assert seen.message.startswith("Dropout comes before it (d, p = 0.5), and nothing normalizes")
    assert seen.evidence == {"dropout": "d", "p": 0.5}


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("conv", 1),
        ("relu", 1),
        ("average-pool", 1),
        ("reshape", 1),
        ("matmul", 1),
        ("batch-norm", 0),
        ("layer-norm", 0),
        ("rms-norm", 0),
        ("group-norm", 0),
        ("instance-norm", 0),
    ],
)
def test_normalization_ends_the_reach_of_dropout(make: Any, kind: str, found: int) -> None:
    nodes = dropout(make), make.node(kind, "d", "k"), norm(make, "k")
    assert len(judge(make, dropout_before_batch_norm, *nodes)) == found


def test_dropout_reaches_through_either_side_of_an_addition(make: Any) -> None:
    nodes = dropout(make), make.node("add", "x d", "s"), norm(make, "s")
    assert judge(make, dropout_before_batch_norm, *nodes)


def test_alpha_dropout_keeps_the_variance(make: Any) -> None:
    alpha = make.node("dropout", "x", "d", op="aten.alpha_dropout", p=0.5, training=False)
    assert not judge(make, dropout_before_batch_norm, alpha, norm(make, "d"))


def test_a_dropout_of_unknown_probability_is_none_that_is_known(make: Any) -> None:
    unsaid = make.node("dropout", "x", "d")
    assert not judge(make, dropout_before_batch_norm, unsaid, norm(make, "d"))


def test_dropout_that_is_there_is_found_whatever_else_is_hidden(make: Any) -> None:
    opaque = make.node("opaque", "x", "o")
    nodes = opaque, dropout(make), make.node("add", "o d", "s"), norm(make, "s")
    assert judge(make, dropout_before_batch_norm, *nodes)
    with pytest.raises(UnknownFact, match="look through opaque"):
        judge(make, dropout_before_batch_norm, opaque, norm(make, "o"))
    with pytest.raises(UnknownFact, match="what comes before"):
        judge(make, dropout_before_batch_norm, norm(make), complete=False)


@pytest.mark.parametrize(
    ("content", "training", "known"),
    [("graph", False, False), ("graph", True, True), ("module", False, True)],
)
def test_an_inference_graph_without_dropout_proves_nothing(
    make: Any, content: str, training: bool, known: bool
) -> None:
    nodes = conv(make), norm(make)
    if known:
        assert not judge(
            make, dropout_before_batch_norm, *nodes, content=content, training=training
        )
        return
    with pytest.raises(UnknownFact, match=r"exporters take it out .*; check the live module"):
        judge(make, dropout_before_batch_norm, *nodes, content=content, training=training)


def test_dropout_behind_shows_that_none_was_taken_out(make: Any) -> None:
    call = norm(make, output="n")
    nodes = conv(make), call, dropout(make, "n", "y")
    assert not judge(make, dropout_before_batch_norm, *nodes, calls=(call,), content="graph")


def between(make: Any, kind: str = "", **attributes: object) -> tuple[Any, ...]:
    """One BatchNorm, something, and another; the data has 3 channels."""
    first = norm(make, "x", "n")
    if not kind:
        return first, norm(make, "n")
    return first, make.node(kind, "n", "b", **attributes), norm(make, "b")


@pytest.mark.parametrize(
    ("kind", "attributes", "found"),
    [
        ("", {}, 1),
        ("identity", {}, 1),
        ("dropout", {"p": 0.5, "training": True}, 1),
        ("relu", {}, 0),
        ("average-pool", {}, 0),
        ("conv", {}, 0),
        ("reshape", {"perm": (0, 1, 3, 2)}, 1),
        ("reshape", {"perm": (0, 2, 3, 1)}, 0),
        ("reshape", {"start_dim": 1, "end_dim": -1}, 1),
        ("reshape", {"start_dim": 0, "end_dim": 1}, 0),
        ("reshape", {"squeeze": (2, 3)}, 1),
        ("reshape", {"squeeze": (0,)}, 0),
        ("reshape", {"unsqueeze": (-1,)}, 0),  # of unknown rank
        ("reshape", {"groups": 3}, 1),  # a shuffle: each channel stays one
        ("reshape", {"upscale_factor": 2, "mode": "CRD"}, 0),
        ("reshape", {"shape": (0, 3, -1)}, 1),
        ("reshape", {"shape": (0, 0, -1)}, 1),
        ("reshape", {"shape": (0, -1)}, 1),
        ("reshape", {"shape": (8, 3, 16)}, 1),
        ("reshape", {"shape": (-1, 3, 4)}, 0),
        ("reshape", {"shape": (0, 6, -1)}, 0),
        ("reshape", {"dim0": -1, "dim1": -2}, 0),
        ("reshape", {}, 0),
    ],
)
def test_what_may_lie_between_two_batch_norms(
    make: Any, kind: str, attributes: dict[str, object], found: int
) -> None:
    nodes = between(make, kind, **attributes)
    shapes = {"n": (8, 3, 4, 4)}
    assert len(judge(make, consecutive_batch_norm, *nodes, shapes=shapes)) == found


def test_the_shape_that_a_reshape_makes_tells_as_much_as_what_it_asks_for(make: Any) -> None:
    nodes = between(make, "reshape")
    shapes = {"n": (8, 3, 4, 4), "b": (8, 3, 2, 2, 4)}
    (seen,) = judge(make, consecutive_batch_norm, *nodes, shapes=shapes)
    assert seen.evidence == {"before": ["n"]}
    assert not judge(make, consecutive_batch_norm, *nodes, shapes=shapes | {"b": (8, 12, 2, 2)})


def test_a_batch_norm_that_something_else_reads_is_needed(make: Any) -> None:
    first, second = between(make)
    assert not judge(make, consecutive_batch_norm, first, make.node("relu", "n", "r"), second)
    assert not judge(make, consecutive_batch_norm, first, second, outputs="n y")
