"""BN212 on facts made by hand."""

from __future__ import annotations

from array import array
from math import nan
from typing import Any

import pytest

from bncheck.checks.duplicates import duplicate_statistics
from bncheck.facts import Unknown, UnknownFact
from bncheck.model import Model
from bncheck.tensor import Tensor

FACTS: dict[str, object] = {
    "running_mean": [0.3, -0.1],
    "running_var": [0.8, 2.5],
    "weight": [0.9, 1.1],
    "bias": [0.1, 0.2],
}
UNTOLD = Unknown("values", "not in this file")


def found(model: Model) -> list[tuple[str, object, str | None]]:
    """Layer, whose copy it is, and the level where it is not the rule's own."""
    return [
        (layer.name, each.evidence["same_as"], each.level and each.level.value)
        for layer in model.layers
        for each in duplicate_statistics(layer, model)
    ]


def pair(make: Any, *others: dict[str, object]) -> Model:
    layers = [make.layer(name=f"bn{i}", **FACTS | other) for i, other in enumerate(({}, *others))]
    return Model("torch-zip", "module", tuple(layers), frozenset())


def stored(values: list[float], storage: object) -> Tensor:
    data = array("f", values)
    return Tensor((len(values),), "float32", lambda: data, storage)


@pytest.mark.parametrize(
    ("other", "is_copy"),
    [
        ({}, True),
        ({"weight": [0.5, 0.5]}, True),
        ({"running_var": [0.8, 2.6]}, False),
        ({"running_mean": [0.3, -0.2]}, False),
        ({"running_var": [0.8, 2.5, 1.0]}, False),
        ({"running_mean": None, "running_var": None}, False),
    ],
)
def test_equal_in_every_bit(make: Any, other: Any, is_copy: bool) -> None:
    assert found(pair(make, other)) == ([("bn1", "bn0", None)] if is_copy else [])


@pytest.mark.parametrize("missing", [{"running_var": UNTOLD}, {"running_mean": UNTOLD}])
def test_a_layer_that_is_not_told_hides_no_other(make: Any, missing: Any) -> None:
    model = pair(make, missing, {})
    with pytest.raises(UnknownFact):
        list(duplicate_statistics(model.layers[1], model))
    assert len(list(duplicate_statistics(model.layers[2], model))) == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"running_mean": [0.0, 0.0], "running_var": [1.0, 1.0]},  # initial: BN203
        {"running_mean": [0.0, 0.0], "running_var": [1 - 1e-5] * 2},  # frozen
        {"running_mean": [0.0, 0.0], "running_var": [5.6e-45] * 2},  # dead, all of it
        {"running_mean": [0.02, 0.02], "running_var": [0.02, 0.02]},  # ONNX's test models
        {"running_mean": [0.3], "running_var": [0.8]},  # one channel agrees by chance
        {"running_mean": [nan, 0.3], "running_var": [0.8, 2.5]},  # BN201
        {"running_mean": [], "running_var": []},
    ],
)
def test_what_two_layers_may_share_by_chance(make: Any, facts: Any) -> None:
    layers = [make.layer(name=name, **FACTS | facts) for name in ("a", "b")]
    assert found(make.model(*layers)) == []


def test_the_first_of_several_is_named(make: Any) -> None:
    assert found(pair(make, {}, {})) == [("bn1", "bn0", None), ("bn2", "bn0", None)]


def test_values_that_are_not_in_the_file_are_passed_over(make: Any) -> None:
    def load() -> array[float]:
        raise UnknownFact(UNTOLD)

    absent = Tensor((2,), "float32", load)
    model = pair(make, {"running_mean": absent, "running_var": absent}, {})
    assert len(list(duplicate_statistics(model.layers[2], model))) == 1


