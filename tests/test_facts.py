from __future__ import annotations

import math
from array import array

import pytest

from bncheck.errors import BncheckError
from bncheck.facts import Evidence, Unknown, UnknownFact, unknown
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor, constant

WHY = Unknown("eps", "a state_dict holds none", "check the exported .onnx")


def layer(**facts: object) -> NormLayer:
    return NormLayer("bn", "batch", facts=facts)


class TestFacts:
    @pytest.mark.parametrize("value", [1e-5, 0.0, None])
    def test_known(self, value):
        known = layer(eps=value)
        assert (known.eps, known.knows(NormLayer.eps), known.get(NormLayer.eps, 7.0)) == (
            value,
            True,
            value,
        )

    def test_unknown_with_a_reason(self):
        known = layer(eps=WHY)
        assert not known.knows(NormLayer.eps)
        assert known.get(NormLayer.eps, 7.0) == 7.0
        with pytest.raises(UnknownFact) as caught:
            _ = known.eps
        assert caught.value.unknown is WHY
        assert str(caught.value) == "eps: a state_dict holds none; check the exported .onnx"

    def test_what_nobody_spoke_of_is_unknown_too(self):
        assert not layer().knows(NormLayer.momentum)
        with pytest.raises(UnknownFact, match=r"^momentum: not in this file$"):
            _ = layer().momentum

    def test_a_fact_knows_its_name_and_its_evidence(self):
        assert NormLayer.running_var.name == "running_var"
        assert NormLayer.running_var.evidence == {Evidence.TENSORS}
        assert Model.batch_size.evidence == {Evidence.METADATA, Evidence.GRAPH}

    def test_an_unknown_fact_is_one_of_ours(self):
        assert issubclass(UnknownFact, BncheckError)

    def test_one_reason_for_many(self):
        made = unknown((NormLayer.eps, NormLayer.training), "it has none", "ask")
        assert made == {
            "eps": Unknown("eps", "it has none", "ask"),
            "training": Unknown("mode", "it has none", "ask"),
        }


class TestCounter:
    @pytest.mark.parametrize(
        ("tensor", "expected"),
        [
            (None, None),
            (constant(1000), 1000),
            (constant(12.0, (1,)), 12),
            (constant(1, (0,)), None),
        ],
    )
    def test_number(self, tensor, expected):
        assert layer(num_batches_tracked=tensor).counter == expected

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_no_number(self, value):
        broken = Tensor((), "float32", lambda: array("f", [value]))
        with pytest.raises(UnknownFact, match="no number"):
            _ = layer(num_batches_tracked=broken).counter

    def test_unknown(self):
        with pytest.raises(UnknownFact):
            _ = layer().counter


@pytest.mark.parametrize("kind", ["batch", "sync-batch", "frozen-batch"])
def test_the_batch_family(kind):
    norm = NormLayer("a", kind)
    other = NormLayer("b", "group")
    model = Model("torch-zip", "module", (norm, other, NormLayer("c", None)), frozenset())
    assert model.batch_norms == (norm,)
