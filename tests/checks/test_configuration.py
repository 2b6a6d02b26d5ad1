"""BN5xx on facts made by hand."""

from __future__ import annotations

from math import nan, prod
from typing import Any

import pytest

from bncheck.checks.configuration import (
    eps_mixed,
    eps_out_of_range,
    momentum_convention,
    momentum_one,
    momentum_out_of_range,
    momentum_zero,
    shape_mismatch,
    sync_batch_norm_left,
)
from bncheck.facts import UnknownFact


@pytest.mark.parametrize(
    ("momentum", "convention", "out_of_range"),
    [
        (0.1, False, False),
        (3e-4, False, False),  # MNASNet
        (0.01, False, False),
        (0.0, False, False),
        (None, False, False),  # a cumulative average
        (0.5, True, False),
        (0.9, True, False),
        (0.999, True, False),
        (1.0, False, False),
        (1.5, False, True),
        (-0.1, False, True),
        (nan, False, True),
    ],
)
def test_momentum(make: Any, momentum: float | None, convention: bool, out_of_range: bool) -> None:
    layer = make.layer(momentum=momentum)
    model = make.model(layer)
    assert bool(make.seen(momentum_convention(layer, model))) is convention
    assert bool(make.seen(momentum_out_of_range(layer, model))) is out_of_range


@pytest.mark.parametrize(
    ("training", "counter", "level"),
    [
        (False, 0, "info"),  # weights from TensorFlow
        (True, 0, None),  # about to be trained
        (False, 40_037, None),
        (False, None, None),
        (False, [float("nan")], None),
    ],
)
def test_a_momentum_that_was_never_used(
    make: Any, training: bool, counter: object, level: str | None
) -> None:
    layer = make.layer(momentum=0.9997, training=training, num_batches_tracked=counter)
    ((found, message),) = make.seen(momentum_convention(layer, make.model(layer)))
    assert found == level
    assert ("No batch was counted" in message) is (level == "info")


@pytest.mark.parametrize(
    ("container", "level", "number"),
    [
        ("torch-zip", None, "momentum is 0.9: a batch replaces 90% of the running statistics"),
        ("torch-export", None, "momentum is 0.9: a batch replaces 90% of the running statistics"),
        ("onnx", "info", "momentum is 0.9 in PyTorch's convention, 0.1 in ONNX's: a batch"),
    ],
)
def test_onnx_counts_momentum_the_other_way(
    make: Any, container: str, level: str | None, number: str
) -> None:
    layer = make.layer(momentum=0.9)
    ((found, message),) = make.seen(momentum_convention(layer, make.model(layer, format=container)))
    assert found == level
    assert message.startswith(number)
    assert "as noisy as an average over 1.22 batches" in message


@pytest.mark.parametrize(
    ("facts", "level", "part"),
    [
        ({"eps": 1e-5, "running_var": [1.0]}, "silent", ""),
        ({"eps": 1e-3, "running_var": [0.0, 1.0]}, "silent", ""),
        ({"eps": 0.0, "running_var": [1e-9, 1.0]}, "silent", ""),  # torchvision's detectors
        ({"eps": None}, "silent", ""),  # RMSNorm takes it from the dtype
        ({"eps": 1e-5, "running_var": None}, "silent", ""),
        ({"eps": 1e-5}, "silent", ""),
        ({"eps": 1e-5, "running_var": [nan, 1.0]}, "silent", ""),  # BN201
        ({"eps": 0.0, "running_var": [0.0, 1.0]}, None, "eps is 0 in channel 0 of 2: the output"),
        ({"eps": 1e-5, "running_var": [1.0, -0.5]}, None, "+ eps is -0.5 in channel 1 of 2"),
        ({"eps": -1e-3, "running_var": [1.0]}, None, "eps is -0.001, no number from 0 up"),
        ({"eps": nan}, None, "eps is nan"),
        ({"eps": 0.1, "running_var": [1.0]}, "warning", "BatchNorm2d(64, 0.1)?"),
    ],
)
def test_eps(make: Any, facts: dict[str, object], level: str | None, part: str) -> None:
    found = make.seen(eps_out_of_range(make.layer(**facts)))
    assert [found_level for found_level, _ in found] == ([] if level == "silent" else [level])
    assert all(part in message for _, message in found)


def test_an_unknown_constant_is_not_assessed(make: Any) -> None:
    layer = make.layer(running_var=[0.0])
    model = make.model(layer)
    checks = eps_out_of_range(layer), momentum_convention(layer, model)
    for check in (*checks, momentum_out_of_range(layer, model)):
        with pytest.raises(UnknownFact):
            list(check)


@pytest.mark.parametrize(
    ("momentum", "zero", "one"),
    [
        (0.0, True, False),
        (0, True, False),
        (1.0, False, True),
        (0.1, False, False),
        (1e-9, False, False),
        (0.999, False, False),
        (None, False, False),
        (nan, False, False),
    ],
)
def test_momentum_at_its_ends(make: Any, momentum: Any, zero: bool, one: bool) -> None:
    layer = make.layer(momentum=momentum)
    model = make.model(layer)
    assert bool(make.seen(momentum_zero(layer, model))) is zero
    assert bool(make.seen(momentum_one(layer, model))) is one


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, True),
        ({"requires_grad": True}, True),
        ({"requires_grad": False}, False),  # frozen as a whole
        ({"has_running_stats": False}, False),
    ],
)
def test_momentum_zero_may_be_meant(make: Any, facts: dict[str, object], found: bool) -> None:
    layer = make.layer(momentum=0.0, **facts)
    assert bool(make.seen(momentum_zero(layer, make.model(layer)))) is found


