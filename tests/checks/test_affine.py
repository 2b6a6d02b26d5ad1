"""BN4xx on facts made by hand."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from bncheck.checks.affine import (
    affine_untouched,
    non_finite_affine,
    weight_decay_on_norm,
    zero_gamma_channels,
    zero_gamma_layer,
)
from bncheck.facts import UnknownFact

TORCH = "torch.nn.modules.normalization."
ZEROS = {"weight": [0.0, 0.0]}
TRAINED = {**ZEROS, "running_mean": [0.3, -0.1], "running_var": [0.8, 2.5]}
INITIAL = {**ZEROS, "running_mean": [0.0, 0.0], "running_var": [1.0, 1.0]}


@pytest.mark.parametrize(
    ("kind", "weight", "bias", "messages"),
    [
        ("batch", [1.0, -2.0], [0.0, 0.0], []),  # a negative weight is healthy
        ("batch", None, None, []),
        (
            "batch",
            [1.0, nan],
            [0.0, 0.0],
            ["weight is NaN in channel 1 of 2: that channel outputs NaN."],
        ),
        ("layer", [1.0, nan], None, ["weight is NaN in element 1 of 2: that element outputs NaN."]),
        (
            None,
            [1.0, nan, nan],
            [0.0, nan, nan],
            ["weight and bias are NaN in 2 of 3 elements (1, 2): those elements output NaN."],
        ),
        (
            "group",
            [1.0, 1.0],
            [-inf, -inf],
            ["bias is infinite in every channel: the layer outputs infinity or NaN."],
        ),
    ],
)
def test_non_finite_affine(
    make: Any, kind: Any, weight: Any, bias: Any, messages: list[str]
) -> None:
    found = make.seen(non_finite_affine(make.layer(kind, weight=weight, bias=bias)))
    assert [message for _, message in found] == messages


def test_an_unknown_weight_is_not_assessed(make: Any) -> None:
    layer = make.layer(bias=[0.0])
    for check in (non_finite_affine(layer), zero_gamma_layer(layer, make.model(layer))):
        with pytest.raises(UnknownFact):
            list(check)


@pytest.mark.parametrize(
    ("kind", "class_path", "found"),
    [
        ("batch", None, True),
        ("group", TORCH + "GroupNorm", True),
        ("instance", None, True),
        ("layer", None, True),
        ("layer", TORCH + "LayerNorm", True),
        ("layer", "megatron.LayerNorm1P", False),
        ("rms", TORCH + "RMSNorm", True),
        ("rms", "transformers.models.gemma.modeling_gemma.GemmaRMSNorm", False),
        ("rms", None, False),
        (None, None, False),
    ],
)
def test_zeros_are_healthy_where_the_layer_may_scale_by_one_plus_weight(
    make: Any, kind: Any, class_path: str | None, found: bool
) -> None:
    layer = make.layer(kind, class_path=class_path, **ZEROS)
    levels = [level for level, _ in make.seen(zero_gamma_layer(layer, make.model(layer)))]
    assert levels == (["info"] if found else [])


@pytest.mark.parametrize(("kind", "op"), [("rms", "rms-norm"), ("layer", "layer-norm")])
def test_an_operation_of_a_graph_adds_nothing_to_its_weight(make: Any, kind: Any, op: str) -> None:
    path = "ai.onnx.SomeNormalization"
    for called, found in ((op, True), ("opaque", False)):
        calls = (make.node(called, "x", "y"),)
        layer = make.layer(kind, class_path=path, calls=calls, **ZEROS)
        assert bool(make.seen(zero_gamma_layer(layer, make.model(layer)))) is found


@pytest.mark.parametrize("weight", [[0.0, 1e-20], [1.0, 0.0], [nan, 0.0], [], None])
def test_a_weight_that_is_not_all_zero(make: Any, weight: Any) -> None:
    layer = make.layer(weight=weight)
    assert make.seen(zero_gamma_layer(layer, make.model(layer))) == []


def level_in(make: Any, facts: dict[str, object], *after: Any, **graph: Any) -> str | None:
    """The level in a complete graph where x enters a BatchNorm that makes n."""
    call = make.node("batch-norm", "x", "n")
    layer = make.layer(calls=(call,), **facts)
    model = make.model(layer, content="graph", graph=make.graph(call, *after, **graph))
    ((level, _),) = make.seen(zero_gamma_layer(layer, model))
    return level or "error"


def test_zeros_before_the_next_layer_make_a_constant(make: Any) -> None:
    relu = make.node("relu", "n", "r")
    pool = make.node("max-pool", "r", "p")
    size = make.node("shape", "r", "s")
    conv = make.node("conv", "p", "c")
    residual = make.node("add", "c x", "y")
    assert level_in(make, TRAINED, relu, pool, size, conv, residual) == "error"


def test_zeros_before_the_output_make_a_constant(make: Any) -> None:
    assert level_in(make, TRAINED, make.node("relu", "n", "y")) == "error"


def test_an_added_constant_leaves_a_constant(make: Any) -> None:
    assert level_in(make, TRAINED, make.node("add", "n", "y", {"bias": [1.0, 2.0]})) == "error"


@pytest.mark.parametrize("joins", ["add", "concat", "mul", "matmul", "conv"])
def test_zeros_that_meet_other_data_are_healthy(make: Any, joins: str) -> None:
    """A residual branch; or gates, joined branches and dynamic weights, of which less is known."""
    relu = make.node("relu", "n", "r")
    assert level_in(make, TRAINED, relu, make.node(joins, "r x", "y")) == "info"


def test_one_of_two_branches_is_enough(make: Any) -> None:
    conv = make.node("conv", "n", "c")
    assert level_in(make, TRAINED, conv, make.node("add", "n c", "y")) == "info"


def test_an_unknown_op_proves_nothing(make: Any) -> None:
    assert level_in(make, TRAINED, make.node("opaque", "n", "y")) == "info"


def test_an_untrained_layer_proves_nothing(make: Any) -> None:
    conv = make.node("conv", "n", "y")
    assert level_in(make, INITIAL, conv) == "info"
    assert level_in(make, {**ZEROS, "running_mean": None, "running_var": None}, conv) == "info"
    assert level_in(make, ZEROS, conv) == "info"


def test_an_incomplete_graph_proves_nothing(make: Any) -> None:
    call = make.node("batch-norm", "x", "n")
    layer = make.layer(calls=(call,), **TRAINED)
    model = make.model(layer, order=make.graph(call, make.node("conv", "n", "y"), complete=False))
    ((level, _),) = make.seen(zero_gamma_layer(layer, model))
    assert level == "info"


def test_every_call_of_a_shared_layer_counts(make: Any) -> None:
    calls = make.node("batch-norm", "x", "n"), make.node("batch-norm", "c", "m")
    conv, residual = make.node("conv", "n", "c"), make.node("add", "m x", "y")
    layer = make.layer(calls=calls, **TRAINED)
    graph = make.graph(calls[0], conv, calls[1], residual)
    ((level, _),) = make.seen(zero_gamma_layer(layer, make.model(layer, graph=graph)))
    assert level == "info"


def test_a_long_graph_is_walked_without_recursion(make: Any) -> None:
    chain = [make.node("relu", "n" if n == 0 else f"v{n - 1}", f"v{n}") for n in range(5000)]
    assert level_in(make, TRAINED, *chain) == "error"


@pytest.mark.parametrize(
    ("weight", "part"),
    [
        ([1.0, 0.9, 1e-9, 0.8], None),  # one of four
        ([1.0, 0.9, 1e-9, 0.0], "in 2 of 4 channels (2, 3)"),
        ([1.0, -0.9, -1e-9, 0.0], "in 2 of 4 channels (2, 3)"),
        ([1e-9, 2e-9, 1e-9, 2e-9], None),  # small, but alike
        ([1e-3, 2e-3, 1e-9, 2e-9], "in 2 of 4 channels (2, 3)"),
        ([-1.0, -2.0], None),
        ([0.0, 0.0], None),  # BN402
        ([nan, 0.0], None),  # BN401
        ([], None),
        (None, None),
    ],
)
def test_zero_gamma_channels(make: Any, weight: Any, part: str | None) -> None:
    found = make.seen(zero_gamma_channels(make.layer(weight=weight)))
    assert len(found) == (part is not None)
    assert all(str(part) in message for _, message in found)


def test_zero_gamma_channels_takes_its_limits(make: Any) -> None:
    layer = make.layer(weight=[1.0, 1.0, 1.0, 0.01])
    assert make.seen(zero_gamma_channels(layer, share=0.25)) == []
    assert make.seen(zero_gamma_channels(layer, threshold=0.1)) == []
    assert len(make.seen(zero_gamma_channels(layer, share=0.25, threshold=0.1))) == 1


@pytest.mark.parametrize(
    ("kind", "class_path", "found"),
    [
        ("rms", TORCH + "RMSNorm", True),
        ("rms", "transformers.models.gemma.modeling_gemma.GemmaRMSNorm", False),
        (None, None, False),
        ("group", None, True),
    ],
)
def test_zero_elements_are_healthy_where_one_may_be_added(
    make: Any, kind: Any, class_path: str | None, found: bool
) -> None:
    layer = make.layer(kind, class_path=class_path, weight=[1.0, 0.0])
    assert bool(make.seen(zero_gamma_channels(layer))) is found


MOVED = {"running_mean": [0.3, -0.1], "running_var": [0.8, 2.5]}
START = {"weight": [1.0, 1.0], "bias": [0.0, 0.0]}


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({**START, **MOVED}, True),
        ({**START, **MOVED, "bias": None}, True),
        ({**START, **MOVED, "bias": [0.0, 1e-6]}, False),
        ({**START, **MOVED, "weight": [1.0, 1.0001]}, False),
        ({**START, **MOVED, "weight": None, "bias": None}, False),
        ({**START, "running_mean": [0.0, 0.0], "running_var": [1.0, 1.0]}, False),
        ({**START, "running_mean": [0.0, 0.0], "running_var": [1 - 1e-5] * 2}, False),  # frozen
        ({**START, "running_mean": None, "running_var": None}, False),
        (
            {"weight": [1.0], "bias": [0.0], "running_mean": [0.3], "running_var": [0.8]},
            True,
        ),
    ],
)
def test_affine_untouched(make: Any, facts: dict[str, object], found: bool) -> None:
    assert bool(make.seen(affine_untouched(make.layer(**facts)))) is found


@pytest.mark.parametrize(
    ("decays", "part"),
    [
        ({"bn.weight": 0.0, "bn.bias": 0.0}, None),
        ({"bn.weight": 0.01, "bn.bias": 0.01}, "has weight and bias under weight decay (0.01)"),
        ({"bn.weight": 0.01, "bn.bias": 0.0}, "has weight under weight decay (0.01)"),
        (
            {"bn.weight": 0.1, "bn.bias": 0.2},
            "has weight and bias under weight decay (0.1 and 0.2)",
        ),
        ({"bn.weight": 0.01}, "has weight under weight decay (0.01)"),
    ],
)
def test_weight_decay(make: Any, decays: dict[str, float], part: str | None) -> None:
    layer = make.layer(**START)
    found = make.seen(weight_decay_on_norm(layer, make.model(layer, weight_decay=decays)))
    assert len(found) == (part is not None)
    assert all(str(part) in message for _, message in found)


@pytest.mark.parametrize("decays", [{}, {"bn.weight": 0.0}, {"other.weight": 0.1}])
def test_weight_decay_is_not_guessed(make: Any, decays: dict[str, float]) -> None:
    layer = make.layer(**START)
    with pytest.raises(UnknownFact, match="do not tell them apart"):
        list(weight_decay_on_norm(layer, make.model(layer, weight_decay=decays)))


def test_weight_decay_passes_by_what_has_no_gradient(make: Any) -> None:
    layer = make.layer(**START, requires_grad=False)
    model = make.model(layer, weight_decay={"bn.weight": 0.1, "bn.bias": 0.1})
    assert make.seen(weight_decay_on_norm(layer, model)) == []


def test_weight_decay_needs_an_optimizer(make: Any) -> None:
    layer = make.layer(**START)
    with pytest.raises(UnknownFact, match="give the training checkpoint"):
        list(weight_decay_on_norm(layer, make.model(layer)))


def test_weight_decay_on_a_norm_that_is_the_model(make: Any) -> None:
    layer = make.layer(name="", weight=[1.0, 1.0], bias=None)
    model = make.model(layer, weight_decay={"weight": 0.1})
    assert len(make.seen(weight_decay_on_norm(layer, model))) == 1
