"""Runs the main job with an installed wheel in an environment that holds nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures"
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


def main(environment: Path) -> None:
    """Compare the exit codes; end with 1 where one differs."""
    scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
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
    print(f"{len(EXPECTED)} runs of the bare wheel: as expected")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
