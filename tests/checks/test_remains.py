"""BN702, BN705 and BN708 on facts made by hand."""

from __future__ import annotations

from math import inf, nan, sqrt
from typing import Any

import pytest

from bncheck.checks.remains import (
    decomposed_batch_norm,
    identity_batch_norm,
    quantize_before_fold,
)
from bncheck.facts import Unknown, UnknownFact

MEAN, VAR, EPS = [0.5, -3.0], [2.0, 0.25], 1e-3
UNDOES_ITSELF = {
    "running_mean": MEAN,
    "running_var": VAR,
    "weight": [sqrt(var + EPS) for var in VAR],
    "bias": MEAN,
    "eps": EPS,
}


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        pytest.param({}, True, id="weight and bias undo the statistics"),
        pytest.param(
            {
                "running_mean": [0.0, 0.0],
                "running_var": [1 - EPS] * 2,
                "weight": [1.0, 1.0],
                "bias": [0.0, 0.0],
            },
            True,
            id="emptied after folding",
        ),
        pytest.param(
            {
                "running_mean": [0.0, 0.0],
                "running_var": [1 - EPS] * 2,
                "weight": None,
                "bias": None,
            },
            True,
            id="emptied, without weight and bias",
        ),
        pytest.param(
            {
                "running_mean": [0.0, 0.0],
                "running_var": [1.0, 1.0],
                "weight": [1.0, 1.0],
                "bias": [0.0, 0.0],
                "eps": 1e-5,
            },
            False,
            id="as created",
        ),
        pytest.param({"eps": 1e-5}, False, id="another eps"),
        pytest.param({"bias": [0.5, -3.1]}, False, id="a shift in one channel"),
        pytest.param({"weight": [sqrt(2 + EPS), -sqrt(0.25 + EPS)]}, False, id="negative"),
        pytest.param({"running_var": [2.0, nan]}, False, id="NaN"),
        pytest.param({"running_var": [2.0, inf], "weight": [1.0, inf]}, False, id="infinite"),
        pytest.param({"running_var": [2.0, -1.0]}, False, id="negative variance"),
        pytest.param({"running_var": [2.0]}, False, id="sizes that disagree"),
        pytest.param({"running_mean": None, "running_var": None}, False, id="no statistics"),
        pytest.param({"eps": None}, False, id="an eps that the library picks"),
    ],
)
def test_identity_batch_norm(make: Any, facts: dict[str, object], found: bool) -> None:
    seen = list(identity_batch_norm(make.layer(**UNDOES_ITSELF | facts)))
    assert bool(seen) is found
    if seen:
        assert seen[0].message.startswith("Does nothing: in all 2 channels the scale is 1 within")
        assert seen[0].evidence["channels"] == 2


@pytest.mark.parametrize(("factor", "found"), [(1 + 5e-6, True), (1 + 2e-5, False)])
def test_the_scale_is_compared_within_the_tolerance(make: Any, factor: float, found: bool) -> None:
    weight = make.tensor([sqrt(var + EPS) * factor for var in VAR], dtype="float64")
    facts = UNDOES_ITSELF | {
        "weight": weight,
        "running_mean": [0.0, 0.0],
        "bias": [0.0, 0.0],
    }
    assert bool(list(identity_batch_norm(make.layer(**facts)))) is found
    assert list(identity_batch_norm(make.layer(**facts), tolerance=1e-4))


def test_eps_is_asked_for_only_where_it_decides(make: Any) -> None:
    unknown = {"eps": Unknown("eps", "a state_dict holds none")}
    with pytest.raises(UnknownFact, match="eps"):
        list(identity_batch_norm(make.layer(**UNDOES_ITSELF | unknown)))
    other = UNDOES_ITSELF | unknown | {"weight": [1.0, 1.5]}
    assert not list(identity_batch_norm(make.layer(**other)))


def conv(make: Any, **attributes: object) -> Any:
    weight = make.tensor([1.0] * 6, (2, 3, 1, 1))
    return make.node("conv", "x", "c", {"weight": weight}, **attributes)


