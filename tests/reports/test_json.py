"""The JSON report keeps to its schema."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bncheck.cli import main
from bncheck.model import Model, NormLayer
from bncheck.report import ModelReport, Report, Unreadable
from bncheck.reports.json import dump
from bncheck.tensor import constant

SCHEMA = json.loads(files("bncheck.reports").joinpath("schema.json").read_text("utf-8"))
FIXTURES = Path(__file__).parents[2] / "fixtures"
FILE_KEYS = list(SCHEMA["$defs"]["file"]["properties"])


def parsed(*entries: ModelReport | Unreadable, skipped: tuple[str, ...] = ()) -> Any:
    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    text = dump(Report(entries, skipped).to_dict())
    assert text.isascii() and text.endswith("}\n")
    return json.loads(text, parse_constant=refuse)


def layers() -> tuple[NormLayer, ...]:
    known = {
        "num_features": 4,
        "eps": float("nan"),
        "momentum": None,
        "affine": True,
        "training": False,
        "weight": constant(1.0, (4,), "float16"),
        "bias": None,
        "num_batches_tracked": constant(3, (), "int64"),
    }
    return (NormLayer("bn\x1bü", "batch", "torch.nn.BatchNorm2d", known), NormLayer("x", None))


@pytest.fixture
def report(make: Any) -> Any:
    model = Model("onnx", "graph", layers(), frozenset(), "ema", training_state="epoch 3")
    findings = make.findings("BN202", ["bn\x1bü", None], "running_var is {}")
    missing = make.missing(["BN102"], "order", "none here", "look there", layers=[None, "x"])
    checked = make.checked(model, findings, missing, train="it holds epoch 3")
    return parsed(checked.report, Unreadable("b.pt", "is empty"), skipped=("notes.txt",))


def test_the_schema_is_sound() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_report_of_everything_keeps_to_the_schema(report: Any) -> None:
    jsonschema.validate(report, SCHEMA)


def test_an_empty_report_keeps_to_the_schema() -> None:
    jsonschema.validate(parsed(), SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("files", 0, "verdict"), "fine"),
        (("files", 0, "error"), "is broken"),
        (("files", 1, "error"), None),
        (("files", 0, "layers", 0, "kind"), "batchnorm"),
        (("files", 0, "findings", 0, "level"), "fatal"),
        (("summary", "errors"), -1),
    ],
)
def test_the_schema_refuses_what_it_should(report: Any, path: Any, value: object) -> None:
    holder = report
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, SCHEMA)


def test_keys_stand_in_documented_order(report: Any) -> None:
    assert list(report) == list(SCHEMA["properties"])
    assert [list(file) for file in report["files"]] == [FILE_KEYS] * 2
    assert list(report["files"][0]["findings"][0]) == SCHEMA["$defs"]["finding"]["required"]


def test_what_is_unknown_is_absent_and_none_is_null(report: Any) -> None:
    known, unknown = report["files"][0]["layers"]
    assert unknown == {"name": "x"}
    assert known["momentum"] is None and known["bias"] is None
    assert known["eps"] == "NaN"
    assert known["weight"] == {"dtype": "float16", "shape": [4]}
    assert "running_mean" not in known and "requires_grad" not in known


def test_the_summary_counts(report: Any) -> None:
    assert report["summary"] == {
        "files": 2,
        "layers": 2,
        "errors": 2,
        "warnings": 0,
        "infos": 0,
        "suppressed": 0,
        "unreadable": 1,
    }


def test_the_report_on_every_fixture_keeps_to_the_schema(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--format", "json", "--show", "info", str(FIXTURES)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert {file["verdict"] for file in report["files"]} == {"ok", "findings", "no-batchnorm"}
    jsonschema.validate(report, SCHEMA)
