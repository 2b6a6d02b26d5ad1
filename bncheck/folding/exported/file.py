"""An archive of torch.export opened for folding: its graph, and what each node was made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.exported.saved import Saved
from bncheck.folding.exported.stores import Store, Table
from bncheck.folding.exported.wiring import Names, names_in
from bncheck.folding.reasons import Reason
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model
from bncheck.readers.aten import base_name
from bncheck.readers.exported import model
from bncheck.readers.exported.document import MOST_BYTES
from bncheck.readers.exported.layout import Held, Place, places
from bncheck.readers.exported.program import Operation, Program
from bncheck.readers.source import Source
from bncheck.readers.torch.values import Parameter
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import Tensor, itemsize

Json = Any
OF_A_CALLER = ("user_output", "loss_output")
OF_TRAINING = ("gradient_to_parameter", "gradient_to_user_input")


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A node of the document, and which argument of it is which parameter."""

    json: Json
    places: Mapping[str, str]

    def argument(self, role: str) -> Json:
        """What the document gives for a parameter; None where it gives nothing."""
        wanted = self.places.get(role, role)
        return next((each for each in self.json["inputs"] if each["name"] == wanted), None)


@dataclass(eq=False)
class ExportedFile:
    """An archive of one program: its document as it was written, its facts, and its tensors."""

    archive: ZipArchive
    place: Place
    program: Program = field(init=False)
    document: Json = field(init=False)
    model: Model = field(init=False)
    origins: dict[Node, Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program = self.place.program(self.archive)
        self.document = json.loads(self.archive.read(self.place.document, MOST_BYTES))
        self._json = dict(zip(map(id, self.program.body.operations), self.nodes, strict=True))
        self.model = model(self.program, self._observe)
        self._require_inference()

    def fresh(self) -> ExportedFile:
        """The same archive, opened again: what was done to the document is not in it."""
        return ExportedFile(self.archive, self.place)

    def _observe(self, node: Node, operation: Operation, places: Mapping[str, str]) -> None:
        found = self._json.get(id(operation))
        if found is not None:
            self.origins[node] = Origin(found, places)

    def _require_inference(self) -> None:
        kinds = {kind for spec in self.signature["output_specs"] for kind in _kinds(spec)}
        if not kinds.isdisjoint(OF_TRAINING):
            raise CannotFold("the program computes gradients: export the model for inference")

    @property
    def graph(self) -> Graph:
        """The flat graph."""
        return self.model.graph

    @property
    def body(self) -> Json:
        """The outermost graph of the document."""
        return self.document["graph_module"]["graph"]

    @property
    def nodes(self) -> Json:
        """Its nodes, in order."""
        return self.body["nodes"]

    @property
    def signature(self) -> Json:
        """What its inputs and outputs are."""
        return self.document["graph_module"]["signature"]

    @cached_property
    def stores(self) -> list[Store]:
        """Where tensors are; those that come later count."""
        return [_store(self.archive, held) for held in self.place.held]

    def parameter(self, value: str) -> Parameter | None:
        """The stored tensor that an input of the program is."""
        return self.program.tensors.get(self.program.stored.get(value, ""))

    def reads(self) -> Names:
        """How often each value is read by nodes and outputs, whatever for."""
        found: Names = Counter()
        for node in self.nodes:
            for argument in node["inputs"]:
                found.update(names_in(argument["arg"]))
        for output in self.body["outputs"]:
            found.update(names_in(output))
        return found

    @cached_property
    def _reads(self) -> Names:
        return self.reads()

    def objection(self, node: Node) -> Reason | None:
        """Why a node cannot change or go; None where it can."""
        origin = self.origins.get(node)
        if origin is None:  # a body of control flow, whose parameters are handed to it
            return Reason.CONTROL_FLOW
        held = [each for each in node.parameters.values() if isinstance(each, Tensor)]
        if any(itemsize(each.dtype) is None for each in held):
            return Reason.COMPUTED
        if node.kind is NodeKind.BATCH_NORM and any(self._reads[v] for v in node.outputs[1:]):
            return Reason.READ_ELSEWHERE
        return self._of_memory(node)

    def _of_memory(self, node: Node) -> Reason | None:
        touched = {*node.inputs, *node.outputs} & self.overwritten
        return Reason.READ_ELSEWHERE if touched else None

    @cached_property
    def in_place(self) -> frozenset[str]:
        """What operators make that write into what they are given."""
        makers = (node for node, origin in self.origins.items() if is_in_place(origin.json))
        return frozenset(value for node in makers for value in node.outputs)

    @cached_property
    def overwritten(self) -> frozenset[str]:
        """Values that are read although something was written into their memory since."""
        return _overwritten(self)


def is_in_place(node: Json) -> bool:
    """Whether an operator writes into its first argument."""
    parts = node["target"].split(".")
    name = parts[-2] if len(parts) > 2 else ""
    return name != "" and name.endswith("_") and not name.endswith("__")
