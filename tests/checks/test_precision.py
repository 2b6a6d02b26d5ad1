"""BN209 and BN210 on facts made by hand."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

from bncheck.checks.precision import fp16_range, low_precision_statistics
from bncheck.facts import Unknown, UnknownFact

FACTS: dict[str, object] = {
    "running_mean": [0.3, -0.1],
    "running_var": [0.8, 2.5],
    "weight": [0.9, 1.1],
    "bias": [0.1, 0.2],
    "momentum": 0.1,
    "eps": 1e-5,
    "training": True,
}
UNTOLD = Unknown("momentum", "a state_dict holds none")


def low(make: Any, dtype: str, **facts: object) -> Any:
    held = {name: make.tensor(FACTS[name], dtype=dtype) for name in ("running_mean", "running_var")}
    return make.layer(**FACTS | held | facts)


@pytest.mark.parametrize(
    ("dtype", "facts", "error"),
    [
        ("bfloat16", {}, 2**-8 / 0.1),
        ("bfloat16", {"momentum": 0.01}, 2**-8 / 0.01),
        ("bfloat16", {"momentum": UNTOLD}, 2**-8 / 0.1),
        ("bfloat16", {"momentum": 1.0}, None),
        ("bfloat16", {"momentum": 0.0}, None),  # BN502
        ("bfloat16", {"momentum": -0.1}, None),  # BN503
        ("bfloat16", {"momentum": nan}, None),
        ("float16", {}, None),
        ("float16", {"momentum": 0.03}, 2**-11 / 0.03),
        ("float16", {"momentum": 0.01}, 2**-11 / 0.01),
        ("float16", {"momentum": None, "num_batches_tracked": 20}, None),
        ("float16", {"momentum": None, "num_batches_tracked": 2048}, 1.0),
        ("float16", {"momentum": None, "num_batches_tracked": None}, None),
        ("float32", {"momentum": 1e-4}, None),
        ("float64", {"momentum": 1e-4}, None),
        ("float32", {"running_mean": None, "running_var": None}, None),
    ],
)
def test_where_the_moving_average_stops(
    make: Any, dtype: str, facts: Any, error: float | None
) -> None:
    layer = low(make, dtype, **facts)
    found = [o.evidence["relative_error"] for o in low_precision_statistics(layer, make.model())]
    assert found == ([] if error is None else [error])


def test_a_smaller_momentum_than_assumed_may_stall(make: Any) -> None:
    layer = low(make, "float16", momentum=UNTOLD)
    with pytest.raises(UnknownFact, match="momentum"):
        list(low_precision_statistics(layer, make.model()))


def test_the_coarser_of_two_dtypes_counts(make: Any) -> None:
    layer = low(make, "bfloat16", running_mean=make.tensor([0.3, -0.1]))
    (observation,) = low_precision_statistics(layer, make.model())
    assert observation.evidence["dtypes"] == {"running_var": "bfloat16"}
    assert observation.message == (
        "running_var is bfloat16: an update by less than 0.39% is rounded away, and the moving "
        "average stops up to 0.039 times its value off, unless it was only saved so."
    )


@pytest.mark.parametrize(
    ("model", "facts", "level"),
    [
        ({}, {}, None),
        ({"format": "module"}, {}, None),  # live, in eval mode: an inference in 16 bits
        ({"format": "module", "training_state": "in training mode"}, {}, "warning"),
        ({"format": "module", "training_state": "in training mode"}, {"training": False}, None),
        ({"training_state": "an epoch"}, {}, None),  # the model alone, rounded perhaps
        ({"training_state": "optimizer", "optimizer_dtypes": {"bfloat16"}}, {}, "warning"),
        ({"training_state": "optimizer", "optimizer_dtypes": set()}, {}, "warning"),
        ({"training_state": "optimizer", "optimizer_dtypes": {"float32"}}, {}, None),  # YOLOv5
        (
            {"training_state": "optimizer", "optimizer_dtypes": {"bfloat16"}},
            {"training": False},  # Ultralytics' average
            None,
        ),
    ],
)
def test_a_warning_where_training_goes_on(make: Any, model: Any, facts: Any, level: Any) -> None:
    layer = low(make, "bfloat16", **facts)
    ((found, message),) = make.seen(low_precision_statistics(layer, make.model(layer, **model)))
    assert found == level
    assert ("Training goes on in it." in message) is (level is not None)


def test_the_limit_is_an_option(make: Any) -> None:
    assert make.seen(low_precision_statistics(low(make, "bfloat16"), make.model(), limit=0.1)) == []
    layer = low(make, "float16")
    assert len(make.seen(low_precision_statistics(layer, make.model(), limit=0.001))) == 1


def half(make: Any, **facts: object) -> Any:
    """A layer whose weight is float16."""
    weight = make.tensor(facts.pop("weight", FACTS["weight"]), dtype="float16")
    return make.layer(**FACTS | facts | {"weight": weight})


@pytest.mark.parametrize(
    ("facts", "largest", "where"),
    [
        ({"running_var": [1.0, 7e4]}, ["running_var"], [1]),
        ({"weight": [300.0, 1.0], "running_var": [0.0, 1.0]}, ["gain"], [0]),
        ({"running_mean": [0.0, 7e4], "running_var": [1.0, 1.0]}, ["shift"], [1]),
        ({"bias": [-7e4, 0.0]}, ["shift"], [0]),
        ({"running_var": [1e6, 1.0], "bias": [0.0, 7e4]}, ["running_var", "shift"], [0, 1]),
        ({"weight": [1.0, 1.0], "running_var": [0.0, 1.0], "eps": 1e-12}, ["gain", "shift"], [0]),
        # In range, or said by others:
        ({}, [], []),
        ({"running_var": [65504.0, 1.0]}, [], []),
        ({"weight": [100.0, 1.0], "running_var": [1.0, 0.0]}, [], []),  # not both in one channel
        ({"bias": None}, [], []),
        ({"running_var": [-1.0, 7e4]}, [], []),  # BN202
        ({"running_var": [0.0, 7e4], "eps": 0.0}, [], []),  # BN506
        ({"running_var": [nan, 1.0]}, [], []),  # BN201
        ({"running_mean": None, "running_var": None}, [], []),
    ],
)
def test_fp16_range(make: Any, facts: Any, largest: list[str], where: list[int]) -> None:
    layer = half(make, **facts)
    found = [o.evidence for o in fp16_range(layer, make.model(layer))]
    assert [(names(each), each["channels"]) for each in found] == (
        [(largest, where)] if largest else []
    )


def names(evidence: Any) -> list[str]:
    return [name.partition(" ")[0] for name in evidence["largest"]]


def test_the_message_gives_the_largest(make: Any) -> None:
    layer = half(make, running_var=[9e4, 8e4])
    assert make.seen(fp16_range(layer, make.model(layer))) == [
        (
            None,
            "running_var 9e+04 in every channel: float16 ends at 65504, what is beyond becomes "
            "infinite, and the output a constant, infinity or NaN.",
        )
    ]


LARGE = {"running_var": [1.0, 7e4]}


def test_float32_tensors_alone_do_not_tell_the_precision(make: Any) -> None:
    layer = make.layer(**FACTS | LARGE)
    with pytest.raises(UnknownFact, match="precision"):
        list(fp16_range(layer, make.model(layer)))


def test_bfloat16_has_the_range_of_float32(make: Any) -> None:
    weight = make.tensor([1.0, 1.0], dtype="bfloat16")
    layer = make.layer(**FACTS | LARGE | {"weight": weight})
    assert make.seen(fp16_range(layer, make.model(layer))) == []


@pytest.mark.parametrize(
    ("dtypes", "cast_to", "found"),
    [
        (["float16"], None, True),
        (["float16", "float16", "float32"], None, True),
        (["float16", "float32", "float32"], None, False),
        (["float32"], None, False),
        (["float16"], "float32", False),  # kept out of it
        (["float16"], "float16", True),
    ],
)
def test_the_weights_of_the_graph_tell(
    make: Any, dtypes: list[str], cast_to: str | None, found: bool
) -> None:
    weights = [make.tensor([1.0], dtype=dtype) for dtype in dtypes]
    nodes = [
        make.node("conv", f"v{i}" if i else "x", f"v{i + 1}", {"weight": weight})
        for i, weight in enumerate(weights)
    ]
    last = f"v{len(nodes)}"
    if cast_to:
        nodes.append(make.node("identity", last, "cast", dtype=cast_to))
        last = "cast"
    call = make.node("batch-norm", last, "y")
    layer = make.layer(**FACTS | LARGE, calls=(call,))
    model = make.model(layer, content="graph", graph=make.graph(*nodes, call))
    assert bool(make.seen(fp16_range(layer, model))) is found


@pytest.mark.parametrize(
    ("kind", "shape", "attributes", "channel"),
    [
        ("conv", (2, 3), {}, 1),
        ("conv-transpose", (3, 2), {"groups": 1}, 0),
        ("conv-transpose", (3, 2), {"groups": 3}, None),
        ("linear", (2, 3), {"transB": True}, 1),
        ("linear", (3, 2), {}, 0),
        ("relu", (2, 3), {}, None),
    ],
)
def test_a_weight_that_folding_makes_too_large(
    make: Any, kind: str, shape: tuple[int, int], attributes: Any, channel: int | None
) -> None:
    weight = make.tensor([1.0, 1.0, 1.0, 1.0, 500.0, 1.0], shape, dtype="float16")
    before = make.node(kind, "x", "c", {"weight": weight}, **attributes)
    call = make.node("batch-norm", "c", "y")
    gains = {"weight": [200.0, 200.0], "running_var": [1.0, 1.0]}
    layer = half(make, **gains, calls=(call,))
    model = make.model(layer, content="graph", graph=make.graph(before, call))
    found = [o.evidence["channels"] for o in fp16_range(layer, model)]
    assert found == ([] if channel is None else [[channel]])


def test_a_graph_without_weights_does_not_tell(make: Any) -> None:
    call = make.node("batch-norm", "x", "y")
    layer = make.layer(**FACTS | LARGE, calls=(call,))
    with pytest.raises(UnknownFact, match="precision"):
        list(fp16_range(layer, make.model(layer, content="graph", graph=make.graph(call))))
