"""Command lines in a folder of small models that are there to be folded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models

from bncheck.cli import main

SHAPE = (2, 3, 8, 8)


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str


class FoldShell:
    """Runs command lines in a folder; nothing that they leave behind goes unseen."""

    def __init__(self, folder: Path, capture: Callable[[], Any]) -> None:
        self.folder = folder
        self._capture = capture

    def __call__(self, line: str | Sequence[str]) -> Ran:
        self._capture()
        code = main(line.split() if isinstance(line, str) else [*line])
        captured = self._capture()
        return Ran(code, captured.out, captured.err)

    def fails(self, line: str) -> str:
        """Run what must not work: one line on stderr, nothing on stdout, nothing written."""
        before = {path: path.read_bytes() for path in self._files()}
        ran = self(line)
        assert ran.code == 2, ran
        assert ran.out == ""
        assert {path: path.read_bytes() for path in self._files()} == before
        *others, said = ran.err.splitlines()
        assert all("runs" in other or "run code" in other for other in others), ran.err
        assert len(said) < 300
        return said

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    @property
    def names(self) -> set[str]:
        """What is in the folder, hidden files included."""
        return {path.name for path in self.folder.iterdir()}

    def onnx(self, name: str, body: str, **shapes: tuple[int, ...]) -> None:
        """Save an ONNX model; see onnx_models."""
        onnx.save(onnx_models.model(body, shapes), str(self.folder / name))

    def npz(self, name: str, **arrays: Any) -> None:
        """Save arrays."""
        np.savez(str(self.folder / name), **arrays)


CONV_BN = "t = Conv(x, w, b)\ny = BN4(t)"
BLOCKED = "t = Conv(x, w, b)\nu = BN4(t)\nv = Tanh(u)\ny = BN4(v)"
WEIGHTS = {"w": (4, 3, 3, 3), "b": (4,)}
