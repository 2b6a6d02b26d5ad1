"""The recipes for pipelines: held to the schemas of those, and run as far as they can be here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import bncheck

yaml = pytest.importorskip("yaml")
clientlib = pytest.importorskip("pre_commit.clientlib")

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "fixtures"
NEGATIVE = FIXTURES / "BN202-negative-variance" / "error.onnx"
HEALTHY = FIXTURES / "BN202-negative-variance" / "good.onnx"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
GITLAB = yaml.safe_load((ROOT / "templates" / "gitlab-ci.yml").read_text("utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
bash = pytest.mark.skipif(sys.platform == "win32", reason="runs the scripts of Linux runners")


def schema(name: str) -> Any:
    """A schema as check-jsonschema ships it."""
    try:
        package = distribution("check-jsonschema")
    except PackageNotFoundError:
        pytest.skip("check-jsonschema is not installed")
    path = package.locate_file(f"check_jsonschema/builtin_schemas/vendor/{name}.json")
    return json.loads(Path(str(path)).read_text("utf-8"))


@pytest.mark.parametrize(
    ("document", "name"), [(ACTION, "github-actions"), (GITLAB, "gitlab-ci")], ids=["action", "ci"]
)
def test_a_recipe_keeps_to_its_schema(document: Any, name: str) -> None:
    held = schema(name)
    jsonschema.validators.validator_for(held)(held).validate(document)


@pytest.mark.parametrize("step", [step for step in STEPS.values() if "run" in step], ids=str)
def test_no_input_is_pasted_into_a_script(step: Any) -> None:
    assert "${{" not in step["run"]


def test_every_input_is_used_and_every_one_that_is_used_is_there() -> None:
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text("utf-8")))
    assert used == set(ACTION["inputs"])


class Runner:
    """Runs scripts as a runner does, with bncheck installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.summary = folder / "summary.md"
        command = folder / "bin" / "bncheck"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bncheck "$@"\n')
        command.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(bncheck.__file__).parents[1]),
            "BNCHECK": str(command),
            "SARIF": str(folder / "bncheck.sarif"),
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }

    def __call__(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def check(self, paths: str, options: str = "", upload: str = "false") -> int:
        script = STEPS["Check"]["run"]
        return self(script, PATHS=paths, OPTIONS=options, UPLOAD=upload).returncode


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@bash
def test_the_action_annotates(runner: Runner) -> None:
    paths = f"{HEALTHY}\n{NEGATIVE}\n"
    ran = runner(STEPS["Check"]["run"], PATHS=paths, OPTIONS="", UPLOAD="false")
    assert ran.returncode == 1
    assert ran.stdout.startswith("::error ")
    assert runner.output.read_text() == "exit-code=1\n"
    assert "negative-variance" in runner.summary.read_text("utf-8")


@bash
def test_the_action_makes_a_file_to_upload(runner: Runner) -> None:
    assert runner.check(f"{NEGATIVE}", "--fail-on=never\n", upload="true") == 0
    outputs = dict(line.split("=", 1) for line in runner.output.read_text().splitlines())
    assert outputs["exit-code"] == "0"
    assert json.loads(Path(outputs["sarif"]).read_text("utf-8"))["version"] == "2.1.0"


@bash
@pytest.mark.parametrize("evil", ["$(touch owned)", "; touch owned", '" && touch owned'])
def test_what_an_input_says_is_no_code(runner: Runner, evil: str) -> None:
    assert runner.check(evil, upload="true") == 2
    assert runner.check(str(HEALTHY), f"--key={evil}") == 2
    assert not (runner.folder / "owned").exists()


@bash
def test_the_job_of_gitlab_writes_its_artifact(runner: Runner) -> None:
    job = GITLAB[".bncheck"]
    ran = runner(job["script"][-1], BNCHECK_PATHS=str(NEGATIVE), BNCHECK_OPTIONS="--fail-on never")
    assert (ran.returncode, ran.stdout) == (0, "")
    (found,) = (runner.folder / job["artifacts"]["reports"]["codequality"],)
    assert json.loads(found.read_text("utf-8"))[0]["check_name"]


def test_the_hook_is_one_of_pre_commit() -> None:
    (hook,) = clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    assert hook["require_serial"]
    assert hook["entry"].split() == ["bncheck", "check"]
    names = {"m.pt": True, "a/m.onnx": True, "m.safetensors": True, "m.pt.txt": False, "pt": False}
    assert {name: bool(re.search(hook["files"], name)) for name in names} == names
