"""BN3xx on facts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.checks.batch import one_value_per_channel, tiny_batch
from bncheck.facts import UnknownFact
from bncheck.model import BatchSize

SOURCE = "hyper_parameters.batch_size"
FROZEN = {"training": False, "requires_grad": False}


@pytest.mark.parametrize(
    ("samples", "level"),
    [(1, "warning"), (4, "warning"), (5, "info"), (15, "info"), (16, None), (256, None)],
)
def test_tiny_batch(make: Any, samples: int, level: str | None) -> None:
    model = make.model(make.layer(), batch_size=BatchSize(samples, SOURCE))
    assert [found for found, _ in make.seen(tiny_batch(model))] == ([level] if level else [])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            BatchSize(2, SOURCE),
            "Statistics come from batches of 2 (hyper_parameters.batch_size): counting each once, "
            "the variance has a standard error of 141%.",
        ),
        (
            BatchSize(2, "input x of the graph", positions=49),
            "Statistics come from batches of 2 (input x of the graph): counting each once, the "
            "variance has a standard error of 141%; over 98 independent positions the error is "
            "14%.",
        ),
        (
            BatchSize(1, SOURCE, positions=51),
            "Statistics come from batches of 1 (hyper_parameters.batch_size): counting each once, "
            "the variance is undefined; over 51 independent positions the error is 20%.",
        ),
    ],
)
def test_tiny_batch_names_its_numbers(make: Any, size: BatchSize, message: str) -> None:
    assert make.seen(tiny_batch(make.model(make.layer(), batch_size=size))) == [
        ("warning", message)
    ]


@pytest.mark.parametrize(
    ("size", "level"),
    [
        (BatchSize(1, SOURCE, positions=1), "error"),
        (BatchSize(1, SOURCE, positions=2), "warning"),
        (BatchSize(2, SOURCE, positions=1), "warning"),
        (BatchSize(1, SOURCE), "warning"),
    ],
)
def test_one_value_has_no_variance(make: Any, size: BatchSize, level: str) -> None:
    model = make.model(make.layer(), batch_size=size)
    assert [found for found, _ in make.seen(tiny_batch(model))] == [level]


def test_a_state_dict_without_counters_may_be_frozen(make: Any) -> None:
    """FrozenBatchNorm has none, and neither have checkpoints of before torch 0.4.1."""
    size = BatchSize(2, SOURCE)
    old = make.layer(num_batches_tracked=None)
    with pytest.raises(UnknownFact, match="may be frozen"):
        list(tiny_batch(make.model(old, batch_size=size)))
    for counted in ({"num_batches_tracked": 9}, {"num_batches_tracked": None, "training": True}):
        model = make.model(old, make.layer(**counted), batch_size=size)
        assert len(make.seen(tiny_batch(model))) == 1


def test_tiny_batch_takes_its_limits(make: Any) -> None:
    model = make.model(make.layer(), batch_size=BatchSize(8, SOURCE))
    assert make.seen(tiny_batch(model, info=8)) == []
    assert [level for level, _ in make.seen(tiny_batch(model, warn=8))] == ["warning"]


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [{"kind": "group"}, {"kind": "layer"}],
        [{"kind": "frozen-batch"}],
        [FROZEN, FROZEN, {"kind": "frozen-batch"}],
        [{"has_running_stats": False}],
    ],
)
def test_a_model_that_takes_no_batch_statistics_needs_no_batch_size(
    make: Any, layers: list[dict[str, object]]
) -> None:
    assert make.seen(tiny_batch(make.model(*(make.layer(**facts) for facts in layers)))) == []


@pytest.mark.parametrize(
    "facts",
    [{"training": False}, {"requires_grad": False}, {"training": True, "requires_grad": False}],
)
def test_a_layer_may_be_frozen_in_part(make: Any, facts: dict[str, object]) -> None:
    layers = [make.layer(**FROZEN), make.layer(**facts)]
    model = make.model(*layers, batch_size=BatchSize(2, SOURCE))
    assert len(make.seen(tiny_batch(model))) == 1


def test_an_unknown_batch_size_is_not_assessed(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(tiny_batch(make.model(make.layer())))


def test_sync_batch_norm_sees_an_unknown_number_of_devices(make: Any) -> None:
    sync = make.layer("sync-batch")
    with pytest.raises(UnknownFact, match="all devices"):
        list(tiny_batch(make.model(sync, batch_size=BatchSize(2, SOURCE))))
    assert make.seen(tiny_batch(make.model(sync, batch_size=BatchSize(32, SOURCE)))) == []
    mixed = make.model(sync, make.layer(), batch_size=BatchSize(2, SOURCE))
    assert len(make.seen(tiny_batch(mixed))) == 1


TRAINING = {"training": True, "has_running_stats": True}
EVAL = {"training": False, "has_running_stats": True}
WITHOUT = {"training": False, "has_running_stats": False}


def normalizing(
    make: Any, kind: str, shape: Any, class_path: str | None = None, **facts: object
) -> list[tuple[str | None, str]]:
    """What BN302 says of one call on data of some shape in a module."""
    attributes = {n: facts.pop(n) for n in ("use_input_stats",) if n in facts}
    call = make.node(f"{kind}-norm", "x", "y", **attributes)
    layer = make.layer(kind, class_path=class_path, calls=(call,), **facts)
    model = make.model(layer, graph=make.graph(call, shapes={"x": shape}))
    return make.seen(one_value_per_channel(layer, model))


@pytest.mark.parametrize(
    ("kind", "shape", "facts", "found"),
    [
        ("batch", (1, 4, 1, 1), TRAINING, True),
        ("batch", (1, 4), TRAINING, True),
        ("batch", (1, 4, 1, 1), WITHOUT, True),
        ("batch", (1, 4, 1, 1), EVAL, False),
        ("batch", (2, 4, 1, 1), TRAINING, False),
        ("batch", (1, 4, 1, 3), TRAINING, False),
        ("batch", (None, 4, 7, None), TRAINING, False),
        ("instance", (8, 4, 1, 1), WITHOUT, True),
        ("instance", (8, 4, 1, 1), {"use_input_stats": True}, True),
        ("instance", (8, 4, 1, 1), {"use_input_stats": False}, False),
        ("instance", (8, 4, 1, 1), EVAL, False),
        ("instance", (None, 4, 1), WITHOUT, True),
        ("instance", (8, 4, 2, 1), WITHOUT, False),
        ("group", (8, 4, 1, 1), {"num_groups": 4}, True),
        ("group", (8, 4), {"num_groups": 4}, True),
        ("group", (8, 4, 1, 1), {"num_groups": 2}, False),
        ("group", (8, 4, 5, 5), {"num_groups": 4}, False),
        ("group", (8, 4, None, None), {"num_groups": 2}, False),
    ],
)
def test_one_value_per_channel(
    make: Any, kind: str, shape: Any, facts: dict[str, object], found: bool
) -> None:
    assert bool(normalizing(make, kind, shape, **facts)) is found


@pytest.mark.parametrize(
    ("kind", "shape", "facts"),
    [
        ("batch", (None, 4, 1, 1), TRAINING),
        ("batch", (1, 4, None, 1), TRAINING),
        ("batch", (), TRAINING),
        ("instance", (8, 4, None), WITHOUT),
        ("instance", (4, 9), WITHOUT),  # one sample of 9 positions, without its axis
        ("group", (8, None, 1, 1), {"num_groups": 4}),
    ],
)
def test_a_size_that_decides_must_be_known(
    make: Any, kind: str, shape: Any, facts: dict[str, object]
) -> None:
    with pytest.raises(UnknownFact, match="shapes"):
        normalizing(make, kind, shape, **facts)


def test_an_instance_norm_may_be_given_one_sample(make: Any) -> None:
    """(C, H, 1) for InstanceNorm2d looks like samples of one position."""
    path = "torch.nn.modules.instancenorm.InstanceNorm2d"
    with pytest.raises(UnknownFact, match="shapes"):
        normalizing(make, "instance", (4, 9, 1), path, **WITHOUT)
    assert normalizing(make, "instance", (1, 4, 1, 1), path, **WITHOUT)


def test_several_channels_in_a_group_are_several_values(make: Any) -> None:
    """Whatever the size of the input, and wherever the layer is called."""
    wide = make.layer("group", num_groups=2, weight=[1.0] * 4)
    assert make.seen(one_value_per_channel(wide, make.model(wide))) == []
    narrow = make.layer("group", num_groups=4, weight=[1.0] * 4)
    with pytest.raises(UnknownFact):
        list(one_value_per_channel(narrow, make.model(narrow)))


def test_one_value_names_the_shape(make: Any) -> None:
    assert normalizing(make, "instance", (None, 4, 1, 1), **WITHOUT) == [
        (
            None,
            "Normalizes a single value in each sample and channel (input ? x 4 x 1 x 1): it is its "
            "own mean, so that nothing of the input is left and the output is the bias.",
        )
    ]


def test_a_standardized_weight_is_no_data(make: Any) -> None:
    call = make.node("batch-norm", "w", "y")
    layer = make.layer(calls=(call,), **WITHOUT)
    graph = make.graph(call, shapes={"w": (1, 4, 1, 1)})
    model = make.model(layer, content="graph", graph=graph)
    assert make.seen(one_value_per_channel(layer, model)) == []
