"""Runs the main job with an installed wheel, in environments that hold nothing else.

``python .ci/bare.py FOLDER``: the folder holds one wheel. Every Python at hand that it is made for
gets an environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures"
MINORS = range(11, 20)
ASK = "import sys; print(sys.version_info[:2], sys.implementation.name)"
EXPECTED = {
    ("--version",): 0,
    ("rules",): 0,
    ("explain", "BN101"): 0,
    ("BN101-training-mode/error-module.pt",): 1,
    ("BN101-training-mode/good-module.pt",): 0,
    ("BN101-training-mode/unknown-state-dict.pt",): 0,
    ("BN101-training-mode/unknown-state-dict.pt", "--require", "BN101"): 1,
    ("BN202-negative-variance/error.onnx",): 1,
    ("BN701-foldable-batchnorm/good-folded.onnx",): 0,
    ("inspect", "BN101-training-mode/good-preserve.onnx"): 0,
    ("missing.pt",): 2,
}


def main(folder: Path) -> None:
    """Install and run on every Python; end with 1 where something is not as expected."""
    (wheel,) = folder.glob("*.whl")
    for python in interpreters():
        with tempfile.TemporaryDirectory() as scratch:
            environment = Path(scratch) / "venv"
            subprocess.run([python, "-m", "venv", environment], check=True)
            scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
            subprocess.run([scripts / "python", "-m", "pip", "install", "-q", wheel], check=True)
            _judge(scripts)
        print(f"{python}: {len(EXPECTED)} runs of the bare wheel, as expected")


def interpreters() -> list[str]:
    """A Python of each version from 3.11 on, this one first."""
    found: dict[str, str] = {}
    for candidate in _candidates():
        asked = subprocess.run([candidate, "-c", ASK], capture_output=True, text=True)
        if asked.returncode == 0:
            found.setdefault(asked.stdout, candidate)
    return list(found.values())


def _candidates() -> Iterator[str]:
    yield sys.executable
    names = [f"python3.{minor}" for minor in MINORS]
    yield from filter(None, map(shutil.which, names))
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for name in names:
        yield from map(str, root.glob(f"versions/*/bin/{name}"))


def _judge(scripts: Path) -> None:
    """Compare the exit codes."""
    for module in ("torch", "onnx"):
        found = subprocess.run([scripts / "python", "-c", f"import {module}"], capture_output=True)
        if found.returncode == 0:
            sys.exit(f"{module} is installed: this proves nothing")
    for arguments, expected in EXPECTED.items():
        run = subprocess.run(
            [scripts / "bncheck", *arguments], cwd=FIXTURES, capture_output=True, text=True
        )
        if run.returncode != expected or "Traceback" in run.stderr:
            sys.exit(f"bncheck {' '.join(arguments)}: {run.returncode}\n{run.stdout}{run.stderr}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
