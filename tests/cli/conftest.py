"""A folder of small files, each with one word in it, and a reader that knows these words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bncheck.cli import main
from bncheck.errors import NotAModel, UnreadableModel
from bncheck.facts import Evidence, Unknown, unknown
from bncheck.graph import Graph
from bncheck.model import Content, Model, NormLayer
from bncheck.tensor import Tensor, constant

WEIGHTS = {
    "num_features": 4,
    "weight": constant(0.9, (4,)),
    "bias": constant(0.1, (4,)),
    "running_mean": constant(0.2, (4,)),
    "running_var": constant(0.8, (4,)),
    "num_batches_tracked": constant(1000, (), "int64"),
}
FLAGS = {
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": True,
    "track_running_stats": True,
    "training": False,
    "has_running_stats": True,
    "requires_grad": True,
    "calls": (),
}
NO_STATISTICS = {"has_running_stats": False, "running_mean": None, "running_var": None}
NO_FLAGS = {
    name: Unknown(name, "a state_dict holds none", "check the exported .onnx") for name in FLAGS
}


def model(*layers: NormLayer, content: Content = "module", member: str | None = None) -> Model:
    known = {"graph": Graph(()), "order": Graph(())} if content == "module" else {}
    missing = unknown((Model.graph, Model.order, Model.batch_size), "not in this file")
    evidence = frozenset({Evidence.TENSORS, Evidence.FLAGS})
    facts = {**missing, **known}
    return Model("torch-zip", content, layers, evidence, member, "one block", facts=facts)


def layer(name: str, flags: dict[str, object] = FLAGS, **facts: object) -> NormLayer:
    return NormLayer(name, "batch", facts={**flags, **WEIGHTS, **facts})


def truncated() -> Tensor:
    def load() -> object:
        raise UnreadableModel("ends at byte 7: truncated download, or damaged")

    return Tensor((4,), "float32", load)  # type: ignore[arg-type]


def weights(member: str | None = None) -> Model:
    return model(
        layer("bn1", NO_FLAGS), layer("bn2", NO_FLAGS), content="state_dict", member=member
    )


MODELS: dict[str, Callable[[], tuple[Model, ...]]] = {
    "healthy": lambda: (model(layer("bn1"), layer("bn2")),),
    "weights": lambda: (weights(),),
    "training": lambda: (model(layer("bn1", training=True), layer("bn2", training=True)),),
    "negative": lambda: (model(layer("bn1", running_var=constant(-0.1, (4,)))),),
    "untracked": lambda: (model(layer("bn1", training=True, **NO_STATISTICS)),),
    "convention": lambda: (model(layer("bn1", momentum=0.9)),),
    "dead": lambda: (model(layer("bn1", running_var=constant(1e-20, (4,)))),),
    "several": lambda: (
        weights("ema"),
        replace(weights("model"), layers=(layer("bn1", running_var=constant(-0.1, (4,))),)),
    ),
    "late": lambda: (weights("good"), replace(weights("bad"), layers=(truncated_layer(),))),
    "transformer": lambda: (model(NormLayer("ln", "layer", facts={**FLAGS, **WEIGHTS})),),
    "escape": lambda: (model(layer("bn\x1b[31m1", running_var=constant(-0.1, (4,)))),),
    "umlaut": lambda: (model(layer("schicht.übergang", running_var=constant(-0.1, (4,)))),),
}


def truncated_layer() -> NormLayer:
    return layer("bn1", running_var=truncated(), running_mean=truncated())


def read(path: Path) -> tuple[Model, ...]:
    if not path.exists():
        raise UnreadableModel("does not exist")
    word = path.read_text("utf-8")
    if word == "broken":
        raise UnreadableModel("zip archive has no end: truncated download?")
    if word == "bug":
        raise ZeroDivisionError("division by zero")
    if word not in MODELS:
        raise NotAModel("is text, no model")
    return MODELS[word]()


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str


class Shell:
    """Runs command lines in a folder of its own."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def write(self, **words: str) -> None:
        """``write(model_pt="healthy")`` makes model.pt, ``a__b_pt`` makes a/b.pt."""
        for name, word in words.items():
            path = self.folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(word, "utf-8")

    def __call__(self, line: str) -> Ran:
        """Run a command line, split at spaces."""
        self._capture.readouterr()
        code = main(line.split())
        captured = self._capture.readouterr()
        return Ran(code, captured.out, captured.err)


@pytest.fixture
def bncheck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bncheck.readers.read", read)
    monkeypatch.delenv("BNCHECK_TRACEBACK", raising=False)
    return Shell(tmp_path, capsys)
