"""What a folded file is worth: what is left in it, how exact it is, how fast it runs.

``python -m benchmarks.folding.judge FILE TRUTH.npz [--latency]`` prints it as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

RUNS = 5


def main() -> None:
    """Judge a file by what it computes for one input."""
    path, truth = map(Path, sys.argv[1:3])
    with np.load(truth) as held:
        feed, expected = held["feed"], held["truth"]
    kinds = [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]
    figures = {
        "batch_norms": kinds.count("BatchNormalization"),
        "nodes": len(kinds),
        "error": _error(path, feed, expected),
        "latency": _latency(path, feed) if "--latency" in sys.argv else float("nan"),
    }
    print(json.dumps(figures))


def _session(path: Path, level: Any) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _error(path: Path, feed: Any, truth: Any) -> float:
    session = _session(path, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    (result, *_) = session.run(None, {session.get_inputs()[0].name: feed})
    return float(np.sqrt(np.mean((result - truth) ** 2)) / np.sqrt(np.mean(truth**2)))


def _latency(path: Path, feed: Any) -> float:
    session = _session(path, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    given = {session.get_inputs()[0].name: feed}
    session.run(None, given)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, given)
        times.append(time.perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    main()
