"""Who reads which format, and what came of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from processes import Command, Cost

BNCHECK = "bncheck"
LOAD = "import sys, torch; torch.load(sys.argv[1], weights_only={}, mmap={})"
LOAD_FILE = "import sys; from safetensors.torch import load_file; load_file(sys.argv[1])"
KEYS = """
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], {!r}) as file:
    list(file.keys())
"""
ONNX = "import sys, onnx; onnx.load(sys.argv[1], load_external_data={})"


@dataclass(frozen=True, slots=True)
class Rival:
    """Another way to look into a file: a Python program that takes its path."""

    name: str
    program: str
    library: str = "torch"


@dataclass(frozen=True, slots=True)
class Format:
    """A file format and who else reads it."""

    title: str
    suffix: str
    rivals: tuple[Rival, ...]


TORCH_LOAD, ONNX_LOAD = "torch.load", "onnx.load"
FORMATS = {
    "torch-state-dict": Format(
        "state_dict",
        ".pth",
        (
            Rival(TORCH_LOAD, LOAD.format(True, False)),
            Rival("torch.load, mmap", LOAD.format(True, True)),
        ),
    ),
    "torch-module": Format(
        "pickled module",
        ".pt",
        (
            Rival(TORCH_LOAD, LOAD.format(False, False)),
            Rival("torch.load, mmap", LOAD.format(False, True)),
        ),
    ),
    "safetensors": Format(
        "safetensors",
        ".safetensors",
        (
            Rival("load_file", LOAD_FILE),
            Rival("safe_open for torch, keys only", KEYS.format("pt")),
            Rival("safe_open for numpy, keys only", KEYS.format("np"), "numpy"),
        ),
    ),
    "onnx": Format("ONNX", ".onnx", (Rival(ONNX_LOAD, ONNX.format(True), "onnx"),)),
    "onnx-external": Format(
        "ONNX, external data",
        ".onnx",
        (
            Rival(ONNX_LOAD, ONNX.format(True), "onnx"),
            Rival("onnx.load, no external data", ONNX.format(False), "onnx"),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A file of ``size`` bytes where ``asked`` were wanted, and what each reader of it cost."""

    format: Format
    asked: int
    size: int
    costs: dict[str, list[Cost]]


def commands(form: Format, path: Path) -> dict[str, Command]:
    """All that read a file of this format, by name; bncheck is the first."""
    programs = {rival.name: (sys.executable, "-c", rival.program) for rival in form.rivals}
    everyone: dict[str, Command] = {BNCHECK: _bncheck(), **programs}
    return {name: (*command, str(path)) for name, command in everyone.items()}


def _bncheck() -> Command:
    """The installed command; where bncheck is only on the path, the module."""
    installed = Path(sys.executable).with_name(BNCHECK)
    return (str(installed),) if installed.exists() else (sys.executable, "-m", BNCHECK)
