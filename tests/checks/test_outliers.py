"""BN208, BN213 and BN214 on facts made by hand."""

from __future__ import annotations

from array import array
from math import inf, nan, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bncheck.checks.outliers import eps_dominated, gain_outlier, mean_dominates
from bncheck.facts import UnknownFact
from bncheck.model import NormLayer
from bncheck.tensor import Tensor

FACTS: dict[str, object] = {
    "running_mean": [0.3, -0.1, 1.2, 0.0],
    "running_var": [0.8, 2.5, 0.1, 1.0],
    "weight": [0.9, 1.1, -0.4, 1.0],
    "eps": 1e-5,
}
NONE = {"running_mean": None, "running_var": None}


def found_channels(observations: Any) -> list[object]:
    return [each.evidence["channels"] for each in observations]


@pytest.mark.parametrize(
    ("facts", "small"),
    [
        ({"running_var": [1.0, 9e-5, 1.0, 1.0]}, [1]),
        ({"running_var": [1.0, 1.1e-4, 2e-5, 3e-8]}, [2, 3]),
        ({"running_var": [1.0, 9e-3, 1.0, 1.0], "eps": 1e-3}, [1]),
        ({"running_var": [9e-5] * 4}, [0, 1, 2, 3]),
        ({"running_var": [9e-5, 1.0, 1.0, 1.0], "weight": None}, [0]),
        # Nothing is at stake:
        ({}, []),
        ({"running_var": [1.0, 1.1e-4, 1.0, 1.0]}, []),
        ({"running_var": [1.0, 1e-9, 0.0, 1.0]}, []),  # dead
        ({"running_var": [9e-5, 1.0, 1.0, 1.0], "weight": [0.0, 1.0, 1.0, 1.0]}, []),
        ({"running_var": [9e-5, *[1.0] * 19], "weight": None}, []),  # 5 % and no more
        ({"running_var": [0.0] * 4}, []),
        ({"eps": 0.0}, []),
        ({"eps": -1.0}, []),  # BN506
        ({"eps": nan}, []),
        ({"eps": None}, []),
        ({"running_var": [nan] * 4}, []),  # BN201
        ({"running_var": []}, []),
        (NONE, []),
    ],
)
def test_eps_dominated(make: Any, facts: Any, small: list[int]) -> None:
    assert found_channels(eps_dominated(make.layer(**FACTS | facts))) == ([small] if small else [])


def test_eps_dominated_needs_eps(make: Any) -> None:
    with pytest.raises(UnknownFact):
        list(eps_dominated(make.layer(running_var=[1.0], weight=[1.0])))


def test_eps_dominated_says_how_much(make: Any) -> None:
    layer = make.layer(**FACTS | {"running_var": [1.0, 2e-5, 1.0, 1.0]})
    ((_, message),) = make.seen(eps_dominated(layer))
    assert message == (
        "eps (1e-05) is over 0.1 times running_var in channel 1 of 4, up to 0.5 times: it sets "
        "their scale, so that another eps gives another output."
    )


def test_eps_dominated_takes_thresholds(make: Any) -> None:
    layer = make.layer(**FACTS | {"running_var": [1.0, 9e-5, 1.0, 1.0]})
    assert found_channels(eps_dominated(layer, ratio=0.2)) == []
    assert found_channels(eps_dominated(layer, share=0.25)) == []
    assert found_channels(eps_dominated(layer, ratio=1e-6)) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("facts", "large"),
    [
        ({"weight": [1.0, 1.0, -4000.0, 1.0]}, [2]),  # above the gain, and the ratio
        ({"weight": [2000.0] * 4, "running_var": [1.0] * 4}, [0, 1, 2, 3]),  # the gain alone
        ({"weight": [1e-4, 1.0, 1e-4, 1e-4]}, [1]),  # the ratio alone
        ({"weight": [-1e-4, -1.0, -1e-4, -1e-4]}, [1]),
        ({"weight": [20.0, 1.0, 1.0, 1.0], "running_var": [1e-6, 1.0, 1.0, 1.0]}, [0]),
        ({"weight": None, "running_var": [1e-7, 1.0, 1.0, 1.0], "eps": 1e-9}, [0]),
        ({"weight": None, "running_var": [1e-7, 1.0, 1.0, 1.0], "eps": 0.0}, [0]),
        # Within bounds, or of no consequence:
        ({}, []),
        ({"weight": None}, []),
        ({"weight": [1.0, -1.0, 1.0, -1.0]}, []),
        ({"weight": [1e-3, 0.9, 1e-3, 1e-3], "running_var": [1.0] * 4}, []),
        ({"weight": [1.0, 1e-9, 1e-30, 0.0]}, []),  # pruned: BN403
        ({"weight": [0.0] * 4}, []),
        ({"weight": [1.0, 1.0, 9.0, 1.0], "running_var": [1.0, 1.0, 0.0, 1.0]}, []),  # dead
        ({"weight": [], "running_var": []}, []),
        ({"weight": [nan, 1.0, 1.0, 1.0]}, []),  # BN401
        ({"running_var": [nan, inf, 1.0, 1.0]}, []),  # BN201
        ({"running_var": [-1.0, 1.0, 1.0, 1.0]}, []),  # BN202
        ({"eps": -2.0}, []),  # BN506
        (NONE, []),
    ],
)
def test_gain_outlier(make: Any, facts: Any, large: list[int]) -> None:
    assert found_channels(gain_outlier(make.layer(**FACTS | facts))) == ([large] if large else [])