def test_tied_layers_share_a_storage(make: Any) -> None:
    held = {"running_mean": stored([0.3, -0.1], 1), "running_var": stored([0.8, 2.5], 2)}
    apart = {"running_mean": stored([0.3, -0.1], 3), "running_var": stored([0.8, 2.5], 4)}
    tied = make.model(make.layer(name="a", **held), make.layer(name="b", **held))
    copied = make.model(make.layer(name="a", **held), make.layer(name="b", **apart))
    assert found(tied) == []
    assert found(copied) == [("b", "a", None)]


def test_onnx_exporters_make_equal_tensors_one(make: Any) -> None:
    held = {"running_mean": stored([0.3, -0.1], "m"), "running_var": stored([0.8, 2.5], "v")}
    calls = [make.node("batch-norm", x, y) for x, y in (("x", "a"), ("c", "b"))]
    layers = [make.layer(name=f"bn{i}", **held, calls=(call,)) for i, call in enumerate(calls)]
    conv = make.node("conv", "a", "c", {"weight": [1.0]})
    graph = make.graph(calls[0], conv, calls[1])
    model = make.model(*layers, content="graph", graph=graph)
    assert found(model) == [("bn1", "bn0", "warning")]


def wired(make: Any, *nodes: Any, first: str, second: str, **other: object) -> Model:
    """Two layers with the same statistics, on two values of a graph."""
    one, two = make.node("batch-norm", first, "a"), make.node("batch-norm", second, "b")
    layers = (
        make.layer(name="one", **FACTS, calls=(one,)),
        make.layer(name="two", **FACTS | other, calls=(two,)),
    )
    graph = make.graph(*nodes, one, two)
    return Model(
        "torch-export", "graph", layers, frozenset(), facts={"graph": graph, "order": graph}
    )


def conv(make: Any, data: str, output: str, weight: float) -> Any:
    return make.node("conv", data, output, {"weight": [weight, 1.0]})


def test_different_data_is_a_warning(make: Any) -> None:
    nodes = [conv(make, "x", "c", 1.0), conv(make, "x", "d", 2.0)]
    assert found(wired(make, *nodes, first="c", second="d")) == [("two", "one", "warning")]


def test_one_input_has_one_statistics(make: Any) -> None:
    assert found(wired(make, first="x", second="x")) == []
    nodes = [make.node("identity", "x", "i"), make.node("reshape", "i", "r")]
    assert found(wired(make, *nodes, first="x", second="r")) == []


@pytest.mark.parametrize("kind", ["split", "concat"])
def test_a_part_of_a_union_may_be_the_same_data(make: Any, kind: str) -> None:
    """As in a DenseNet: the first channels of a concatenation are those of an earlier one."""
    nodes = [conv(make, "x", "c", 1.0), make.node(kind, "c", "p")]
    assert found(wired(make, *nodes, first="c", second="p")) == [("two", "one", None)]
    nodes.append(make.node("dropout", "p", "q"))
    assert found(wired(make, *nodes, first="c", second="q")) == [("two", "one", None)]


@pytest.mark.parametrize(
    ("weight", "other", "level"),
    [
        (1.0, {}, None),  # a network and its copy
        (2.0, {}, "warning"),
        (1.0, {"weight": [0.5, 0.5]}, "warning"),
        (1.0, {"bias": None}, "warning"),
    ],
)
def test_a_copy_of_more_than_the_layer(make: Any, weight: float, other: Any, level: Any) -> None:
    nodes = [conv(make, "x", "c", 1.0), conv(make, "x", "d", weight)]
    assert found(wired(make, *nodes, first="c", second="d", **other)) == [("two", "one", level)]


def test_without_a_complete_graph_nobody_knows_the_data(make: Any) -> None:
    nodes = [conv(make, "x", "c", 1.0), conv(make, "x", "d", 2.0)]
    whole = wired(make, *nodes, first="c", second="d")
    part = make.model(*whole.layers, order=whole.facts["order"], graph=Unknown("graph", "no"))
    assert found(part) == [("two", "one", None)]