def steps(make: Any, *kinds: str, first: str = "c", **attributes: object) -> list[Any]:
    """Mul and Add by constants for each of two channels, one after the other."""
    nodes, value = [], first
    for number, kind in enumerate(kinds):
        role = "weight" if kind == "mul" else "bias"
        constant = make.tensor([0.5, 2.0], (1, 2, 1, 1))
        nodes.append(make.node(kind, value, f"s{number}", {role: constant}, **attributes))
        value = f"s{number}"
    return nodes


def decomposed(make: Any, *nodes: Any, **fields: Any) -> list[Any]:
    fields.setdefault("outputs", nodes[-1].outputs[0])
    return list(decomposed_batch_norm(make.model(graph=make.graph(*nodes, **fields))))


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        ("mul add", True),
        ("add mul add", True),  # minus mean, times scale, plus bias
        ("mul mul add", True),
        ("mul", False),  # LayerScale
        ("add mul", False),  # a bias, then LayerScale
        ("add", False),
        ("add add", False),
    ],
)
def test_decomposed_batch_norm(make: Any, kinds: str, found: bool) -> None:
    assert bool(decomposed(make, conv(make), *steps(make, *kinds.split()))) is found


def test_a_decomposed_batch_norm_is_counted_once_for_a_model(make: Any) -> None:
    (seen,) = decomposed(make, conv(make), *steps(make, "mul", "add"))
    assert seen.message.startswith("1 linear op is followed by Mul and Add with a constant")
    assert seen.evidence == {"count": 1, "after": ["c"]}


def test_what_else_reads_a_value_needs_it_as_it_is(make: Any) -> None:
    nodes = conv(make), *steps(make, "mul", "add")
    assert not decomposed(make, *nodes, outputs="s0 s1")
    assert not decomposed(make, *nodes, outputs="c s1")
    assert decomposed(make, *nodes, make.node("shape", "s0", "n"), outputs="s1")


def test_the_linear_op_must_come_directly_before(make: Any) -> None:
    relu = make.node("relu", "c", "r")
    assert not decomposed(make, conv(make), relu, *steps(make, "mul", "add", first="r"))
    assert not decomposed(make, *steps(make, "mul", "add", first="x"))


def quantized(make: Any, *nodes: Any, **fields: Any) -> list[Any]:
    layer = make.layer(calls=nodes[-1:])
    return list(quantize_before_fold(layer, make.model(layer, graph=make.graph(*nodes, **fields))))


def chain(make: Any, *kinds: str) -> list[Any]:
    """A convolution, some nodes, and a BatchNorm."""
    values = ["c", *(f"v{number}" for number in range(len(kinds)))]
    between = [
        make.node(kind, value, made, op=kind.title())
        for kind, value, made in zip(kinds, values, values[1:], strict=False)
    ]
    return [conv(make, op="Conv"), *between, make.node("batch-norm", values[-1], "y")]


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        ("quantize", True),
        ("quantize quantize", True),
        ("identity quantize identity", True),
        ("", False),
        ("relu quantize", False),
        ("quantize relu", False),
        ("max-pool quantize", False),
    ],
)
def test_quantize_before_fold(make: Any, kinds: str, found: bool) -> None:
    assert bool(quantized(make, *chain(make, *kinds.split()))) is found


def test_quantization_is_named_with_what_it_parts(make: Any) -> None:
    (seen,) = quantized(make, *chain(make, "quantize", "quantize"))
    assert seen.message.startswith("The output of c (Conv) is quantized (Quantize) before")
    assert seen.evidence == {"linear": "c", "quantize": ["v1", "v0"]}


def test_an_output_that_others_read_cannot_be_folded_anyway(make: Any) -> None:
    nodes = chain(make, "quantize")
    assert not quantized(make, *nodes, outputs="y v0")
    assert not quantized(make, make.node("relu", "c", "r"), *nodes)


def test_what_is_not_known_in_front_leaves_quantization_open(make: Any) -> None:
    with pytest.raises(UnknownFact, match="look through Opaque"):
        quantized(make, *chain(make, "opaque"))
