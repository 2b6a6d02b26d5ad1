"""Carries a plan out on the pickles and the code of a TorchScript archive."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.folding.archives.zipped import Copied, Made, Part
from bncheck.folding.numbers import Numbers
from bncheck.folding.plan import FoldPlan
from bncheck.folding.reasons import Blocked, Reason
from bncheck.folding.torchscript.code import Code, Span
from bncheck.folding.torchscript.file import Place, ScriptFile
from bncheck.folding.torchscript.modules import Modules
from bncheck.folding.torchscript.parameters import Parameters
from bncheck.folding.torchscript.pickles import Pickle
from bncheck.folding.torchscript.trace import Frame
from bncheck.graph import Node
from bncheck.readers.aten.call import Value

STALE = ".data/serialization_id"  # of what was in the archive
DEBUG = ".debug_pkl"  # where lines of code come from


class Rewrite:
    """What becomes of an archive; the file itself stays as it is.

    Raises Blocked for what cannot be said in its code.
    """

    def __init__(self, file: ScriptFile, plan: FoldPlan) -> None:
        self._file = file
        self._plan = plan
        self._code = Code(file.archive, file.root)
        self._data, self._constants = (
            Pickle(file.archive, file.root, part) for part in ("data", "constants")
        )
        self._gone = [node for value in plan.aliases if (node := file.graph.producer(value))]
        for node in plan.sums:
            raise Blocked(Reason.NO_BIAS, node)
        self._modules = Modules(file, self._code, self._data)
        self._take_out()
        self._give_parameters()

    @property
    def nodes_saved(self) -> int:
        """How many nodes go."""
        return len(self._gone)

    def _take_out(self) -> None:
        frames: dict[Frame, Node] = {}
        calls: dict[Place, list[Node]] = {}
        for node in self._gone:
            frame, place = self._file.module_around(node), self._place(node)
            if frame is not None:
                frames[frame] = node
            elif place is not None:
                calls.setdefault(place, []).append(node)
            else:
                raise Blocked(Reason.FUNCTIONAL, self._fold_of(node))
        self._modules.turn(frames)
        for place, nodes in calls.items():
            self._take_out_call(place, nodes)

    def _place(self, node: Node) -> Place | None:
        return self._file.place(self._file.origins[node].record)

    def _take_out_call(self, place: Place, nodes: list[Node]) -> None:
        """A call goes where all that its text was followed to go; an argument stays of it."""
        kept = {self._kept_argument(node) for node in nodes}
        call = self._file.call(self._file.origins[nodes[0]].record)
        if len(nodes) != len(self._file.by_place[place]) or len(kept) > 1 or call is None:
            raise Blocked(Reason.SEVERAL_CALLS, self._fold_of(nodes[0]))
        span = call.arguments[kept.pop()]
        self._code.edit(place.class_name, Span(call.span.begin, span.begin), "")
        self._code.edit(place.class_name, Span(span.end, call.span.end), "")

    def _kept_argument(self, node: Node) -> int:
        """The argument that stands for what a node made."""
        now = self._plan.now(node.outputs[0])
        for at, given in enumerate(self._file.origins[node].record.positional):
            if isinstance(given, Value) and self._plan.now(given.name) == now:
                return at
        raise Blocked(Reason.FUNCTIONAL, self._fold_of(node))

    def _fold_of(self, node: Node) -> Node:
        """The node whose fold takes out another."""
        if node in self._plan.by_node:
            return node
        folds = self._plan.folds
        return next((f.node for f in folds if node.outputs[0] in f.node.outputs), node)

    def _give_parameters(self) -> None:
        numbers = Numbers(self._plan, {})
        pickles = self._data, self._constants
        parameters = Parameters(self._file, self._code, pickles, numbers)
        for node in self._file.graph.nodes:
            if id(node) in self._plan.steps:
                parameters.give(node)
        parameters.settle()

    def parts(self) -> Iterator[Part]:
        """The entries of the new archive."""
        changes: dict[str, Part | None] = {**self._data.changes(), **self._constants.changes()}
        for name, text in self._code.files.items():
            if text.edits:
                data = text.edited().encode()
                changes[name] = _entry(name, data) if data.strip() else None
                changes[name + DEBUG] = None
        archive = self._file.archive
        for name in archive.entries:
            part = changes.pop(name, Copied(archive, name))
            if part is not None and not name.endswith(STALE):
                yield part
        yield from filter(None, changes.values())
        yield from self._modules.added()


def _entry(name: str, data: bytes) -> Made:
    return Made(name, len(data), lambda: data)
