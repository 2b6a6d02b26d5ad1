"""Ten architectures of benchmarks/accuracy: a false alarm shows here before it is measured."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

for package in ("onnx", "onnxscript", "pytorchcv", "safetensors", "transformers"):
    pytest.importorskip(package)
if not hasattr(signal, "SIGALRM"):
    pytest.skip("an export is stopped by a signal", allow_module_level=True)

torch = pytest.importorskip("torch")
corpus = pytest.importorskip("benchmarks.accuracy.corpus")
formats = pytest.importorskip("benchmarks.accuracy.formats")
judging = pytest.importorskip("benchmarks.accuracy.judge")
traps = pytest.importorskip("benchmarks.accuracy.traps")
work = pytest.importorskip("benchmarks.accuracy.work")

ARCHITECTURES = (
    "mlp",
    "resnet10",
    "mobileone",
    "transformers bert",
    "dcgan",
    "mobilenetv2_wd4",
    "siamese",
    "transformers gemma",
    "style transfer",
    "unet",
)
FORMATS_EACH = 3
TRAPPED = "resnet20_cifar10"

SLOW = {"pt2", "ONNX dynamo plain"}
UNSCRIPTABLE = {"resnet10", "transformers bert", "mobilenetv2_wd4", "transformers gemma"}


def files() -> Iterator[tuple[str, str]]:
    """Some formats of each network, all formats in turn."""
    turns = cycle(formats.FORMATS)
    for name in ARCHITECTURES:
        for kind in islice(turns, FORMATS_EACH):
            if name not in UNSCRIPTABLE or kind != "TorchScript scripted":
                yield name, kind


@cache
def network(name: str) -> Any:
    return corpus.network(name)


def said_of(format: Any, made: Any, folder: Path) -> tuple[dict[str, str], int]:
    """Errors and warnings, and the number of rules that judged anything."""
    inputs = work.as_wanted(made.module, made.inputs)
    verdict = judging.judge(formats.write(format, made.module, inputs, folder))
    return verdict.said, len(verdict.assessed)


@pytest.mark.parametrize(("name", "kind"), [*files()])
def test_healthy(name: str, kind: str, tmp_path: Path) -> None:
    said, assessed = said_of(formats.FORMATS[kind], network(name), tmp_path)
    assert not said
    assert assessed


@pytest.mark.parametrize(("turn", "trap"), [*enumerate(traps.TRAPS)])
def test_trap(turn: int, trap: str, tmp_path: Path) -> None:
    made = network(TRAPPED)
    made = made._replace(module=copy.deepcopy(made.module))
    with torch.no_grad():
        assert traps.TRAPS[trap].plant(made)
    quick = [format for kind, format in traps.TRAPS[trap].files.items() if kind not in SLOW]
    said, assessed = said_of(quick[turn % len(quick)], made, tmp_path)
    assert not said
    assert assessed
