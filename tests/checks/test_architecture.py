"""BN604-607 on graphs made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.checks.architecture import (
    batch_norm_on_output,
    layer_norm_axis,
    shared_batch_norm,
    single_channel_groups,
)
from bncheck.facts import Unknown, UnknownFact
from bncheck.tensor import Tensor

WEIGHTS = {3: (2, 3, 1), 4: (2, 3, 1, 1), 5: (2, 3, 1, 1, 1)}  # by the rank of the data


def conv(make: Any, rank: int = 4, inputs: str = "x", output: str = "c") -> Any:
    return make.node(
        "conv", inputs, output, {"weight": make.tensor([1.0] * 6, WEIGHTS[rank])}, op="Conv"
    )


def layer_norm(make: Any, inputs: str = "c", axis: int | None = -1) -> Any:
    known = {} if axis is None else {"axis": axis}
    return make.node("layer-norm", inputs, "y", {"weight": [1.0] * 8}, **known)


def over_axis(make: Any, *nodes: Any, **fields: Any) -> list[tuple[str | None, str]]:
    layer = make.layer("layer", calls=nodes[-1:], weight=[1.0] * 8)
    return make.seen(layer_norm_axis(layer, make.model(layer, graph=make.graph(*nodes, **fields))))


@pytest.mark.parametrize(
    ("rank", "axis", "found"),
    [
        (4, -1, [(None, "the width of the image")]),
        (5, -1, [(None, "the width of the image")]),
        (3, -1, [("info", "the position")]),
        (4, None, [(None, "the width of the image")]),  # by its weight, which is a vector
        (4, -2, []),  # over the whole image
        (4, -3, []),  # over channels too
    ],
)
def test_layer_norm_over_space(make: Any, rank: int, axis: int | None, found: Any) -> None:
    seen = over_axis(make, conv(make, rank), layer_norm(make, axis=axis))
    assert [level for level, _ in seen] == [level for level, _ in found]
    for (_, message), (_, words) in zip(seen, found, strict=True):
        assert message == (
            "Normalizes over the last axis, of length 8: behind c (Conv) that is "
            f"{words}, not the channels."
        )


@pytest.mark.parametrize(
    ("kind", "attributes", "found"),
    [
        ("relu", {}, True),
        ("batch-norm", {}, True),
        ("max-pool", {}, True),
        ("average-pool", {"output_size": 1, "keepdim": False}, False),
        ("pad", {}, True),
        ("add", {}, True),
        ("reshape", {"perm": (0, 2, 3, 1)}, False),
        ("reshape", {"start_dim": 2, "end_dim": 3}, False),
        ("linear", {}, False),
        ("split", {"axis": 1}, False),
    ],
)
def test_what_keeps_the_axes(make: Any, kind: str, attributes: Any, found: bool) -> None:
    between = make.node(kind, "c", "b", **attributes)
    assert bool(over_axis(make, conv(make), between, layer_norm(make, "b"))) is found


def test_a_convolution_on_either_side_tells_the_axes(make: Any) -> None:
    pool = make.node("average-pool", "x", "p")
    added = make.node("add", "p c", "s")
    assert over_axis(make, conv(make), pool, added, layer_norm(make, "s"))


def test_what_hides_a_convolution_leaves_it_open(make: Any) -> None:
    hidden = make.node("opaque", "c", "o", op="Softmax")
    with pytest.raises(UnknownFact, match="look through Softmax"):
        over_axis(make, conv(make), hidden, layer_norm(make, "o"))
    assert not over_axis(make, make.node("opaque", "x", "o"), layer_norm(make, "o"))
    with pytest.raises(UnknownFact, match="what comes before"):
        over_axis(make, layer_norm(make), complete=False)


def test_a_convolution_whose_weight_is_not_stored_has_no_known_rank(make: Any) -> None:
    computed = make.node("conv", "x", "c", {"weight": Unknown("weight", "it is computed")})
    assert not over_axis(make, computed, layer_norm(make))


def stored(make: Any, values: list[float], storage: str) -> Tensor:
    tensor = make.tensor(values)
    return Tensor(tensor.shape, tensor.dtype, lambda: tensor.values, storage)


def shared(make: Any, *weights: str, means: tuple[Any, ...] = (), **facts: object) -> list[Any]:
    """One BatchNorm, called behind a convolution for each of some weights."""
    one = stored(make, [0.5, 1.5], "mean")
    means = means or (one,) * len(weights)
    nodes, calls = [], []
    for number, (weight, mean) in enumerate(zip(weights, means, strict=True)):
        held = {"weight": stored(make, [1.0, 2.0], weight)}
        nodes.append(make.node("conv", f"x{number}", f"c{number}", held))
        calls.append(make.node("batch-norm", f"c{number}", f"n{number}", {"running_mean": mean}))
    layer = make.layer(calls=tuple(calls), **facts)
    inputs = " ".join(f"x{number}" for number in range(len(weights)))
    model = make.model(layer, graph=make.graph(*nodes, *calls, inputs=inputs))
    return make.seen(shared_batch_norm(layer, model))


@pytest.mark.parametrize(
    ("weights", "facts", "levels"),
    [
        pytest.param("ab", {"training": True}, [None], id="different layers in training"),
        pytest.param("aa", {"training": True}, ["info"], id="twins in training"),
        pytest.param("ab", {"training": False}, ["info"], id="at inference"),
        pytest.param("ab", {}, ["info"], id="in no known mode"),
        pytest.param("a", {"training": True}, [], id="one call"),
        pytest.param("ab", {"training": False, "requires_grad": False}, [], id="frozen"),
        pytest.param(
            "ab", {"training": True, "requires_grad": False}, [None], id="half frozen: still moved"
        ),
    ],
)
def test_shared_batch_norm(make: Any, weights: str, facts: Any, levels: Any) -> None:
    assert [level for level, _ in shared(make, *weights, **facts)] == levels


def test_shared_batch_norm_says_how_often(make: Any) -> None:
    ((_, message),) = shared(make, "a", "b", "c", training=True)
    assert message.startswith("Called at 3 places behind different layers: each of them moves")
    ((_, message),) = shared(make, "a", "b", training=False)
    assert message.startswith("Called at 2 places with one set of running statistics")


def test_without_running_statistics_nothing_is_shared(make: Any) -> None:
    nothing = Unknown("running_mean", "computed from the data of each batch")
    assert not shared(make, "a", "b", means=(nothing, nothing), training=True)


def test_views_at_different_places_of_one_storage_are_not_shared(make: Any) -> None:
    views = stored(make, [0.5, 1.5], "all"), stored(make, [2.5, 3.5], "all")
    assert not shared(make, "a", "b", means=views, training=True)


def test_a_module_under_two_names_is_told_once(make: Any) -> None:
    mean = stored(make, [0.5, 1.5], "mean")
    calls = [make.node("batch-norm", "x", f"n{n}", {"running_mean": mean}) for n in range(2)]
    layers = [make.layer(name=call.name, calls=(call,)) for call in calls]
    model = make.model(*layers, graph=make.graph(*calls))
    assert [len(make.seen(shared_batch_norm(each, model))) for each in layers] == [1, 0]


def test_what_lies_between_a_shared_layer_and_others_is_judged_quietly(make: Any) -> None:
    """Behind an addition nothing tells whether the distributions differ."""
    mean = stored(make, [0.5, 1.5], "mean")
    added = make.node("add", "x x2", "s")
    calls = tuple(
        make.node("batch-norm", value, f"n{value}", {"running_mean": mean}) for value in "xs"
    )
    layer = make.layer(calls=calls, training=True)
    model = make.model(layer, graph=make.graph(added, *calls, inputs="x x2"))
    assert [level for level, _ in make.seen(shared_batch_norm(layer, model))] == ["info"]


@pytest.mark.parametrize(
    ("groups", "channels", "found"), [(4, 4, 1), (2, 4, 0), (1, 4, 0), (1, 1, 0)]
)
def test_single_channel_groups(make: Any, groups: int, channels: int, found: int) -> None:
    layer = make.layer("group", num_groups=groups, num_features=channels)
    assert len(make.seen(single_channel_groups(layer))) == found


@pytest.mark.parametrize(
    ("kind", "found"),
    [("", True), ("identity", True), ("dropout", True), ("reshape", True), ("relu", False)],
)
def test_batch_norm_on_output(make: Any, kind: str, found: bool) -> None:
    call = make.node("batch-norm", "x", "n" if kind else "y")
    behind = [make.node(kind, "n", "y")] if kind else []
    layer = make.layer(calls=(call,))
    model = make.model(layer, graph=make.graph(call, *behind))
    assert bool(make.seen(batch_norm_on_output(layer, model))) is found


def test_a_value_that_is_given_out_beside_others_counts(make: Any) -> None:
    call = make.node("batch-norm", "x", "n")
    layer = make.layer(calls=(call,))
    graph = make.graph(call, make.node("relu", "n", "y"), outputs="y n")
    assert make.seen(batch_norm_on_output(layer, make.model(layer, graph=graph)))


def test_an_incomplete_graph_has_no_known_end(make: Any) -> None:
    call = make.node("batch-norm", "x", "y")
    layer = make.layer(calls=(call,))
    with pytest.raises(UnknownFact):
        list(batch_norm_on_output(layer, make.model(layer, order=make.graph(call))))