def test_gain_outlier_says_how_much(make: Any) -> None:
    layer = make.layer(weight=[1.0, 4000.0, 1.0], running_var=[1.0] * 3, eps=0.0)
    ((_, message),) = make.seen(gain_outlier(layer))
    assert message == (
        "weight / sqrt(var + eps) is 4e+03 in channel 1 of 3, 4e+03 times the layer's median: it "
        "amplifies rounding, and quantization with one scale for the layer loses the other "
        "channels."
    )


def test_gain_outlier_takes_thresholds(make: Any) -> None:
    layer = make.layer(weight=[1.0, 50.0, 1.0], running_var=[1.0] * 3, eps=0.0)
    assert found_channels(gain_outlier(layer)) == []
    assert found_channels(gain_outlier(layer, gain=40.0)) == [[1]]
    assert found_channels(gain_outlier(layer, ratio=40.0)) == [[1]]
    assert found_channels(gain_outlier(layer, ratio=0.0)) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("facts", "large"),
    [
        ({"running_mean": [0.3, -101.0, 1.2, 0.0], "running_var": [1.0] * 4}, [1]),
        ({"running_mean": [1.0, 1.0, 1.0, 1.0], "running_var": [1.0, 1e-5, 1e-6, 1.0]}, [1, 2]),
        ({"running_mean": [1e4, 0.0, 0.0, 0.0], "weight": None}, [0]),
        # Healthy, or of no consequence:
        ({}, []),
        ({"running_mean": [99.0] * 4, "running_var": [1.0] * 4}, []),
        ({"running_mean": [1e4, 0.0, 0.0, 0.0], "weight": [0.0, 1.0, 1.0, 1.0]}, []),
        ({"running_mean": [9.0, 0.0, 0.0, 0.0], "running_var": [0.0, 1.0, 1.0, 1.0]}, []),  # dead
        ({"running_mean": [nan] * 4}, []),  # BN201
        ({"running_mean": [1e4], "running_var": []}, []),  # BN508
        ({"running_mean": [1e4], "running_var": [1.0] * 4}, [0]),
        ({"running_mean": [], "running_var": []}, []),
        (NONE, []),
    ],
)
def test_mean_dominates(make: Any, facts: Any, large: list[int]) -> None:
    assert found_channels(mean_dominates(make.layer(**FACTS | facts))) == ([large] if large else [])


def test_mean_dominates_takes_a_limit_and_says_where_eps_is_assumed(make: Any) -> None:
    layer = make.layer(running_mean=[50.0], running_var=[1.0], weight=[1.0])
    assert found_channels(mean_dominates(layer)) == []
    (observation,) = mean_dominates(layer, limit=10.0)
    assert observation.evidence["eps_assumed"] is True
    assert observation.message == (
        "running_mean is 50 standard deviations in channel 0 of 1: what varies there is lost among "
        "the digits of the mean in float16, bfloat16 or int8."
    )


SIZES = st.floats(1e-6, 1e6)
CHANNELS = st.lists(st.tuples(SIZES, st.booleans(), SIZES), min_size=1, max_size=8)


@given(CHANNELS)
def test_extremes_prove_what_a_look_at_each_channel_finds(channels: Any) -> None:
    """The short cuts of the healthy path never hide a finding."""
    weight = [-size if negative else size for size, negative, _ in channels]
    var = [variance for _, _, variance in channels]
    alive = [i for i, scale in enumerate(weight) if abs(scale) > 1e-6 * max(map(abs, weight))]
    gains = {i: abs(weight[i]) / sqrt(var[i] + 1e-5) for i in alive}
    limit = min(1e3, 1e3 * sorted(gains.values())[len(gains) // 2])
    large = [i for i, gain in gains.items() if gain > limit]
    held = {"weight": _doubles(weight), "running_var": _doubles(var)}
    found = found_channels(gain_outlier(NormLayer("bn", "batch", None, held)))
    assert found == ([large] if large else [])


def _doubles(values: list[float]) -> Tensor:
    data = array("d", values)
    return Tensor((len(values),), "float64", lambda: data)
