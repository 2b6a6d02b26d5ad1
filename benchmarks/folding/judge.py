"""What a folded file is worth: what is left in it, how exact it is.

``python -m benchmarks.folding.judge FILE TRUTH.npz`` prints it as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort


def main() -> None:
    """Judge a file by what it computes for one input."""
    path, truth = map(Path, sys.argv[1:])
    with np.load(truth) as held:
        feed, expected = held["feed"], held["truth"]
    kinds = [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]
    figures = {
        "batch_norms": kinds.count("BatchNormalization"),
        "nodes": len(kinds),
        "error": _error(path, feed, expected),
    }
    print(json.dumps(figures))


def _session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _error(path: Path, feed: Any, truth: Any) -> float:
    session = _session(path)
    (result, *_) = session.run(None, {session.get_inputs()[0].name: feed})
    return float(np.sqrt(np.mean((result - truth) ** 2)) / np.sqrt(np.mean(truth**2)))


if __name__ == "__main__":
    main()
