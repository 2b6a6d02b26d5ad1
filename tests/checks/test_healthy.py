"""Traps: what looks wrong and is right gives no error and no warning, whatever the rule."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck import catalogue
from bncheck.engine import assess
from bncheck.finding import Finding, Level
from bncheck.model import Model, NormLayer

TRAINED = {
    "num_features": 3,
    "affine": True,
    "running_mean": [0.3, -0.1, 1.2],
    "running_var": [0.8, 2.5, 0.1],
    "num_batches_tracked": 900,
    "weight": [0.9, 1.2, -0.4],  # a negative weight is normal
    "bias": [0.1, -0.2, 0.3],
}
MODULE = {
    **TRAINED,
    "eps": 1e-5,
    "momentum": 0.1,
    "track_running_stats": True,
    "training": False,
    "has_running_stats": True,
    "requires_grad": True,
}
INITIAL = {"running_mean": [0.0] * 3, "running_var": [1.0] * 3}


def loud(model: Model) -> list[Finding]:
    """The errors and warnings of all rules."""
    findings = assess(model, catalogue.load().values()).findings
    return [finding for finding in findings if finding.level is not Level.INFO]


def in_graph(make: Any, *nodes: Any, layers: tuple[NormLayer, ...], **fields: Any) -> Model:
    return make.model(*layers, content="graph", graph=make.graph(*nodes, **fields))


def norm(make: Any, data: str, output: str, **attributes: object) -> Any:
    roles = ("weight", "bias", "running_mean", "running_var")
    parameters = {role: TRAINED[role] for role in roles}
    return make.node("batch-norm", data, output, parameters, **attributes)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({}, id="a trained module in eval mode"),
        pytest.param({"num_batches_tracked": 0}, id="counter 0 with real statistics"),
        pytest.param({"num_batches_tracked": None}, id="an old checkpoint without counters"),
        pytest.param({"num_batches_tracked": 3}, id="a counter reset by update_bn"),
        pytest.param({"num_batches_tracked": 1800}, id="called twice in each step"),
        pytest.param({"weight": [0.0] * 3}, id="a zero-initialised residual branch"),
        pytest.param({"running_var": [1.0, 1.9e-14, 0.0]}, id="dead channels"),
        pytest.param({"eps": 0.0}, id="eps 0"),
        pytest.param({"eps": 1e-3}, id="eps 1e-3"),
        pytest.param({"momentum": 3e-4}, id="momentum 3e-4"),
        pytest.param({"momentum": None}, id="a cumulative average"),
        pytest.param({"momentum": 1.0}, id="meta-learning with momentum 1"),
        pytest.param({"momentum": 0.0, "requires_grad": False}, id="frozen by momentum 0"),
        pytest.param({"kind": "sync-batch"}, id="trained on several devices"),
        pytest.param({"weight": [1.0] * 3, "bias": [0.0] * 3}, id="an affine left alone"),
        pytest.param({"weight": [0.9, 1e-12, 0.0]}, id="channels without weight"),
        pytest.param({**INITIAL, "num_batches_tracked": None}, id="frozen, variance 1"),
        pytest.param(
            {**INITIAL, "running_var": [1 - 1e-5] * 3, "num_batches_tracked": None},
            id="frozen, variance 1 - eps",
        ),
        pytest.param(
            {**INITIAL, "running_var": [1 - 1e-5] * 3, "num_batches_tracked": 0},
            id="frozen, loaded into a BatchNorm",
        ),
        pytest.param(
            {**INITIAL, "weight": [1.0] * 3, "bias": [0.0] * 3, "num_batches_tracked": 0},
            id="an untrained model",
        ),
        pytest.param(
            {**INITIAL, "weight": [0.0] * 3, "bias": [0.0] * 3, "num_batches_tracked": 0},
            id="an untrained residual branch",
        ),
        pytest.param({"requires_grad": False}, id="a frozen backbone"),
        pytest.param(
            {"weight": None, "bias": None, "affine": False, "requires_grad": False},
            id="without weight and bias",
        ),
    ],
)
def test_module(make: Any, facts: dict[str, object]) -> None:
    first = make.layer(name="bn1", **MODULE)
    assert loud(make.model(first, make.layer(name="bn2", **{**MODULE, **facts}))) == []


def test_a_bare_state_dict_has_no_mode(make: Any) -> None:
    other = {"running_mean": [0.5, 0.2, -0.3], "running_var": [1.5, 0.3, 0.6]}
    layers = [make.layer(name="bn1", **TRAINED), make.layer(name="bn2", **TRAINED | other)]
    model = make.model(*layers, content="state_dict")
    result = assess(model, catalogue.load().values())
    assert result.findings == ()
    open_ = {each.rule for each in result.not_assessed}
    assert {"BN101", "BN102", "BN103", "BN104", "BN106", "BN501", "BN506", "BN701"} <= open_
    assert {"BN201", "BN202", "BN203", "BN204", "BN401", "BN508"} <= set(result.assessed)


def test_a_training_checkpoint_is_in_training_mode_by_right(make: Any) -> None:
    frozen = make.layer(name="backbone", **{**MODULE, "requires_grad": False})
    half = make.layer(name="neck", **{**MODULE, "training": True, "requires_grad": False})
    head = make.layer(name="head", **{**MODULE, "training": True})
    assert loud(make.model(frozen, half, head, training_state="optimizer state")) == []


@pytest.mark.parametrize("kind", ["instance", "group", "layer", "rms", "local-response", None])
def test_other_norms_do_not_depend_on_the_mode(make: Any, kind: Any) -> None:
    facts = {"weight": [1.0, 1.0], "bias": [0.0, 0.0], "eps": 1e-6, "training": True}
    layer = make.layer(kind, **facts, has_running_stats=False, requires_grad=False)
    assert loud(make.model(layer, make.layer(name="bn", **MODULE))) == []


def test_gemma_scales_by_one_plus_weight(make: Any) -> None:
    path = "transformers.models.gemma.modeling_gemma.GemmaRMSNorm"
    layer = make.layer("rms", class_path=path, weight=[0.0] * 3, bias=None, eps=1e-6)
    assert assess(make.model(layer), catalogue.load().values()).findings == ()


def test_weight_standardization_normalizes_a_parameter(make: Any) -> None:
    call = make.node("batch-norm", "conv.weight", "w", training=True, momentum=0.0)
    facts = {"weight": [1.0], "bias": None, "running_mean": None, "running_var": None}
    layer = make.layer(calls=(call,), training=True, has_running_stats=False, eps=1e-6, **facts)
    conv = make.node("conv", "x w", "y")
    assert loud(in_graph(make, call, conv, layers=(layer,))) == []


def test_instance_norm_decomposes_to_a_batch_norm_without_statistics(make: Any) -> None:
    flat = make.node("reshape", "x", "flat")
    call = make.node("batch-norm", "flat", "y", training=True)
    facts = {"weight": None, "bias": None, "running_mean": None, "running_var": None}
    layer = make.layer(calls=(call,), training=True, has_running_stats=False, eps=1e-5, **facts)
    model = in_graph(make, flat, call, layers=(layer,), shapes={"flat": (1, 6, 5, 5)})
    assert loud(model) == []


def test_onnx_momentum_of_one_tenth(make: Any) -> None:
    """Its exporter wrote PyTorch's 0.1 unconverted, and nothing reads it at inference."""
    conv, call = make.node("conv", "x", "c"), norm(make, "c", "y", training=False)
    facts = {**MODULE, "momentum": 0.9, "num_batches_tracked": None}
    assert loud(in_graph(make, conv, call, layers=(make.layer(calls=(call,), **facts),))) == []


def test_a_trained_graph_with_a_zero_residual_branch(make: Any) -> None:
    conv, call = make.node("conv", "x", "c"), norm(make, "c", "n", training=False)
    add, relu = make.node("add", "n x", "s"), make.node("relu", "s", "y")
    layer = make.layer(calls=(call,), **{**MODULE, "weight": [0.0] * 3})
    assert loud(in_graph(make, conv, call, add, relu, layers=(layer,))) == []


def test_dropout_at_inference_does_nothing(make: Any) -> None:
    call = norm(make, "x", "n", training=False)
    dropout = make.node("dropout", "n", "y", training=False, p=0.5)
    assert loud(in_graph(make, call, dropout, layers=(make.layer(calls=(call,), **MODULE),))) == []


def test_equal_statistics_of_an_averaged_model(make: Any) -> None:
    layers = [make.layer(name=name, **MODULE) for name in ("bn", "module.bn")]
    assert loud(make.model(*layers)) == []
