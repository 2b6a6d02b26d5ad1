"""BN2xx on facts made by hand."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from bncheck.checks.statistics import (
    counted_but_not_updated,
    dead_channels,
    negative_variance,
    non_finite_statistics,
    statistics_never_updated,
)
from bncheck.facts import UnknownFact
from bncheck.model import NormLayer

TRAINED = {"weight": [0.9, 1.2], "bias": [0.1, -0.2]}
UNTOUCHED = {"weight": [1.0, 1.0], "bias": [0.0, 0.0]}
INITIAL = {"running_mean": [0.0, 0.0], "running_var": [1.0, 1.0]}
PLAUSIBLE = {"running_mean": [0.3, -0.1], "running_var": [0.8, 2.5]}
NO_STATISTICS = {"running_mean": None, "running_var": None}
SMALLEST = 2.0**-149  # a positive float32


@pytest.mark.parametrize(
    ("mean", "var", "messages"),
    [
        ([0.0, 1.0, 2.0], [1.0, 1.0, 1.0], []),
        (
            [0.0] * 3,
            [1.0, nan, 1.0],
            ["running_var is NaN in channel 1 of 3: that channel outputs NaN."],
        ),
        ([nan] * 3, [1.0] * 3, ["running_mean is NaN in every channel: the layer outputs NaN."]),
        (
            [nan, 0.0, nan],
            [nan, 1.0, nan],
            [
                "running_mean and running_var are NaN in 2 of 3 channels (0, 2): "
                "those channels output NaN."
            ],
        ),
        (
            [0.0, inf, 0.0],
            [-inf, 1.0, inf],
            [
                "running_mean is infinite in channel 1 of 3: that channel outputs infinity or NaN.",
                "running_var is infinite in 2 of 3 channels (0, 2): "
                "those channels output a constant or NaN.",
            ],
        ),
        (
            [0.0] * 3,
            [nan, inf, 1.0],
            [
                "running_var is NaN or infinite in 2 of 3 channels (0, 1): "
                "those channels output a constant or NaN."
            ],
        ),
        (None, None, []),
    ],
)
def test_non_finite_statistics(make: Any, mean: Any, var: Any, messages: list[str]) -> None:
    layer = make.layer(running_mean=mean, running_var=var)
    assert [message for _, message in make.seen(non_finite_statistics(layer))] == messages


def test_non_finite_statistics_lists_some_channels_and_counts_all(make: Any) -> None:
    layer = make.layer(running_mean=[nan] * 100, running_var=[1.0] * 100)
    (observation,) = non_finite_statistics(layer)
    assert observation.evidence == {
        "tensors": ["running_mean"],
        "channels": list(range(16)),
        "count": 100,
        "of": 100,
    }


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"running_var": [0.0, 1e-12, 3.0]}, None),
        ({"running_var": [nan, 1.0, inf]}, None),  # BN201
        ({"running_var": [-inf, 1.0, 1.0]}, None),  # BN201
        ({"running_var": None}, None),
        (
            {"running_var": [1.0, 1.0, -0.1]},
            "running_var is -0.1 in channel 2 of 3: sqrt(var + eps) is NaN there, and so is the "
            "output.",
        ),
        (
            {"running_var": [-0.25, nan, -3.5]},
            "running_var is down to -3.5 in 2 of 3 channels (0, 2): sqrt(var + eps) is NaN there, "
            "and so is the output.",
        ),
        (
            {"running_var": [1.0, -1e-6, 1.0], "eps": 1e-5},
            "running_var is -1e-06 in channel 1 of 3: no variance can be, and only eps keeps the "
            "output finite.",
        ),
    ],
)
def test_negative_variance(make: Any, facts: dict[str, object], message: str | None) -> None:
    found = make.seen(negative_variance(make.layer(**facts)))
    assert found == ([] if message is None else [(None, message)])


@pytest.mark.parametrize("check", [non_finite_statistics, negative_variance])
def test_values_that_are_not_in_the_file_are_not_assessed(make: Any, check: Any) -> None:
    with pytest.raises(UnknownFact):
        list(check(make.layer()))


@pytest.mark.parametrize(
    ("facts", "level", "part"),
    [
        ({**INITIAL, **TRAINED, "num_batches_tracked": 0}, "error", "no batch ever updated them"),
        (
            {**INITIAL, "weight": [0.6, 1.4], "bias": [0.0, 0.0], "num_batches_tracked": 0},
            "error",
            "no batch ever updated them",
        ),
        (
            {**INITIAL, "weight": [1.0, 1.0], "bias": [0.0, 0.1], "num_batches_tracked": 0},
            "error",
            "no batch ever updated them",
        ),
        # Healthy, or in doubt:
        ({**INITIAL, **UNTOUCHED, "num_batches_tracked": 0}, "info", "an untrained layer"),
        (
            {**INITIAL, "weight": [0.0, 0.0], "bias": [0.0, 0.0], "num_batches_tracked": 0},
            "info",
            "an untrained layer",  # zero-initialised residual branch
        ),
        (
            {**INITIAL, "weight": None, "bias": None, "num_batches_tracked": 0},
            "info",
            "an untrained layer",
        ),
        (
            {**INITIAL, "weight": [0.03, -0.05], "bias": [0.0, 0.0], "num_batches_tracked": 0},
            "info",
            "an untrained layer",  # transformers draws from N(0, 0.02)
        ),
        (
            {**INITIAL, "weight": [0.97, 1.04], "bias": [0.0, 0.0], "num_batches_tracked": 0},
            "info",
            "an untrained layer",  # DCGAN draws from N(1, 0.02)
        ),
        ({**INITIAL, **TRAINED, "num_batches_tracked": None}, "info", "frozen on purpose"),
        ({**INITIAL, **TRAINED}, "info", "frozen on purpose"),  # a graph has no counters
        (
            {
                **TRAINED,
                "running_mean": [0.0, 0.0],
                "running_var": [1 - 1e-5, 1 - 1e-5],
                "num_batches_tracked": 0,
            },
            "info",
            "running_var 0.99999 in every channel: a frozen BatchNorm",
        ),
        ({**INITIAL, **TRAINED, "kind": "frozen-batch"}, "info", "a frozen BatchNorm"),
    ],
)
def test_statistics_never_updated(
    make: Any, facts: dict[str, object], level: str, part: str
) -> None:
    ((found, message),) = make.seen(statistics_never_updated(make.layer(**facts)))
    assert found == level
    assert part in message


@pytest.mark.parametrize(
    "facts",
    [
        {**PLAUSIBLE, **TRAINED, "num_batches_tracked": 500},
        {**PLAUSIBLE, **TRAINED, "num_batches_tracked": 0},  # converted, or an old checkpoint
        {**PLAUSIBLE, **TRAINED},
        {**INITIAL, **TRAINED, "num_batches_tracked": 500},  # BN204
        {**INITIAL, **TRAINED, "running_var": [0.9, 0.9]},
        {**INITIAL, **TRAINED, "running_mean": [0.0, 0.1]},
        {**INITIAL, **TRAINED, "running_var": [1.0, nan]},  # BN201
        {"running_mean": [], "running_var": []},
        NO_STATISTICS,
    ],
)
def test_statistics_that_something_updated(make: Any, facts: dict[str, object]) -> None:
    assert make.seen(statistics_never_updated(make.layer(**facts))) == []


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {**INITIAL, "num_batches_tracked": 1200},
            "Counted 1200 batches, yet running_mean is 0 and running_var 1 in every channel: "
            "inference does not normalize.",
        ),
        (
            {**INITIAL, "num_batches_tracked": 5, "momentum": 0.0},
            "Counted 5 batches, yet running_mean is 0 and running_var 1 in every channel: "
            "inference does not normalize. momentum is 0.",
        ),
        ({**INITIAL, "num_batches_tracked": 0}, None),
        ({**INITIAL, "num_batches_tracked": None}, None),
        ({**PLAUSIBLE, "num_batches_tracked": 1200}, None),
        (
            {"running_mean": [0.0], "running_var": [1 - 1e-5], "num_batches_tracked": 9},
            None,
        ),
        ({**NO_STATISTICS, "num_batches_tracked": 9}, None),
    ],
)
def test_counted_but_not_updated(make: Any, facts: dict[str, object], message: str | None) -> None:
    found = make.seen(counted_but_not_updated(make.layer(**facts)))
    assert found == ([] if message is None else [(None, message)])


def test_counting_needs_a_counter(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(counted_but_not_updated(make.layer(**INITIAL)))


def found_dead(make: Any, layer: NormLayer, *others: NormLayer, **options: float) -> Any:
    return dead_channels(layer, make.model(layer, *others), **options)


@pytest.mark.parametrize(
    ("facts", "dead"),
    [
        ({"running_var": [1.0, 2.0]}, []),
        ({"running_var": [1.0, 1.9e-14]}, [1]),  # as in torchvision's Inception
        ({"running_var": [0.0, 5e-8]}, [0]),
        ({"running_var": [1.0, 5e-8], "eps": 1e-3}, [1]),
        ({"running_var": [1.0, 1e-30], "eps": 0.0}, []),
        ({"running_var": [1.0, 2 * SMALLEST], "eps": 0.0}, [1]),
        ({"running_var": [nan, 1e-12]}, [1]),
        ({"running_var": [-1.0, 1.0]}, []),  # BN202
        ({"running_var": None}, []),
    ],
)
def test_dead_channels(make: Any, facts: dict[str, object], dead: list[int]) -> None:
    found = [o.evidence["channels"] for o in found_dead(make, make.layer(**facts))]
    assert found == ([dead] if dead else [])


def test_dead_channels_says_where_eps_is_only_assumed(make: Any) -> None:
    (observation,) = found_dead(make, make.layer(running_var=[0.0]))
    assert (observation.evidence["eps"], observation.evidence["eps_assumed"]) == (1e-5, True)
    (observation,) = found_dead(make, make.layer(running_var=[0.0], eps=1e-3))
    assert (observation.evidence["eps"], observation.evidence["eps_assumed"]) == (1e-3, False)


@pytest.mark.parametrize(
    ("others", "level"),
    [
        ([[0.0, 0.0]], "error"),
        ([[0.0, 0.0], [1e-12]], "error"),
        ([[0.0, 1.0]], None),
        ([[0.0, 0.0], [1.0]], None),
        ([None], None),
        ([], None),
        ([[nan]], None),
    ],
)
def test_no_data_leaves_a_model_in_which_nothing_varies(
    make: Any, others: Any, level: str | None
) -> None:
    rest = [make.layer(name=f"bn{i}", running_var=each) for i, each in enumerate(others)]
    (observation,) = found_dead(make, make.layer(running_var=[0.0, 0.0]), *rest)
    assert observation.level == level
    assert ("in every channel, here and in all other BatchNorms" in observation.message) is (
        level is not None
    )


def test_dead_channels_whose_values_are_not_in_the_file(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(found_dead(make, make.layer()))


def test_dead_channels_takes_a_threshold(make: Any) -> None:
    layer = make.layer(running_var=[1.0, 5e-6], eps=1e-5)
    assert make.seen(found_dead(make, layer)) == []
    assert len(make.seen(found_dead(make, layer, threshold=1.0))) == 1


@pytest.mark.parametrize(
    ("facts", "batches"),
    [
        ({"running_var": [1.0, 4 * SMALLEST]}, 970),  # where 0.9 * v rounds to v
        ({"running_var": [1.0, 50 * SMALLEST], "momentum": 0.01}, 9890),
        ({"running_var": [1.0, 4 * SMALLEST], "momentum": None}, None),  # no exponential decay
        ({"running_var": [1.0, 4 * SMALLEST], "momentum": 1.0}, None),
        ({"running_var": [1.0, 1.9e-14]}, None),  # small, but no proof of a constant
        ({"running_var": [1.0, 0.0]}, None),  # pruned, or flushed to zero
    ],
)
def test_a_denormal_variance_tells_how_long_the_input_was_constant(
    make: Any, facts: dict[str, object], batches: int | None
) -> None:
    (observation,) = found_dead(make, make.layer(**facts))
    assert observation.evidence.get("batches") == batches
    assert (f"for about {batches} batches or more" in observation.message) is (batches is not None)


def test_only_float32_decays_into_float32s_denormals(make: Any) -> None:
    var = make.tensor([1.0, 4 * SMALLEST], dtype="float64")
    (observation,) = found_dead(make, make.layer(running_var=var))
    assert "batches" not in observation.evidence
