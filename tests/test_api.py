from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

import bncheck
from bncheck.finding import Level


def float32(*values: float) -> dict[str, object]:
    return {
        "dtype": "F32",
        "shape": [len(values)],
        "data": struct.pack(f"<{len(values)}f", *values),
    }


@pytest.fixture
def weights(tmp_path: Path):
    """The path of a safetensors file with one BatchNorm of two channels."""

    def write(running_var: tuple[float, float] = (1.5, 2.5), name: str = "w.safetensors") -> Path:
        tensors = {
            "bn.weight": float32(0.9, 1.1),
            "bn.bias": float32(0.1, 0.2),
            "bn.running_mean": float32(0.3, 0.4),
            "bn.running_var": float32(*running_var),
        }
        header, data = {}, b""
        for key, held in tensors.items():
            offsets = [len(data), len(data) + len(held["data"])]
            header[key] = {"dtype": "F32", "shape": held["shape"], "data_offsets": offsets}
            data += held["data"]
        text = json.dumps(header).encode()
        path = tmp_path / name
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        return path

    return write


class TestCheck:
    def test_healthy(self, weights):
        report = bncheck.check(weights())
        assert report.ok
        assert [layer.name for layer in report.layers] == ["bn"]
        assert "BN101" in {each.rule for each in report.not_assessed}
        report.raise_for("warning")

    @pytest.mark.parametrize("function", [bncheck.check, bncheck.inspect])
    def test_an_unreadable_file_is_named(self, function, tmp_path):
        with pytest.raises(bncheck.UnreadableModel, match=r"gone\.pt: does not exist"):
            function(tmp_path / "gone.pt")

    def test_broken(self, weights):
        path = weights((-0.1, 1.0))
        report = bncheck.check(path)
        (finding,) = report.at_or_above(Level.ERROR)
        assert (finding.rule, finding.layer) == ("BN202", "bn")
        assert not report.ok
        with pytest.raises(bncheck.UnhealthyModel, match="BN202 negative-variance bn: "):
            report.raise_for()

    @pytest.mark.parametrize("as_text", [False, True])
    def test_the_path_is_kept_as_it_was_given(self, weights, as_text):
        path = str(weights()) if as_text else weights()
        assert bncheck.check(path).models[0].path == str(path)

    @pytest.mark.parametrize("ignore", [["BN202"], ["negative-variance"], ["BN2"]])
    def test_ignore(self, weights, ignore):
        assert bncheck.check(weights((-0.1, 1.0)), ignore=ignore).ok

    def test_select(self, weights):
        report = bncheck.check(weights((-0.1, 1.0)), select=["BN201"])
        assert report.ok
        assert report.models[0].assessment.assessed == ("BN201",)

    @pytest.mark.parametrize("level", ["info", Level.INFO])
    def test_levels(self, weights, level):
        report = bncheck.check(weights((-0.1, 1.0)), levels={"BN202": level})
        assert report.ok
        assert {f.level for f in report.findings if f.rule == "BN202"} == {Level.INFO}

    @pytest.mark.parametrize("profile", ["train", "deploy"])
    def test_profile(self, weights, profile):
        assert bncheck.check(weights(), profile=profile).models[0].assessment.profile == profile

    def test_assume_eval(self, weights):
        (entry,) = bncheck.check(weights(), assume_eval=True).models
        assert entry.model.loader_calls_eval == "the caller (assume_eval)"

    def test_as_json(self, weights):
        document = bncheck.check(weights((float("nan"), 1.0))).to_dict()
        json.dumps(document, allow_nan=False)
        assert document["schema_version"] == 1
        assert document["summary"]["errors"] == 1

    @pytest.mark.parametrize(
        "options",
        [{"select": ["BN999"]}, {"ignore": ["nonsense"]}, {"levels": {"BN202": "fatal"}}],
    )
    def test_what_cannot_be_configured(self, weights, options):
        with pytest.raises(bncheck.ConfigurationError):
            bncheck.check(weights(), **options)

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4", b"\x80\x02N."])
    def test_what_is_no_model(self, tmp_path, content):
        path = tmp_path / "model.pt"
        path.write_bytes(content)
        with pytest.raises(bncheck.UnreadableModel) as caught:
            bncheck.check(path)
        assert isinstance(caught.value, bncheck.BncheckError)

    def test_a_file_that_is_cut_within_its_tensors(self, weights):
        path = weights()
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(bncheck.UnreadableModel, match="truncated"):
            bncheck.check(path)


class TestSeveralModels:
    @pytest.fixture
    def checkpoint(self, tmp_path):
        torch = pytest.importorskip("torch")
        path = tmp_path / "model.ckpt"
        state = torch.nn.BatchNorm2d(2).state_dict()
        torch.save({"model": state, "ema": {**state, "running_var": torch.tensor([1.0, -1])}}, path)
        return path

    def test_each_is_reported(self, checkpoint):
        report = bncheck.check(checkpoint)
        assert [entry.model.member for entry in report.models] == ["model", "ema"]
        assert report.summary()["files"] == 1

    def test_one_may_be_picked(self, checkpoint):
        assert bncheck.check(checkpoint, key="model").ok
        assert not bncheck.check(checkpoint, key="ema").ok

    def test_a_key_that_is_not_there(self, checkpoint):
        with pytest.raises(bncheck.UnreadableModel, match="it holds ema, model"):
            bncheck.check(checkpoint, key="best")


def test_inspect(weights):
    (model,) = bncheck.inspect(weights())
    (layer,) = model.layers
    assert isinstance(model, bncheck.Model)
    assert isinstance(layer, bncheck.NormLayer)
    assert layer.running_var.minimum == 1.5


def test_a_live_state_dict():
    torch = pytest.importorskip("torch")
    state = torch.nn.BatchNorm2d(2).state_dict()
    state["running_var"][0] = -1
    report = bncheck.check(state)
    assert [f.rule for f in report.at_or_above(Level.ERROR)] == ["BN202"]
    assert report.models[0].path == "<OrderedDict>"


def test_a_live_module():
    torch = pytest.importorskip("torch")
    report = bncheck.check(torch.nn.BatchNorm2d(2), profile="deploy")
    assert "BN101" in {finding.rule for finding in report.findings}
    assert bncheck.check(torch.nn.BatchNorm2d(2)).models[0].assessment.profile == "train"


def test_what_is_no_model_at_all():
    with pytest.raises(bncheck.NotAModel):
        bncheck.check(3)


def test_the_public_names():
    assert {"check", "inspect", "Report", "Finding", "UnreadableModel"} <= set(dir(bncheck))
    for name in bncheck.__all__:
        assert getattr(bncheck, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = bncheck.nonsense
