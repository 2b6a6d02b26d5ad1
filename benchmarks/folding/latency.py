"""How long a model takes to run before it is folded, and after.

``python -m benchmarks.folding.latency BEFORE.onnx AFTER.onnx TRUTH.npz`` prints it as JSON.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.folding.outcomes import figures_of, printed
from benchmarks.processes import Command, module, run

RUNS = 15  # of which the fastest counts: whatever else the machine does only takes time


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of a run in onnxruntime, of the model as it stands and with all optimisations."""

    name: str
    plain_before: float
    plain_after: float
    optimised_before: float
    optimised_after: float


def of_network(name: str) -> Timed:
    """A network, and its fold by bncheck. Raises ProcessFailed."""
    with tempfile.TemporaryDirectory() as folder:
        before, after, truth = (Path(folder) / file for file in ("a.onnx", "b.onnx", "c.npz"))
        printed("folding.export", name, before, truth)
        run(Command(module("folding.tools", "bncheck --no-verify", before, after)), before.parent)
        return Timed(name, **figures_of(printed("folding.latency", before, after, truth)))


def main() -> None:
    """Run all four in turns."""
    import numpy as np
    import onnxruntime as ort

    before, after, truth = sys.argv[1:]
    with np.load(truth) as held:
        feed = held["feed"]
    levels = ort.GraphOptimizationLevel
    sessions = {
        f"{kind}_{when}": _session(ort, path, level)
        for kind, level in (("plain", levels.ORT_DISABLE_ALL), ("optimised", levels.ORT_ENABLE_ALL))
        for when, path in (("before", before), ("after", after))
    }
    times = dict.fromkeys(sessions, math.inf)
    for _ in range(RUNS):
        for name, session in sessions.items():
            times[name] = min(times[name], _seconds(session, feed))
    print(json.dumps(times))


def _session(ort: Any, path: str, level: Any) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _seconds(session: Any, feed: Any) -> float:
    given = {session.get_inputs()[0].name: feed}
    start = perf_counter()
    session.run(None, given)
    return perf_counter() - start


if __name__ == "__main__":
    main()
