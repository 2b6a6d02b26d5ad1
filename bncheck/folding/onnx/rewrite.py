"""Carries a plan out on an ONNX file: which messages change, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from bncheck.folding.numbers import NewTensor
from bncheck.folding.onnx import messages
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.onnx.naming import naming
from bncheck.folding.onnx.numbers import OnnxNumbers
from bncheck.folding.onnx.wire import Edits, Late, Piece, message
from bncheck.folding.plan import FoldPlan
from bncheck.folding.shapes import shapes
from bncheck.graph import Node
from bncheck.readers.onnx.fixed import FIRST_IR_WITH_FREE_INITIALIZERS
from bncheck.readers.onnx.proto import NodeProto
from bncheck.readers.onnx.tensor import TensorProto


@dataclass(slots=True)
class NodeEdit:
    """What a node reads and makes, and what it is: None for what it was."""

    inputs: list[str]
    outputs: list[str]
    op: str | None = None


class Rewrite:
    """What becomes of the nodes and initializers of a file.

    ``in_place`` replaces initializers of the same name, ``added`` has new ones; ``dropped`` names
    those that nothing reads any more.
    """

    def __init__(self, file: OnnxFile, plan: FoldPlan) -> None:
        self.file = file
        self.numbers = OnnxNumbers(file, plan, shapes(file.graph) if plan.sums else {})
        self.in_place: dict[str, NewTensor] = {}
        self.added: dict[str, NewTensor] = {}
        self.dropped: set[str] = set()
        self._in_functions: dict[int, list[tuple[str, NewTensor]]] = {}
        self._changed: dict[int, NodeEdit] = {}
        self._initializers = {each.name: each for each in file.initializers()}
        self._reads = Counter(_reads(file))
        self._names = _names(file)
        named = naming(file, plan)
        self.sites = _sites(plan, named.renamed, file)
        self._gone = set(named.gone)
        self._rename(named.renamed)
        self._bridge(named.bridged)
        for node in file.graph.nodes:
            if id(node) in plan.steps:
                self._give_parameters(node)
        for node in plan.sums:
            self._make_a_sum(node)
        self._drop_the_dead()

    @property
    def nodes_saved(self) -> int:
        """How many nodes go."""
        return len(self._gone)

    def _edit(self, proto: NodeProto) -> NodeEdit:
        return self._changed.setdefault(id(proto), NodeEdit([*proto.inputs], [*proto.outputs]))

    def _rename(self, renamed: Mapping[str, str]) -> None:
        for proto in self.file.all_nodes() if renamed else ():
            concerned = not renamed.keys().isdisjoint((*proto.inputs, *proto.outputs))
            if concerned and id(proto) not in self._gone and not self.file.function_of(proto):
                edit = self._edit(proto)
                edit.inputs = [renamed.get(name, name) for name in proto.inputs]
                edit.outputs = [renamed.get(name, name) for name in proto.outputs]

    def _bridge(self, bridged: Mapping[int, int]) -> None:
        for proto in self.file.all_nodes() if bridged else ():
            if id(proto) in bridged:
                edit = self._edit(proto)
                edit.op, edit.inputs = "Identity", [edit.inputs[bridged[id(proto)]]]
                edit.outputs = edit.outputs[:1]

    # Parameters

    def _give_parameters(self, node: Node) -> None:
        origin = self.file.origins[node]
        edit = self._edit(origin.proto)
        for new in self.numbers.tensors(node, origin.transposed):
            position = origin.positions[new.role]
            edit.inputs += [""] * (position + 1 - len(edit.inputs))
            edit.inputs[position] = self._place(new, origin.proto, edit.inputs[position])

    def _make_a_sum(self, node: Node) -> None:
        """BatchNormalization of a product becomes the addition of what it shifts by."""
        proto = self.file.origins[node].proto
        edit = self._edit(proto)
        name = self._place(self.numbers.summand(node), proto, "")
        edit.op, edit.inputs, edit.outputs = "Add", [edit.inputs[0], name], edit.outputs[:1]

    def _place(self, new: NewTensor, proto: NodeProto, old: str) -> str:
        """The name under which a node finds a new tensor."""
        in_function = self.file.function_of(proto) is not None
        if not in_function and self._is_its_own(old):
            self.in_place[old] = new
            return old
        name = self._new_name(f"{new.node.label}.{new.role}")
        if in_function:
            self._in_functions.setdefault(id(proto), []).append((name, new))
        else:
            self.added[name] = new
        return name

    def _is_its_own(self, name: str) -> bool:
        """Whether an initializer is read once: by the node whose parameter it is."""
        main = self.file.main
        held = self._initializers.get(name)
        if held is None or held not in main.initializers or self._reads[name] != 1:
            return False
        return name not in main.outputs

    def _new_name(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._names:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name

    # What nothing reads any more

    def _drop_the_dead(self) -> None:
        """Initializers and nodes that were read, and are no longer; and what only they read."""
        makers = {name: p for p in self.file.all_nodes() for name in p.outputs if name}
        left = Counter(self._reads_now())
        waiting = [name for name, count in self._reads.items() if count and not left[name]]
        while waiting:
            name = waiting.pop()
            maker = makers.get(name)
            if name in self._initializers and name not in self.in_place:
                self.dropped.add(name)
            elif maker is not None and self._is_dead(maker, left):
                self._gone.add(id(maker))
                left.subtract(maker.inputs)
                waiting += [each for each in maker.inputs if each and not left[each]]

    def _is_dead(self, maker: NodeProto, left: Counter[str]) -> bool:
        """Whether no output of a node is read; one that was changed is read under another name."""
        known = id(maker) in self._gone or id(maker) in self._changed
        return not known and not any(left[each] for each in maker.outputs)

    def _reads_now(self) -> Iterator[str]:
        for proto in self.file.all_nodes():
            if id(proto) not in self._gone:
                edit = self._changed.get(id(proto))
                yield from proto.inputs if edit is None else edit.inputs
        yield from _outputs(self.file)

    # Messages

    def edits(self) -> Edits:
        """All changes but where initializers lie."""
        edits = Edits()
        for proto in self.file.all_nodes():
            self._edit_node(edits, proto)
        self._edit_infos(edits)
        return edits

    def _edit_node(self, edits: Edits, proto: NodeProto) -> None:
        assert proto.span is not None
        edit = self._changed.get(id(proto))
        if id(proto) in self._gone:
            edits.replaced[proto.span] = []
        elif edit is not None:
            fields = messages.NODE_WIRING | (messages.NODE_KIND if edit.op else frozenset())
            head = messages.node_head(edit.inputs, edit.outputs, edit.op)
            edits.headed[proto.span] = head, fields
        for name, new in self._in_functions.get(id(proto), ()):
            constant = messages.constant_node(messages.FUNCTION_NODE, name, self.inline(name, new))
            edits.before.setdefault(proto.span, []).extend(constant)

    def _edit_infos(self, edits: Edits) -> None:
        """No word of values that are gone; before IR version 4 every initializer is an input."""
        span, main = self.file.graph_span, self.file.main
        made = {name for p in self.file.all_nodes() for name in self._outputs_now(p)}
        for info in messages.infos(self.file.walker, span):
            is_input = info.field == messages.GRAPH_INPUT
            if info.name in self.dropped or (not is_input and self._is_gone(info.name, made)):
                edits.replaced[info.span] = []
            elif is_input and info.name in self.in_place:
                edits.replaced[info.span] = self._input(info.name, self.in_place[info.name])
        if self.file.proto.ir_version < FIRST_IR_WITH_FREE_INITIALIZERS and main.initializers:
            inputs = [self._input(name, new) for name, new in self.added.items()]
            edits.added.setdefault(span, []).extend(piece for each in inputs for piece in each)

    def _is_gone(self, name: str, made: set[str]) -> bool:
        return name not in made and name not in self._initializers

    def _outputs_now(self, proto: NodeProto) -> Iterable[str]:
        if id(proto) in self._gone:
            return ()
        edit = self._changed.get(id(proto))
        return proto.outputs if edit is None else edit.outputs

    def _input(self, name: str, new: NewTensor) -> list[Piece]:
        return messages.value_info(messages.GRAPH_INPUT, name, new.shape, new.dtype)

    def inline(self, name: str, new: NewTensor) -> list[Piece]:
        """A TensorProto that holds its values itself."""
        values = Late(new.nbytes, partial(self.numbers.parts, new))
        return messages.tensor(name, new.shape, new.dtype, messages.raw(values))

    def initializer(self, pieces: list[Piece]) -> list[Piece]:
        """A TensorProto as a field of a graph."""
        return message(messages.GRAPH_INITIALIZER, pieces)

    def kept_initializers(self) -> Iterator[TensorProto]:
        """The initializers that stay as they are."""
        for each in self.file.initializers():
            if each.name not in self.dropped and each.name not in self.in_place:
                yield each


def _sites(plan: FoldPlan, renamed: Mapping[str, str], file: OnnxFile) -> dict[str, str]:
    """Values of the graph that stay what they are, by the names of the two files."""
    own = {name for node in file.main.nodes for name in node.outputs}
    found = {v: renamed.get(now, now) for v, now in plan.sites.items() if v in own}
    return {v: name for v, name in found.items() if name in own}


def _reads(file: OnnxFile) -> Iterator[str]:
    for proto in file.all_nodes():
        yield from proto.inputs
    yield from _outputs(file)


def _outputs(file: OnnxFile) -> Iterator[str]:
    yield from file.main.outputs
    for body in file.bodies.values():
        yield from body.outputs
    for function in file.proto.functions:
        yield from function.outputs


def _names(file: OnnxFile) -> set[str]:
    names = {name for node in file.all_nodes() for name in (*node.inputs, *node.outputs)}
    names |= {tensor.name for tensor in file.initializers()}
    return names | {*file.main.inputs, *file.main.outputs}
