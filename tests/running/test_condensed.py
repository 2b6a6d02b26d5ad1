"""What is left of a model once it has been judged, and that no report misses the rest."""

from __future__ import annotations

import pickle
from array import array
from pathlib import Path

import pytest

from bncheck.configuration.settings import plan
from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.graph import Graph
from bncheck.model import Model, NormLayer
from bncheck.report import layer_to_dict
from bncheck.reports.summary import summary
from bncheck.reports.verdict import Style
from bncheck.running.condensed import Detail, condensed, counted
from bncheck.running.discover import Candidate
from bncheck.running.outcome import Checked, Outcome
from bncheck.running.runner import Job, Way, entries
from bncheck.tensor import Tensor, constant

FIXTURES = Path(__file__).parents[2] / "fixtures"
FOLDERS = ("BN101-training-mode", "BN202-negative-variance", "BN701-foldable-batchnorm")
FILES = [path for folder in FOLDERS for path in sorted((FIXTURES / folder).iterdir())]


def truncated() -> array[float]:
    raise UnreadableModel("ends at byte 7")


LAYER = NormLayer(
    "bn",
    "batch",
    "torch.nn.BatchNorm2d",
    {
        "num_features": 2,
        "eps": Unknown("eps", "none here"),
        "momentum": None,
        "calls": (),
        "weight": None,
        "running_mean": constant(0.5, (2,)),
        "running_var": Tensor((2,), "float32", truncated),
    },
)
MODEL = Model("onnx", "graph", (LAYER,), frozenset(), "ema", facts={"graph": Graph(())})


@pytest.mark.parametrize("detail", [Detail.FACTS, Detail.VALUES])
def test_json_says_the_same(detail: Detail) -> None:
    (layer,) = condensed(MODEL, detail).layers
    assert layer_to_dict(layer) == layer_to_dict(LAYER)


@pytest.mark.parametrize("detail", Detail)
def test_it_can_be_sent_to_another_process(detail: Detail) -> None:
    small = condensed(MODEL, detail)
    assert not small.facts
    sent = pickle.loads(pickle.dumps(small))
    assert (sent.member, sent.layers[0].name, sent.layers[0].kind) == ("ema", "bn", "batch")


def test_values_are_kept_for_those_who_draw_them() -> None:
    (layer,) = pickle.loads(pickle.dumps(condensed(MODEL, Detail.VALUES))).layers
    assert list(layer.running_mean.values) == [0.5, 0.5]
    with pytest.raises(UnknownFact, match="ends at byte 7"):
        _ = layer.running_var.values
    (layer,) = condensed(MODEL, Detail.FACTS).layers
    with pytest.raises(UnknownFact, match="were not kept"):
        _ = layer.running_mean.values


@pytest.mark.parametrize("fail_on", ["error", "warning", "info", "never"])
def test_the_last_line_misses_nothing(fail_on: str) -> None:
    style = Style(fail_on=fail_on)  # type: ignore[arg-type]
    decided = plan()
    jobs = [Job(Candidate(path, True), decided) for path in FILES]
    checked = [entry for job in jobs for entry in entries(job, Way()) if isinstance(entry, Checked)]
    small = [Checked(counted(each.report, style.is_wrong), each.plan) for each in checked]
    assert not any(layer.name for each in small for layer in each.report.model.layers)
    outcomes = [Outcome(tuple(held), style.fail_on) for held in (checked, small)]
    assert len({summary(outcome, style) for outcome in outcomes}) == 1
    assert len({outcome.exit_code for outcome in outcomes}) == 1
