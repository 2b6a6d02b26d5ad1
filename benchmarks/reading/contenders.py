"""Who reads which format: the files that are measured, and the programs that look into them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmarks.processes import Command

BNCHECK, FLOOR = "bncheck", "only import click"

LOAD = "import sys, torch; torch.load(sys.argv[1], weights_only={}, mmap={})"
JIT = "import sys, torch; torch.jit.load(sys.argv[1])"
EXPORT = "import sys, torch.export; torch.export.load(sys.argv[1])"
LOAD_FILE = "import sys; from safetensors.torch import load_file; load_file(sys.argv[1])"
KEYS = """
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], {!r}) as file:
    list(file.keys())
"""
OF_SHARDS = """
import json, pathlib, sys
index = pathlib.Path(sys.argv[1])
files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
shards = [str(index.with_name(name)) for name in files]
"""
LOAD_FILES = OF_SHARDS + "from safetensors.torch import load_file; [*map(load_file, shards)]"
LOAD_SHARDS = (
    OF_SHARDS + "import torch; [torch.load(s, weights_only=True, mmap={}) for s in shards]"
)
ALL_KEYS = (
    OF_SHARDS
    + """
from safetensors import safe_open
for shard in shards:
    with safe_open(shard, {!r}) as file:
        list(file.keys())
"""
)
PACKAGE = """
import sys
from torch.package import PackageImporter
PackageImporter(sys.argv[1]).load_pickle("model", "model.pkl")
"""
DISTRIBUTED = """
import sys
from torch.distributed.checkpoint.format_utils import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint import FileSystemReader, state_dict_loader
state = {}
planner = _EmptyStateDictLoadPlanner()
state_dict_loader._load_state_dict(
    state, storage_reader=FileSystemReader(sys.argv[1]), planner=planner, no_dist=True
)
"""
SESSION = "import sys, onnxruntime as ort; ort.InferenceSession(sys.argv[1])"
ONNX = "import sys, onnx; onnx.load(sys.argv[1], load_external_data={})"
ONNX_IR = "import sys, onnx_ir; onnx_ir.load(sys.argv[1])"


class Goal(Enum):
    """What a rival is compared by: see goals.py."""

    WHOLE = "torch.load, torch.jit.load and torch.export.load"
    MAPPED = "torch.load(mmap=True)"
    NONE = "any other"


@dataclass(frozen=True, slots=True)
class Rival:
    """Another way to look into a file: a Python program, or an installed command.

    Both get the path as their last argument.
    """

    name: str
    program: str = ""
    command: tuple[str, ...] = ()
    exits: tuple[int, ...] = (0,)
    goal: Goal = Goal.NONE

    @property
    def is_installed(self) -> bool:
        """Whether the command lies beside this Python."""
        return not self.command or _beside(self.command[0]).exists()

    def on(self, path: Path) -> Command:
        """The process that looks into a file."""
        if self.program:
            return Command((sys.executable, "-c", self.program, str(path)))
        return Command((str(_beside(self.command[0])), *self.command[1:], str(path)), self.exits)


@dataclass(frozen=True, slots=True)
class Format:
    """A file format and who else reads it; ``limit``: the most bytes that such a file can have."""

    title: str
    file: str
    rivals: tuple[Rival, ...]
    limit: int | None = None


PICKLESCAN = Rival("picklescan", command=("picklescan", "--path"), exits=(0, 1))
MODELSCAN = Rival("modelscan", command=("modelscan", "-p"), exits=(0, 1))
POLYGRAPHY = Rival("polygraphy inspect", command=("polygraphy", "inspect", "model"))
SCANNERS = (PICKLESCAN, MODELSCAN)
PLAIN = Rival("torch.load", LOAD.format(False, False), goal=Goal.WHOLE)
SAFE = Rival("torch.load, weights_only", LOAD.format(True, False), goal=Goal.WHOLE)
MAPPED = Rival("torch.load, mmap", LOAD.format(True, True), goal=Goal.MAPPED)
MAPPED_PLAIN = Rival("torch.load, mmap", LOAD.format(False, True), goal=Goal.MAPPED)
OF_ONNX = (Rival("onnx_ir.load", ONNX_IR), POLYGRAPHY)

FORMATS = {
    "state-dict": Format(
        "state_dict",
        "model.pth",
        (PLAIN, SAFE, MAPPED, *SCANNERS),
    ),
    "module": Format(
        "pickled module",
        "model.pt",
        (PLAIN, MAPPED_PLAIN, *SCANNERS),
    ),
    "legacy": Format("before 1.6", "model.pth", (PLAIN, SAFE, *SCANNERS)),
    "torchscript": Format(
        "TorchScript", "model.pt", (Rival("torch.jit.load", JIT, goal=Goal.WHOLE), *SCANNERS)
    ),
    "exported": Format(
        "torch.export", "model.pt2", (Rival("torch.export.load", EXPORT, goal=Goal.WHOLE),)
    ),
    "safetensors": Format(
        "safetensors",
        "model.safetensors",
        (
            Rival("load_file", LOAD_FILE),
            Rival("safe_open for torch, keys only", KEYS.format("pt")),
            Rival("safe_open for numpy, keys only", KEYS.format("np")),
        ),
    ),
    "shards": Format(
        "4 shards of safetensors",
        "model.safetensors.index.json",
        (
            Rival("load_file", LOAD_FILES),
            Rival("safe_open for torch, keys only", ALL_KEYS.format("pt")),
            Rival("safe_open for numpy, keys only", ALL_KEYS.format("np")),
        ),
    ),
    "bin-shards": Format(
        "4 shards of .bin",
        "pytorch_model.bin.index.json",
        (
            Rival("torch.load, weights_only", LOAD_SHARDS.format(False), goal=Goal.WHOLE),
            Rival("torch.load, mmap", LOAD_SHARDS.format(True), goal=Goal.MAPPED),
        ),
    ),
    "package": Format("torch.package", "model.pt", (Rival("PackageImporter", PACKAGE), *SCANNERS)),
    "distributed": Format(
        "torch.distributed checkpoint", "checkpoint", (Rival("dcp, whole", DISTRIBUTED),)
    ),
    "onnx": Format(
        "ONNX", "model.onnx", (Rival("onnx.load", ONNX.format(True)), *OF_ONNX), limit=2 * 10**9
    ),
    "onnx-external": Format(
        "ONNX, external data",
        "model.onnx",
        (
            Rival("onnx.load", ONNX.format(True)),
            Rival("onnx.load, no external data", ONNX.format(False)),
            *OF_ONNX,
        ),
    ),
    "ort": Format("ORT", "model.ort", (Rival("onnxruntime session", SESSION),), limit=2 * 10**9),
}


def commands(form: Format, path: Path) -> dict[str, Command]:
    """All that can be run on a file of this format, by name; bncheck comes first."""
    installed = [rival for rival in form.rivals if rival.is_installed]
    return {
        BNCHECK: bncheck(path),
        FLOOR: Command((sys.executable, "-c", "import click")),
        **{rival.name: rival.on(path) for rival in installed},
    }


def bncheck(path: Path) -> Command:
    """The installed command; where bncheck is only on the path, the module."""
    installed = _beside(BNCHECK)
    start = (str(installed),) if installed.exists() else (sys.executable, "-m", BNCHECK)
    return Command((*start, str(path)))


def _beside(command: str) -> Path:
    return Path(sys.executable).with_name(command)
