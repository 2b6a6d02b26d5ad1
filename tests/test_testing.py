"""assert_healthy: what passes, what fails, and how a failure reads."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import bncheck
from bncheck.configuration.files import read
from bncheck.testing import assert_healthy

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "fixtures"
NEGATIVE = FIXTURES / "BN202-negative-variance" / "error.onnx"
HEALTHY = FIXTURES / "BN202-negative-variance" / "good.onnx"
TRAINING = FIXTURES / "BN101-training-mode" / "error-module.pt"
CHECKPOINT = FIXTURES / "BN101-training-mode" / "info-training-checkpoint.pt"
WEIGHTS = FIXTURES / "BN101-training-mode" / "unknown-state-dict.pt"


def failure(*arguments: object, **options: object) -> str:
    with pytest.raises(AssertionError) as raised:
        assert_healthy(*arguments, **options)  # type: ignore[arg-type]
    return str(raised.value)


def test_a_healthy_model_gives_its_report() -> None:
    assert assert_healthy(HEALTHY).ok
    assert assert_healthy(str(HEALTHY), level="warning").layers


def test_a_failure_reads_like_the_report() -> None:
    said = failure(NEGATIVE).splitlines()
    assert said[0] == f"{NEGATIVE} is not healthy"
    assert "  error BN202 negative-variance  bn" in said
    assert said[-2].startswith("    Fix: Restore the statistics")


@pytest.mark.parametrize(
    ("path", "options", "fails"),
    [
        (NEGATIVE, {"ignore": ["BN202", "BN506"]}, False),
        (NEGATIVE, {"select": ["BN1"]}, False),
        (NEGATIVE, {"levels": {"BN202": "warning"}}, False),
        (NEGATIVE, {"levels": {"BN202": "warning"}, "level": "warning"}, True),
        (TRAINING, {}, True),
        (TRAINING, {"assume_eval": True}, False),
        (HEALTHY, {"options": {"BN207": {"threshold": 1e9}}, "level": "info"}, True),
        (WEIGHTS, {}, False),
        (WEIGHTS, {"require": ["BN101"]}, True),
        (CHECKPOINT, {}, True),  # for training it would be in order
    ],
)
def test_what_fails(path: Path, options: dict[str, object], fails: bool) -> None:
    if fails:
        failure(path, **options)
    else:
        assert_healthy(path, **options)  # type: ignore[arg-type]


def test_a_rule_that_stays_open_is_another_failure() -> None:
    said = failure(WEIGHTS, require=["BN101"])
    assert said.splitlines()[0] == f"{WEIGHTS} cannot be shown to be healthy"
    assert "  required BN101 training-mode  was not assessed" in said


def test_a_live_module_is_judged_for_deployment() -> None:
    nn = pytest.importorskip("torch").nn
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert bncheck.check(model).ok
    assert failure(model).startswith("<Sequential> is not healthy\n")
    assert_healthy(model.eval())


def test_what_is_no_model_is_an_error_of_its_own() -> None:
    with pytest.raises(bncheck.UnreadableModel):
        assert_healthy(FIXTURES / "missing.pt")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"level": "never"}, "must be one of info, warning, error"),
        ({"select": ["BN999"]}, "unknown rule 'BN999'"),
        ({"require": ["BN101"], "ignore": ["BN101"]}, "both required and ignored"),
    ],
)
def test_a_mistake_in_a_test_is_said(options: dict[str, object], said: str) -> None:
    with pytest.raises(bncheck.ConfigurationError, match=said):
        assert_healthy(HEALTHY, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "path", "fails"),
    [
        ("ignore = ['BN202', 'BN506']", NEGATIVE, False),
        ("fail-on = 'never'", NEGATIVE, True),  # an assertion is no report
        ("level.BN202 = 'warning'", NEGATIVE, False),
        ("level.BN202 = 'warning'\nfail-on = 'warning'", NEGATIVE, True),
        ("[[ignore]]\nrules = ['BN202']\nreason = 'known'", NEGATIVE, False),
        ("[[ignore]]\nrules = ['BN202']\nreason = 'known'\nlayers = 'x'", NEGATIVE, True),
        ("profile = 'train'", CHECKPOINT, True),
        ("assume-eval = true", TRAINING, False),
    ],
)
def test_a_configuration_lies_below(tmp_path: Path, text: str, path: Path, fails: bool) -> None:
    (tmp_path / "bncheck.toml").write_text(text, "utf-8")
    configuration = read(tmp_path / "bncheck.toml")
    if fails:
        failure(path, configuration=configuration)
    else:
        assert_healthy(path, configuration=configuration)


SUITE = """
import pytest

def test_model(assert_healthy):
    assert_healthy({path!r})

def test_with_options(assert_healthy):
    assert_healthy({path!r}, ignore=["BN202"])  # BN506 is ignored by the configuration
"""


def test_the_fixture_follows_the_configuration_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "test_models.py").write_text(SUITE.format(path=str(NEGATIVE)), "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "bncheck.toml").write_text("ignore = ['BN506']")
    ran = run_pytest(tmp_path)
    assert "1 failed, 1 passed" in ran
    assert "E         error BN202 negative-variance  bn" in ran
    assert "bncheck/testing.py" not in ran.replace("\\", "/")


def run_pytest(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(bncheck.__file__).parents[1])}
    # Whether bncheck is installed here, and its plugin with it, must not matter.
    plugin = ("-p", "no:bncheck", "-p", "bncheck.pytest_plugin", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *plugin, str(folder)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    ).stdout


def test_pytest_is_told_of_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    plugin = import_module(project["entry-points"]["pytest11"]["bncheck"])
    assert hasattr(plugin, "assert_healthy")
