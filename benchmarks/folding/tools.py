"""The tools that are compared: each folds one file into another, in a process of its own.

``python -m benchmarks.folding.tools NAME IN OUT`` runs one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _bncheck(source: str, target: str, verify: bool) -> None:
    import bncheck

    bncheck.fold(source, target, verify=verify)


def _onnxruntime(source: str, target: str) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = target
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _onnxsim(source: str, target: str) -> None:
    import onnx
    import onnxsim

    simplified, _ = onnxsim.simplify(source, check_n=0)
    onnx.save(simplified, target)


def _onnxslim(source: str, target: str) -> None:
    import onnx
    import onnxslim

    onnx.save(onnxslim.slim(source), target)


def _onnxscript(source: str, target: str) -> None:
    import onnx
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules.common import _fuse_batchnorm

    rules = _fuse_batchnorm.rules
    onnx.save(rewrite(onnx.load(source), rules), target)


def _onnxoptimizer(source: str, target: str) -> None:
    import onnx
    import onnxoptimizer

    passes = ["fuse_bn_into_conv", "eliminate_unused_initializer", "eliminate_deadend"]
    onnx.save(onnxoptimizer.optimize(onnx.load(source), passes), target)


def _aimet(source: str, target: str) -> None:
    import onnx
    from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = ONNXModel(onnx.load(source))
    fold_all_batch_norms_to_weight(model)
    onnx.save(model.model, target)


def _nothing(source: str, target: str) -> None:
    """What loading and saving alone costs."""
    import onnx

    onnx.save(onnx.load(source), target)


TOOLS: dict[str, Callable[[str, str], Any]] = {
    "bncheck": lambda source, target: _bncheck(source, target, True),
    "bncheck --no-verify": lambda source, target: _bncheck(source, target, False),
    "onnxruntime basic": _onnxruntime,
    "onnxsim": _onnxsim,
    "onnxslim": _onnxslim,
    "onnxscript": _onnxscript,
    "onnxoptimizer": _onnxoptimizer,
    "AIMET": _aimet,
    "onnx load and save": _nothing,
}


def installed() -> tuple[str, ...]:
    """The tools that can run here: AIMET asks for a torch with CUDA, and not all have it."""
    has_aimet = importlib.util.find_spec("aimet_onnx") is not None
    return tuple(name for name in TOOLS if has_aimet or name != "AIMET")


def main() -> None:
    name, source, target = sys.argv[1:]
    TOOLS[name](source, target)
    if not Path(target).exists():
        raise SystemExit(f"{name} wrote nothing")


if __name__ == "__main__":
    main()
