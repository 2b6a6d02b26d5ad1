"""Runs ONNX models side by side with onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bncheck.errors import CannotFold
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.onnx.messages import GRAPH_OUTPUT
from bncheck.folding.onnx.wire import Edits, Rewriter, message, text, written
from bncheck.readers.onnx.protobuf import Span

Feed = Mapping[str, Any]
SIZES = (224, 64, 32, 16, 8)  # tried for axes whose size is open
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
NEEDED = "verification needs onnxruntime: pip install 'bncheck[onnx]', or fold with --no-verify"


def runtime() -> Any:
    """onnxruntime; raises CannotFold where it is not installed."""
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise CannotFold(NEEDED) from error


def session(file: OnnxFile, path: Path, *, optimised: bool, also: Sequence[str] = ()) -> Any:
    """A session of a model that gives the values ``also`` besides its outputs."""
    ort = runtime()
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    )
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.absolute().parent)
    )
    model: str | bytes = str(path) if not also else _with_outputs(file, also)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types are not exported
        raise CannotFold(f"{path.name}: onnxruntime cannot load it: {line(error)}") from error


def _with_outputs(file: OnnxFile, also: Sequence[str]) -> bytes:
    edits = Edits()
    outputs = [message(GRAPH_OUTPUT, [text(1, name)]) for name in also]
    edits.added[file.graph_span] = [piece for each in outputs for piece in each]
    pieces = Rewriter(file.source, edits).rewritten(Span(0, file.source.size))
    return b"".join(written(pieces, file.source))


def line(error: Exception) -> str:
    """The first line of an error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


@dataclass(frozen=True, slots=True)
class Run:
    """One way to exercise a model: batch size, seed, and what its random numbers are times."""

    batch: int
    seed: int
    factor: float


RUNS = (Run(1, 0, 1.0), Run(2, 1, 1.0), Run(1, 2, 10.0), Run(1, 3, 0.0))


def feeds(session: Any) -> Iterator[Feed]:
    """Inputs of the right shapes and types for each of RUNS.

    Raises CannotFold where the model runs with none that were tried.
    """
    size = _size_that_works(session)
    for run in RUNS:
        yield _feed(session, run, size)


def _size_that_works(session: Any) -> int:
    problem = ""
    for size in SIZES:
        try:
            session.run(None, _feed(session, RUNS[0], size))
        except Exception as error:  # a size that does not fit
            problem = problem or line(error)
        else:
            return size
    raise CannotFold(f"the model does not run on random inputs: {problem}; give --inputs FILE.npz")


def _feed(session: Any, run: Run, size: int) -> Feed:
    rng = np.random.default_rng(run.seed)
    open_sizes: dict[str, int] = {}
    return {each.name: _values(each, run, size, open_sizes, rng) for each in session.get_inputs()}


def _values(
    info: Any, run: Run, size: int, open_sizes: dict[str, int], rng: np.random.Generator
) -> Any:
    shape = [
        each
        if isinstance(each, int) and each > 0
        else open_sizes.setdefault(str(each), run.batch if axis == 0 else size)
        for axis, each in enumerate(info.shape)
    ]
    kind = TYPES.get(info.type)
    if kind is None:
        raise CannotFold(f"input {info.name!r} is a {info.type}; give --inputs FILE.npz")
    if np.issubdtype(kind, np.floating):
        return (run.factor * rng.standard_normal(shape)).astype(kind)
    return rng.integers(0, 2, shape).astype(kind)


def given(path: Path) -> list[Feed]:
    """The arrays of an .npz by the names of inputs, as one feed."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return [{name: held[name] for name in held.files}]
    except (OSError, ValueError) as error:
        raise CannotFold(f"{path}: no .npz of arrays by input name: {line(error)}") from error
