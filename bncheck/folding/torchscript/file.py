"""A TorchScript archive opened for folding: its graph, and where in the code each node stands."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from bncheck.errors import CannotFold
from bncheck.folding.reasons import Reason
from bncheck.folding.torchscript.code import Call, Code, Span
from bncheck.folding.torchscript.trace import Frame, Site, Tracer
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model
from bncheck.readers import module_tree, torchscript
from bncheck.readers.source import Source
from bncheck.readers.torch import zipped
from bncheck.readers.torchscript.objects import ScriptObject
from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.tape import Record
from bncheck.readers.torchscript.world import World
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import Tensor, itemsize

BYTECODE = "bytecode.pkl"
ATEN = "aten."
FORWARD = re.compile(r"forward\d*", re.ASCII)  # a module that is traced twice has two
LEAVES = frozenset({NodeKind.BATCH_NORM, NodeKind.ADD, NodeKind.MUL})  # what may be taken out


class Place(NamedTuple):
    """A call of an operator in the code, whichever object's method runs it."""

    class_name: str
    line: Span
    operator: str
    ordinal: int


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The operation that a node was made of, and which argument of it is which parameter."""

    record: Record
    places: Mapping[str, str]


@dataclass(eq=False)
class ScriptFile:
    """An archive, its facts, and the origins of the nodes of its graph."""

    archive: ZipArchive
    root: str
    model: Model = field(init=False)
    tracer: Tracer = field(init=False)
    origins: dict[Node, Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.code = Code(self.archive, self.root)
        (self.model,) = torchscript.read(self.archive, self.root, self._follow, self._observe)

    def _follow(self, world: World) -> Tracer:
        self.tracer = Tracer(world)
        return self.tracer

    def _observe(self, node: Node, record: Record, places: Mapping[str, str]) -> None:
        self.origins[node] = Origin(record, places)

    @property
    def graph(self) -> Graph:
        """The flat graph."""
        return self.model.graph

    @property
    def top(self) -> ScriptObject:
        """The module that is all the others' parent."""
        target = self.tracer.frames[0].target
        assert target is not None
        return target

    @cached_property
    def modules(self) -> Mapping[str, ScriptObject]:
        """All modules by qualified name."""
        found = module_tree.tree(self.top).places
        return {name: each for name, each in found.items() if isinstance(each, ScriptObject)}

    def path(self, target: ScriptObject) -> str | None:
        """The qualified name of a module."""
        owner = self.tracer.world.owner(target)
        return None if owner is None else owner.path

    @cached_property
    def records(self) -> Sequence[Record]:
        """All operations, in order."""
        return self.tracer.world.tape.records

    @cached_property
    def reads(self) -> Counter[str]:
        """How often each value is read by an operation, or given to the caller."""
        read = Counter(name for record in self.records for name in record.reads)
        read.update(self.graph.outputs)
        return read

    @cached_property
    def makers(self) -> Mapping[str, Record]:
        """The operation that makes each value."""
        return {name: record for record in self.records for name in record.outputs.values()}

    @cached_property
    def in_place(self) -> frozenset[str]:
        """What operators make that write into what they are given."""
        makers = (record for record in self.records if _writes(record))
        return frozenset(name for record in makers for name in record.outputs.values())

    def objection(self, node: Node) -> Reason | None:
        """Why a node cannot change or go; None where it can."""
        origin = self.origins.get(node)
        site = self.tracer.sites.get(origin.record) if origin else None
        if origin is None or site is None:
            return Reason.OPERATOR
        held = [each for each in node.parameters.values() if isinstance(each, Tensor)]
        if any(itemsize(each.dtype) is None for each in held):
            return Reason.COMPUTED
        if node.kind not in LEAVES:
            return None
        if any(self.graph.consumers(value) for value in node.outputs[1:]):
            return Reason.READ_ELSEWHERE
        is_found = self.module_around(node) is not None or self.call(origin.record) is not None
        return None if is_found and not _writes(origin.record) else Reason.FUNCTIONAL

    def module_around(self, node: Node) -> Frame | None:
        """The call of a module that does what the node does, and nothing else."""
        for frame in self._site(node).frame.outward():
            whole = frame.given == node.inputs[:1] and frame.result == node.outputs[0]
            is_forward = FORWARD.fullmatch(frame.function.name) is not None
            if whole and is_forward and frame.target and self.path(frame.target):
                return frame
        return None

    def _site(self, node: Node) -> Site:
        return self.tracer.sites[self.origins[node].record]

    def place(self, record: Record) -> Place | None:
        """Where in the code an operation stands; None where that is not clear."""
        site = self.tracer.sites.get(record)
        target = site.frame.target if site else None
        if site is None or target is None or not record.op.startswith(ATEN):
            return None
        try:
            line = self.code.line(target.class_name, site.frame.function, site.statement)
        except (Unclear, KeyError, ValueError):
            return None
        operator = f"torch.{record.op.removeprefix(ATEN)}"
        return line and Place(target.class_name, line, operator, site.ordinal)

    def call(self, record: Record) -> Call | None:
        """The text of an operation, with an argument for each that it is given."""
        place = self.place(record)
        if place is None:
            return None
        found = self.code.call(*place)
        given = len(record.positional) + len(record.named)
        return found if found and len(found.arguments) == given else None

    @cached_property
    def by_place(self) -> Mapping[Place, Sequence[Record]]:
        """The operations that each place of the code was followed to."""
        found: dict[Place, list[Record]] = defaultdict(list)
        for record in self.records:
            place = self.place(record)
            if place is not None:
                found[place].append(record)
        return found


def _writes(record: Record) -> bool:
    return record.op.endswith("_") and not record.op.endswith("__")


def open_file(source: Source) -> ScriptFile:
    """Open an archive for folding.

    Raises UnreadableModel as reading it does, CannotFold for one that is more than code.
    """
    archive = ZipArchive(source)
    root = zipped.root_of(archive)
    if archive.has(f"{root}/{BYTECODE}"):
        raise CannotFold("was saved for the lite interpreter: fold the archive it was made from")
    file = ScriptFile(archive, root)
    _require_one_method(file)
    return file


def _require_one_method(file: ScriptFile) -> None:
    top = file.tracer.frames[0].target if file.tracer.frames else None
    methods = top.script_class.methods if top and top.script_class else {}
    called = {frame.function.name for frame in file.tracer.frames if frame.target is top}
    others = sorted(name for name in {*methods} - called if not name.startswith("__"))
    if others:
        raise CannotFold(
            f"has the method {others[0]!r} beside forward, for which folding would change weights"
        )