@pytest.mark.parametrize(
    ("training", "data", "found"), [(True, "x", True), (False, "x", False), (True, "w", False)]
)
def test_momentum_zero_in_a_graph(make: Any, training: bool, data: str, found: bool) -> None:
    """An inference graph updates nothing; weight standardization normalizes a parameter."""
    call = make.node("batch-norm", data, "y", training=training)
    layer = make.layer(momentum=0.0, training=training, has_running_stats=True, calls=(call,))
    model = make.model(layer, content="graph", graph=make.graph(call))
    messages = [message for _, message in make.seen(momentum_zero(layer, model))]
    assert bool(messages) is found
    assert all("0 in PyTorch's convention, 1 in ONNX's" in message for message in messages)


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        ([1e-5] * 9, None),
        ([], None),
        ([1e-5], None),
        ([1e-5] * 4 + [1e-3], None),  # a fifth
        ([1e-5] * 5 + [1e-3], "1 of 6 BatchNorms use eps 0.001 (bn5), the others 1e-05"),
        (
            [1e-3] * 9 + [1e-5, 0.0],
            "2 of 11 BatchNorms use eps 1e-05, 0 (bn9, bn10), the others 0.001",
        ),
        ([None] * 9 + [1e-3], None),
    ],
)
def test_eps_mixed(make: Any, eps: list[float | None], message: str | None) -> None:
    layers = [make.layer(name=f"bn{i}", eps=each) for i, each in enumerate(eps)]
    found = make.seen(eps_mixed(make.model(*layers, make.layer("layer", eps=1e-12))))
    assert len(found) == (message is not None)
    assert all(text.startswith(f"{message}: ") for _, text in found)


def test_eps_mixed_takes_its_limit(make: Any) -> None:
    layers = [make.layer(name=f"bn{i}", eps=each) for i, each in enumerate((1.0, 1.0, 2.0))]
    assert make.seen(eps_mixed(make.model(*layers))) == []
    assert len(make.seen(eps_mixed(make.model(*layers), share=0.4))) == 1


def test_eps_mixed_needs_every_eps(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(eps_mixed(make.model(make.layer(eps=1e-5), make.layer(name="other"))))


@pytest.mark.parametrize(
    ("kind", "training", "part"),
    [
        ("batch", False, None),
        ("sync-batch", False, "computes what BatchNorm does"),
        ("sync-batch", True, "needs a process group"),
    ],
)
def test_sync_batch_norm(make: Any, kind: Any, training: bool, part: str | None) -> None:
    layer = make.layer(kind, class_path="Norm", training=training)
    found = make.seen(sync_batch_norm_left(layer, make.model(layer)))
    assert len(found) == (part is not None)
    assert all(str(part) in message for _, message in found)


def test_sync_batch_norm_in_a_graph_is_an_operation_like_others(make: Any) -> None:
    layer = make.layer("sync-batch", class_path="Norm", training=False)
    assert make.seen(sync_batch_norm_left(layer, make.model(layer, content="graph"))) == []


def test_names_and_shapes_do_not_tell_a_sync_batch_norm(make: Any) -> None:
    layer = make.layer("batch")
    with pytest.raises(UnknownFact, match="class"):
        list(sync_batch_norm_left(layer, make.model(layer, content="state_dict")))


FOUR = {role: [1.0, 2.0, 3.0] for role in ("weight", "bias", "running_mean", "running_var")}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("batch", FOUR),
        ("batch", {**FOUR, "num_features": 3}),
        ("batch", {**FOUR, "weight": None, "bias": None}),
        ("frozen-batch", FOUR),
        ("instance", {"weight": [1.0], "bias": [1.0], "running_mean": None, "running_var": None}),
        ("group", {"weight": [1.0], "bias": [1.0]}),
        ("rms", {"weight": [1.0, 2.0], "bias": None}),
        ("local-response", {"weight": None, "bias": None}),
    ],
)
def test_sizes_that_agree(make: Any, kind: Any, facts: dict[str, object]) -> None:
    assert make.seen(shape_mismatch(make.layer(kind, **facts))) == []


@pytest.mark.parametrize(
    ("weight", "bias", "agree"),
    [
        ((2, 3), (2, 3), True),
        ((3,), (1, 1, 3), True),  # ONNX broadcasts
        ((2, 3), (1,), True),
        ((2, 3), (3, 2), False),
        ((6,), (2, 3), False),
    ],
)
def test_layer_norm_compares_shapes(
    make: Any, weight: tuple[int, ...], bias: tuple[int, ...], agree: bool
) -> None:
    tensors = [make.tensor([1.0] * prod(shape), shape) for shape in (weight, bias)]
    layer = make.layer("layer", weight=tensors[0], bias=tensors[1])
    assert bool(make.seen(shape_mismatch(layer))) is not agree


def test_sizes_that_disagree(make: Any) -> None:
    layer = make.layer(**{**FOUR, "running_mean": [1.0, 2.0], "num_features": 3})
    (observation,) = shape_mismatch(layer)
    assert observation.level is None
    assert observation.message == (
        "Sizes disagree (weight 3, bias 3, running_mean 2, running_var 3): the layer cannot run."
    )
    assert observation.evidence["running_mean"] == 2


def test_a_stale_num_features_still_runs(make: Any) -> None:
    (observation,) = shape_mismatch(make.layer(**FOUR, num_features=64))
    assert observation.level == "warning"
    assert observation.message.startswith("num_features is 64, but the tensors have 3 channels")


def test_sizes_need_weight_and_bias(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(shape_mismatch(make.layer(running_mean=[1.0], running_var=[1.0, 2.0])))
