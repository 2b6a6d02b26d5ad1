"""Facts made by hand, so that a row of a table names only what matters to it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import pytest

from bncheck.finding import Observation
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer
from bncheck.tensor import Tensor

COUNTER = "num_batches_tracked"
MODEL_FACTS = ("graph", "order", "batch_size", "weight_decay", "optimizer_dtypes")


class Make:
    """Makers of layers, models and graphs that know exactly what they are given."""

    @staticmethod
    def tensor(
        values: Iterable[float], shape: tuple[int, ...] | None = None, dtype: str = "float32"
    ) -> Tensor:
        """Values are rounded to float32 as in a file, unless another dtype is asked for."""
        data = array("f" if dtype == "float32" else "d", values)
        assert shape is None or prod(shape) == len(data)
        return Tensor((len(data),) if shape is None else shape, dtype, lambda: data)

    @classmethod
    def layer(
        cls, kind: Any = "batch", name: str = "bn", class_path: str | None = None, **facts: object
    ) -> NormLayer:
        """A layer; a list is a tensor, and so is the number of the counter."""
        return NormLayer(name, kind, class_path, {n: cls._fact(n, v) for n, v in facts.items()})

    @classmethod
    def _fact(cls, name: str, value: object) -> object:
        if isinstance(value, list):
            return cls.tensor(value)
        if name == COUNTER and isinstance(value, int):
            return cls.tensor([value], (), "int64")
        return value

    @staticmethod
    def model(*layers: NormLayer, content: Any = "module", **fields: Any) -> Model:
        """A model of these layers; a graph is complete, and in order."""
        facts = {name: fields.pop(name) for name in MODEL_FACTS if name in fields}
        if "graph" in facts:
            facts.setdefault("order", facts["graph"])
        container = fields.pop("format", "onnx" if content == "graph" else "torch-zip")
        return Model(container, content, layers, frozenset(), facts=facts, **fields)

    @classmethod
    def node(
        cls,
        kind: str,
        inputs: str,
        output: str,
        parameters: Mapping[str, object] | None = None,
        op: str = "",
        **attributes: object,
    ) -> Node:
        """A node with the name of what it makes; inputs are separated by blanks."""
        held: Any = {name: cls._fact(name, value) for name, value in (parameters or {}).items()}
        sources = tuple(inputs.split())
        return Node(NodeKind(kind), op or kind, output, sources, (output,), held, attributes)

    @staticmethod
    def graph(*nodes: Node, inputs: str = "x", outputs: str = "y", **fields: Any) -> Graph:
        """A complete graph from x to y."""
        return Graph(nodes, tuple(inputs.split()), tuple(outputs.split()), **fields)

    @staticmethod
    def seen(observations: Iterator[Observation]) -> list[tuple[str | None, str]]:
        """Level (None: the rule's own) and message of each observation."""
        return [(o.level and o.level.value, o.message) for o in observations]


@pytest.fixture
def make() -> type[Make]:
    """See Make."""
    return Make
