"""BN205 and BN206 on facts made by hand."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from bncheck.checks.convergence import batch_count_inconsistent, statistics_not_converged
from bncheck.facts import Unknown, UnknownFact
from bncheck.model import Model, NormLayer

FACTS = {"running_mean": [0.3, -0.1], "running_var": [0.8, 2.5], "momentum": 0.1}


def not_converged(model: Model, layer: NormLayer) -> list[tuple[str | None, str]]:
    return [(o.level and o.level.value, o.message) for o in statistics_not_converged(layer, model)]


@pytest.mark.parametrize(
    ("facts", "left"),
    [
        ({"num_batches_tracked": 20}, 0.9**20),
        ({"num_batches_tracked": 43}, 0.9**43),
        ({"num_batches_tracked": 44}, None),
        ({"num_batches_tracked": 458, "momentum": 0.01, "running_var": [1.0, 1.0]}, 0.99**458),
        ({"num_batches_tracked": 459, "momentum": 0.01}, None),
        ({"num_batches_tracked": 4602, "momentum": 0.001, "running_var": [1.0]}, 0.999**4602),
        ({"num_batches_tracked": 1, "momentum": 1e-320, "running_var": [1.5]}, 1.0),
        # Another start, or none:
        ({"num_batches_tracked": 20, "running_var": [0.8, 0.1]}, None),  # 0.9 ** 20 is 0.12
        ({"num_batches_tracked": 20, "running_var": [0.8, 0.0]}, None),  # flushed to 0
        ({"num_batches_tracked": 20, "running_var": [0.8, 0.9**20]}, 0.9**20),  # dead all along
        ({"num_batches_tracked": 3}, 0.9**3),
        ({"num_batches_tracked": 0}, None),  # converted, or an old checkpoint
        ({"num_batches_tracked": 3, "momentum": None}, None),  # cumulative
        ({"num_batches_tracked": 3, "momentum": 0.0}, None),  # BN502
        ({"num_batches_tracked": 3, "momentum": 1.0}, None),
        ({"num_batches_tracked": 3, "momentum": -0.1}, None),  # BN503
        ({"num_batches_tracked": 3, "momentum": nan}, None),
        ({"num_batches_tracked": -3}, None),
        ({"num_batches_tracked": 3, "running_mean": None, "running_var": None}, None),
    ],
)
def test_weight_of_the_initial_values(make: Any, facts: Any, left: float | None) -> None:
    layer = make.layer(**FACTS | facts)
    found = list(statistics_not_converged(layer, make.model(layer)))
    assert [o.evidence["initial_weight"] for o in found] == ([] if left is None else [left])


def test_the_message_tells_how_many_batches_it_takes(make: Any) -> None:
    layer = make.layer(**FACTS, num_batches_tracked=20)
    assert not_converged(make.model(layer), layer) == [
        (
            "info",
            "Counted 20 batches at momentum 0.1: 12.2% of the statistics are still the initial "
            "mean 0 and variance 1, which inference takes for data (1% after 44 batches).",
        )
    ]


def test_an_assumed_momentum_is_said_and_makes_an_info(make: Any) -> None:
    momentum = Unknown("momentum", "a state_dict holds none")
    layer = make.layer(**FACTS | {"momentum": momentum}, num_batches_tracked=3)
    ((level, message),) = not_converged(make.model(layer, content="state_dict"), layer)
    assert level == "info"
    assert "momentum 0.1 (assumed)" in message


def test_a_graph_that_hides_its_momentum_has_none_to_assume(make: Any) -> None:
    """Exporters write a cumulative average as one without momentum."""
    momentum = Unknown("momentum", "in eval mode a momentum of None is written as 0")
    layer = make.layer(**FACTS | {"momentum": momentum}, num_batches_tracked=3)
    with pytest.raises(UnknownFact):
        not_converged(make.model(layer, content="graph"), layer)


@pytest.mark.parametrize("counter", [None, nan])
def test_a_layer_without_a_counter_is_not_assessed(make: Any, counter: float | None) -> None:
    held = None if counter is None else make.tensor([counter], ())
    layer = make.layer(**FACTS, num_batches_tracked=held)
    for check in (statistics_not_converged, batch_count_inconsistent):
        with pytest.raises(UnknownFact, match="batch counter"):
            list(check(layer, make.model(layer)))


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"num_batches_tracked": 20, "running_var": [0.01, 1.0]}, False),
        ({"num_batches_tracked": 20, "running_var": [0.5, 1.0]}, True),
        ({"num_batches_tracked": 21, "running_var": [0.01, 1.0]}, True),  # another history
        ({"num_batches_tracked": 20, "running_var": [0.01, 1.0], "momentum": 0.5}, True),
        ({"num_batches_tracked": 20, "running_var": None}, True),
        ({"num_batches_tracked": None, "running_var": [0.01, 1.0]}, True),
    ],
)
def test_one_layer_tells_how_all_of_its_count_began(make: Any, other: Any, found: bool) -> None:
    layer = make.layer(**FACTS, num_batches_tracked=20)
    model = make.model(layer, make.layer(**FACTS | other))
    assert bool(not_converged(model, layer)) is found
    assert bool(not_converged(model, layer)) is found  # what is remembered of the model


@pytest.mark.parametrize(
    ("limit", "found"), [(0.2, False), (0.1, True), (0.0, True), (1.0, False), (inf, False)]
)
def test_the_limit_is_an_option(make: Any, limit: float, found: bool) -> None:
    layer = make.layer(**FACTS, num_batches_tracked=20)
    assert bool(list(statistics_not_converged(layer, make.model(layer), limit=limit))) is found


@pytest.mark.parametrize(
    ("batches", "warn", "level"),
    [(6, 0.5, None), (7, 0.5, "info"), (7, 0.4, None), (6, 0.6, "info")],  # 0.531, 0.478
)
def test_a_warning_where_they_weigh_more_than_half(
    make: Any, batches: int, warn: float, level: str | None
) -> None:
    layer = make.layer(**FACTS, num_batches_tracked=batches)
    (observation,) = statistics_not_converged(layer, make.model(layer), warn=warn)
    assert observation.level == level


def counts(make: Any, *numbers: int | None, **of_the_last: object) -> tuple[Model, NormLayer]:
    """A model of layers that counted so many batches, and the last of them."""
    layers = [make.layer(name=f"bn{i}", num_batches_tracked=n) for i, n in enumerate(numbers[:-1])]
    last = make.layer(name="last", num_batches_tracked=numbers[-1], **of_the_last)
    return make.model(*layers, last), last


@pytest.mark.parametrize(
    ("numbers", "part"),
    [
        ((500, 500, 0), "Counted no batch, while 2 layers counted 500: frozen, loaded without"),
        ((500, 0), "Counted no batch, while 1 layer counted 500"),
        ((500, 500, 1000), "Counted 1000 batches, while 2 layers counted 500: a factor of 2"),
        ((500, 500, 100), "Counted 100 batches, while 2 layers counted 500: a factor of 5"),
        ((500, 1000), "Counted 1000 batches, while 1 layer counted 500: a factor of 2"),
        # Healthy:
        ((500, 500, 500), None),
        ((500, 500, 700), None),  # trained for longer
        ((500, 500, 499), None),
        ((0, 0, 0), None),
        ((1000, 500), None),  # the smaller of two is the usual one
        ((None, 500), None),
        ((700,), None),
    ],
)
def test_batch_count_inconsistent(make: Any, numbers: Any, part: str | None) -> None:
    model, layer = counts(make, *numbers)
    found = [o.message for o in batch_count_inconsistent(layer, model)]
    assert len(found) == (part is not None)
    assert all(part and message.startswith(part) for message in found)


@pytest.mark.parametrize(
    "facts",
    [
        {"requires_grad": False},
        {"track_running_stats": False},
        {"kind": "frozen-batch"},
    ],
)
def test_a_frozen_layer_counts_for_itself(make: Any, facts: Any) -> None:
    model, layer = counts(make, 500, 500, 0, **facts)
    assert list(batch_count_inconsistent(layer, model)) == []
    model, layer = counts(make, 500, 500, 0)
    assert len(list(batch_count_inconsistent(layer, model))) == 1


def test_a_layer_without_affine_has_nothing_to_freeze(make: Any) -> None:
    model, layer = counts(make, 500, 500, 0, requires_grad=False, affine=False)
    assert len(list(batch_count_inconsistent(layer, model))) == 1


def test_eval_mode_beside_training_mode_is_a_frozen_backbone(make: Any) -> None:
    head = make.layer(name="head", num_batches_tracked=500, training=True)
    backbone = make.layer(name="backbone", num_batches_tracked=0, training=False)
    assert list(batch_count_inconsistent(backbone, make.model(head, backbone))) == []


def test_frozen_layers_do_not_say_what_is_usual(make: Any) -> None:
    frozen = [make.layer(num_batches_tracked=9, requires_grad=False) for _ in range(3)]
    trained = [make.layer(num_batches_tracked=500) for _ in range(2)]
    model = make.model(*frozen, *trained)
    assert [o for layer in model.layers for o in batch_count_inconsistent(layer, model)] == []
