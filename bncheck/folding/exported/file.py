"""An archive of torch.export opened for folding: its graph, and what each node was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bncheck.errors import CannotFold
from bncheck.folding.exported.saved import Saved
from bncheck.folding.exported.stores import Store, Table
from bncheck.folding.exported.wiring import Document, Json, Names, spec_kinds
from bncheck.folding.memory import overwritten
from bncheck.folding.reasons import Reason
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model
from bncheck.readers.exported import model, read
from bncheck.readers.exported.document import MOST_BYTES
from bncheck.readers.exported.layout import Held, Place, places
from bncheck.readers.exported.program import Operation, Program
from bncheck.readers.source import Source
from bncheck.readers.torch.values import Parameter
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import Tensor, itemsize

OF_TRAINING = ("gradient_to_parameter", "gradient_to_user_input")


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The position of a node in the document, and which argument of it is which parameter."""

    position: int
    places: Mapping[str, str]


@dataclass(eq=False)
class ExportedFile:
    """An archive of one program: its document as it was written, its facts, and its tensors."""

    archive: ZipArchive
    place: Place
    program: Program = field(init=False)
    model: Model = field(init=False)
    origins: dict[Node, Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program = self.place.program(self.archive)
        operations = enumerate(self.program.body.operations)
        self._positions = {id(operation): at for at, operation in operations}
        self.model = model(self.program, self._observe)
        self._require_inference()

    def _observe(self, node: Node, operation: Operation, places: Mapping[str, str]) -> None:
        position = self._positions.get(id(operation))
        if position is not None:
            self.origins[node] = Origin(position, places)

    def _require_inference(self) -> None:
        kinds = {kind for spec in self.document.outputs for kind in spec_kinds(spec)}
        if not kinds.isdisjoint(OF_TRAINING):
            raise CannotFold("the program computes gradients: export the model for inference")

    @property
    def graph(self) -> Graph:
        """The flat graph."""
        return self.model.graph

    def new_document(self) -> Document:
        """The document, to be changed."""
        return Document(json.loads(self.archive.read(self.place.document, MOST_BYTES)))

    @cached_property
    def document(self) -> Document:
        """The document, to be looked at."""
        return self.new_document()

    def new_stores(self) -> list[Store]:
        """Where tensors are, to be changed; those that come later count."""
        return [_store(self.archive, held) for held in self.place.held]

    def parameter(self, value: str) -> Parameter | None:
        """The stored tensor that an input of the program is."""
        return self.program.tensors.get(self.program.stored.get(value, ""))

    @cached_property
    def reads(self) -> Names:
        """How often each value is read."""
        return self.document.reads()

    def objection(self, node: Node) -> Reason | None:
        """Why a node cannot change or go; None where it can."""
        origin = self.origins.get(node)
        if origin is None:  # a body of control flow, whose parameters are handed to it
            return Reason.OPERATOR
        held = [each for each in node.parameters.values() if isinstance(each, Tensor)]
        if any(itemsize(each.dtype) is None for each in held):
            return Reason.COMPUTED
        if node.kind is NodeKind.BATCH_NORM and any(self.reads[v] for v in node.outputs[1:]):
            return Reason.READ_ELSEWHERE
        touched = {*node.inputs, *node.outputs}
        if not touched <= self.document.values:
            return Reason.OPERATOR
        return Reason.READ_ELSEWHERE if touched & self.overwritten else None

    @cached_property
    def in_place(self) -> frozenset[str]:
        """What operators make that write into what they are given."""
        makers = (
            node
            for node, origin in self.origins.items()
            if is_in_place(self.document.nodes[origin.position])
        )
        return frozenset(value for node in makers for value in node.outputs)

    @cached_property
    def overwritten(self) -> frozenset[str]:
        """Values that are read although something was written into their memory since."""
        return overwritten(self.graph, self.in_place)


def open_file(source: Source) -> ExportedFile:
    """Open an archive for folding.

    Raises UnreadableModel as reading it does, CannotFold where it holds several programs.
    """
    archive = ZipArchive(source)
    found = places(archive)
    if len(found) > 1:
        names = ", ".join(place.name for place in found[:4])
        raise CannotFold(f"holds {len(found)} programs ({names}): save each in a file of its own")
    if not found:
        read(archive)
        raise CannotFold("holds no program")
    return ExportedFile(archive, found[0])


def _store(archive: ZipArchive, held: Held) -> Store:
    return Saved(archive, held.entry) if held.folder is None else Table(archive, held)


def is_in_place(node: Json) -> bool:
    """Whether an operator writes into its first argument."""
    parts = node["target"].split(".")
    name = parts[-2] if len(parts) > 2 else ""
    return name != "" and name.endswith("_") and not name.endswith("__")
