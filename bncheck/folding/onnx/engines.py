"""What runs ONNX models: onnxruntime or, for small ones where it is missing, onnx's reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bncheck.errors import CannotFold
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.onnx.variants import Variant
from bncheck.graph import Graph, Node
from bncheck.tensor import Tensor

Arrays = Mapping[str, Any]
AS_IT_IS = Variant()
NEEDED = "verification needs onnxruntime: pip install 'bncheck[onnx]', or fold with --no-verify"
TOO_LARGE = f"the model is too large for onnx's reference evaluator; {NEEDED}"
MOST_PRODUCTS = 1 << 31  # multiplications of one run, for which the reference takes seconds


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model: ``shape`` has a name or None where a size is open."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class Session(Protocol):
    """A model that runs."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]

    def run(self, names: Sequence[str], feed: Arrays) -> Arrays:
        """Some of the outputs. Raises CannotFold where the model does not run."""


class Engine(Protocol):
    """Makes sessions."""

    @property
    def name(self) -> str:
        """What runs the models, for a report."""

    def session(
        self, file: OnnxFile, path: Path, variant: Variant = AS_IT_IS, *, optimised: bool = False
    ) -> Session:
        """A model ready to run. Raises CannotFold where it cannot be loaded."""


def engine(file: OnnxFile) -> Engine:
    """The best that is installed. Raises CannotFold where nothing can run the model."""
    try:
        return _OnnxRuntime(import_module("onnxruntime"))
    except ImportError:
        pass
    try:
        module = import_module("onnx.reference")
    except ImportError as error:
        raise CannotFold(NEEDED) from error
    if products(file.graph) > MOST_PRODUCTS:
        raise CannotFold(TOO_LARGE)
    return _Reference(module)


def products(graph: Graph) -> int:
    """At most about so many multiplications for a sample; sizes that are open count as 64."""
    spaces = (math.prod(size or 64 for size in s[2:]) for s in graph.shapes.values() if len(s) > 2)
    space = max(spaces, default=1)
    return sum(_products(node, space) for node in graph.nodes)


def _products(node: Node, space: int) -> int:
    weight = node.parameters.get("weight")
    if not isinstance(weight, Tensor):
        return 0
    return weight.numel * (space if len(weight.shape) > 2 else 1)


def line(error: Exception) -> str:
    """The first line of an error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


# onnxruntime


@dataclass(frozen=True)
class _OnnxRuntime:
    module: Any

    @property
    def name(self) -> str:
        return f"onnxruntime {self.module.__version__}"

    def session(
        self, file: OnnxFile, path: Path, variant: Variant = AS_IT_IS, *, optimised: bool = False
    ) -> Session:
        options = self.module.SessionOptions()
        levels = self.module.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
        )
        options.log_severity_level = 4
        # Threads that wait for work would take as much CPU time again.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.absolute().parent)
        )
        model = str(path) if variant is AS_IT_IS else variant.bytes_of(file)
        providers = ["CPUExecutionProvider"]
        try:
            return _OrtSession(self.module.InferenceSession(model, options, providers=providers))
        except Exception as error:  # onnxruntime's own types are not exported
            raise CannotFold(f"{path.name}: onnxruntime cannot load it: {line(error)}") from error


_ORT_TYPES = {"float": "float32", "double": "float64"}


class _OrtSession:
    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs: Sequence[Port] = [_port(each) for each in session.get_inputs()]
        self.outputs: Sequence[Port] = [_port(each) for each in session.get_outputs()]

    def run(self, names: Sequence[str], feed: Arrays) -> Arrays:
        try:
            return dict(zip(names, self._session.run([*names], dict(feed)), strict=True))
        except Exception as error:  # as above
            raise CannotFold(f"the model does not run on the inputs: {line(error)}") from error


def _port(info: Any) -> Port:
    kind = str(info.type).removeprefix("tensor(").removesuffix(")")
    return Port(info.name, _ORT_TYPES.get(kind, kind), tuple(info.shape))


# onnx's reference evaluator


@dataclass(frozen=True)
class _Reference:
    module: Any

    @property
    def name(self) -> str:
        return f"onnx {import_module('onnx').__version__}, reference evaluator"

    def session(
        self, file: OnnxFile, path: Path, variant: Variant = AS_IT_IS, *, optimised: bool = False
    ) -> Session:
        onnx = import_module("onnx")
        try:
            model = onnx.load_model_from_string(variant.bytes_of(file))
            helper = import_module("onnx.external_data_helper")
            helper.load_external_data_for_model(model, str(path.absolute().parent))
            return _ReferenceSession(self.module.ReferenceEvaluator(model), model)
        except Exception as error:  # whatever onnx raises
            raise CannotFold(f"{path.name}: onnx cannot load it: {line(error)}") from error


class _ReferenceSession:
    def __init__(self, evaluator: Any, model: Any) -> None:
        self._evaluator = evaluator
        held = {each.name for each in model.graph.initializer}
        self.inputs: Sequence[Port] = [
            *_ports(each for each in model.graph.input if each.name not in held)
        ]
        self.outputs: Sequence[Port] = [*_ports(model.graph.output)]

    def run(self, names: Sequence[str], feed: Arrays) -> Arrays:
        try:
            with np.errstate(all="ignore"):
                return dict(zip(names, self._evaluator.run([*names], dict(feed)), strict=True))
        except Exception as error:  # as above
            raise CannotFold(f"the model does not run on the inputs: {line(error)}") from error


def _ports(infos: Iterable[Any]) -> Iterable[Port]:
    helper = import_module("onnx.helper")
    for info in infos:
        kind = info.type.tensor_type
        known = kind.elem_type and helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        sizes = (d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim)
        yield Port(info.name, known or "", tuple(sizes))
