"""Carries one map along a graph until operators take it in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, partial

from bncheck.folding.absorb import Side, Step, absorbs_input, absorbs_output, absorbs_parallel
from bncheck.folding.channels import ChannelMap
from bncheck.folding.reasons import Blocked, Reason
from bncheck.folding.shapes import shapes
from bncheck.folding.sources import affine_of_constant, is_constant_product, is_constant_sum
from bncheck.folding.transfer import Cut, Shapes, cut, downstream, upstream
from bncheck.folding.working import Working
from bncheck.graph import Graph, Node, NodeKind, Shape
from bncheck.tensor import Tensor

K = NodeKind
FARTHEST = 40  # operators that one map passes
MOST_LOOKS = 2000  # operators that are looked at for one map
ON_THE_LAST_AXIS = frozenset({K.LINEAR, K.LAYER_NORM, K.RMS_NORM})
MayChange = Callable[[Node], Reason | None]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What becomes of a node: a step of its parameters, or (None) it goes.

    ``instead`` is the value that stands for what a node made that goes.
    """

    node: Node
    step: Step | None = None
    instead: str = ""


class Stage(IntEnum):
    """What may take in a map: what goes itself in the end does so only where nothing else can."""

    LINEAR = 0
    BATCH_NORMS = 1
    SUMS = 2  # a BatchNorm may become one


STAGES = tuple(Stage)


@dataclass(eq=False)
class Ground:
    """A graph, what was done to it so far, and what must not be done."""

    graph: Graph
    may_change: MayChange
    copies_parameters: bool

    def __post_init__(self) -> None:
        self.working = Working(self.graph)
        self.steps: dict[int, tuple[Step, ...]] = {}
        self.sums: dict[Node, ChannelMap] = {}
        self.stage = Stage.LINEAR

    @cached_property
    def shapes(self) -> Shapes:
        """Worked out only where a map goes beyond its neighbour."""
        return shapes(self.graph)

    def shape_at(self, node: Node, value: str) -> Shape | None:
        """A shape, for operators whose channels are on the last axis: others need none."""
        return self.shapes.get(value) if node.kind in ON_THE_LAST_AXIS else None

    def may_absorb(self, node: Node) -> bool:
        """Whether a node is to take in anything at this stage."""
        return self.stage >= Stage.BATCH_NORMS or node.kind is not K.BATCH_NORM

    def require_removable(self, node: Node) -> None:
        """Raise Blocked where a node cannot go."""
        takes_more = node.kind is K.BATCH_NORM
        if node in self.sums or (id(node) in self.steps and not takes_more):
            raise Blocked(Reason.OPERATOR, node)
        self._require_permission(node)

    def require_change(self, node: Node) -> None:
        """Raise Blocked where a node's parameters must not change."""
        if node in self.sums:
            raise Blocked(Reason.NO_BIAS, node)
        self._require_permission(node)
        held = [tensor for tensor in node.parameters.values() if isinstance(tensor, Tensor)]
        if not self.copies_parameters and any(self.graph.holders(each) > 1 for each in held):
            raise Blocked(Reason.SHARED, node)

    def _require_permission(self, node: Node) -> None:
        reason = self.may_change(node)
        if reason:
            raise Blocked(reason, node)


class Search:
    """The search for operators that take in one map. It changes nothing; it raises Blocked."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._working = ground.working
        self._left = MOST_LOOKS
        self.visited: list[str] = []  # values that the map was carried over, by their own names

    def before(
        self, value: str, m: ChannelMap, depth: int = 0, part: Cut | None = None
    ) -> list[Change]:
        """What takes in a map on a value while it is made; ``part`` is where the map acts."""
        self._look(depth)
        self.visited.append(value)
        value = self._working.now(value)
        self._require_sole_use(value, part)
        node = self._working.producer(value)
        if node is None:
            raise Blocked(Reason.MODEL_INPUT if self._ground.graph.complete else Reason.NO_ORDER)
        shape = self._ground.shape_at(node, value)
        if self._ground.may_absorb(node) and absorbs_output(node, m, shape):
            self._ground.require_change(node)
            return [Change(node, Step(Side.OUTPUT, m))]
        return self._through(node, value, m, depth)

    def _require_sole_use(self, value: str, part: Cut | None) -> None:
        if self._working.uses(value) == 1:
            return
        if self._working.is_output(value):
            raise Blocked(Reason.MODEL_OUTPUT)
        if part is None or not self._is_parted(value, part):
            raise Blocked(Reason.READ_ELSEWHERE)

    def _is_parted(self, value: str, part: Cut) -> bool:
        """Whether all other readers of a value take other channels of it."""
        return all(
            self._is_apart(reader, position, part)
            for reader in self._working.readers(value)
            for position, output in enumerate(reader.outputs)
            if output != part.output and self._working.uses(output)
        )

    def _is_apart(self, reader: Node, position: int, part: Cut) -> bool:
        try:
            return part.is_apart(cut(reader, position, self._ground.shapes))
        except Blocked:
            return False

    def _through(self, node: Node, value: str, m: ChannelMap, depth: int) -> list[Change]:
        if is_constant_product(node) or is_constant_sum(node):
            return self._through_constant(node, m, depth)
        if node.kind is K.SPLIT:
            return self._before_split(node, value, m, depth)
        ways = upstream(node, node.outputs.index(value), m, self._ground.shapes)
        return _first(partial(self._all_before, maps, depth) for maps in ways)

    def _all_before(self, maps: Mapping[str, ChannelMap], depth: int) -> list[Change]:
        return [change for v, m in maps.items() for change in self.before(v, m, depth + 1)]

    def _through_constant(self, node: Node, m: ChannelMap, depth: int) -> list[Change]:
        """With the constant as part of the map; or a sum takes the shift, and stays."""
        ways = [partial(self._with_constant, node, m, depth)]
        if is_constant_sum(node) and not node.attributes.get("reversed"):
            ways.append(partial(self._into_sum, node, m, depth))
        return _first(ways)

    def _with_constant(self, node: Node, m: ChannelMap, depth: int) -> list[Change]:
        self._ground.require_removable(node)
        affine, axis = affine_of_constant(node, self._ground.shapes)
        if len(m.axes) != 1 or axis not in (None, m.axes[0]) or not m.shifts:
            raise Blocked(Reason.CHANNELS, node)
        source = node.inputs[0]
        return [Change(node, None, source), *self.before(source, m.after(affine), depth + 1)]

    def _into_sum(self, node: Node, m: ChannelMap, depth: int) -> list[Change]:
        self._ground.require_change(node)
        _, axis = affine_of_constant(node, self._ground.shapes)
        if m.axes != (axis,):
            raise Blocked(Reason.CHANNELS, node)
        rest = self.before(node.inputs[0], m.scale_only(), depth + 1)
        return [Change(node, Step(Side.OUTPUT, m)), *rest]

    def _before_split(self, node: Node, value: str, m: ChannelMap, depth: int) -> list[Change]:
        """What the other parts hold must stay as it is."""
        position = node.outputs.index(value)
        (maps,) = upstream(node, position, m, self._ground.shapes)
        ((source, moved),) = maps.items()
        if not any(self._working.uses(other) for other in node.outputs if other != value):
            return self.before(source, moved, depth + 1, self._part(node, position, moved))
        part = self._part(node, position, moved)
        if part is None or not self._is_parted(self._working.now(source), part):
            raise Blocked(Reason.READ_ELSEWHERE, node)
        return self.before(source, moved, depth + 1, part)

    def _part(self, node: Node, position: int, m: ChannelMap) -> Cut | None:
        """Where the map acts, if that is a part along one of its axes."""
        try:
            part = cut(node, position, self._ground.shapes)
        except Blocked:
            return None
        return part if part.axis in m.axes else None

    def after(self, value: str, m: ChannelMap, depth: int = 0) -> list[Change]:
        """What takes in a map on a value, in everything that reads it."""
        self._look(depth)
        self.visited.append(value)
        value = self._working.now(value)
        if self._working.is_output(value):
            raise Blocked(Reason.MODEL_OUTPUT)
        readers = self._working.readers(value)
        if not readers:
            raise Blocked(Reason.NO_ORDER)
        return [change for node in readers for change in self._into(node, value, m, depth)]

    def _into(self, node: Node, value: str, m: ChannelMap, depth: int) -> list[Change]:
        positions = [i for i, v in enumerate(node.inputs) if self._working.now(v) == value]
        if len(positions) != 1:
            raise Blocked(Reason.READ_ELSEWHERE, node)
        shape = self._ground.shape_at(node, node.inputs[0])
        may_absorb = positions[0] == 0 and self._ground.may_absorb(node)
        if may_absorb and absorbs_input(node, m, shape):
            self._ground.require_change(node)
            return [Change(node, Step(Side.INPUT, m))]
        maps = downstream(node, positions[0], m, self._ground.shapes)
        return [change for v, each in maps.items() for change in self.after(v, each, depth + 1)]

    def beside(self, node: Node, m: ChannelMap) -> list[Change]:
        """A convolution of the same data, to whose result the node's is added; the sum goes."""
        made = self._working.now(node.outputs[0])
        readers = self._working.readers(made)
        if self._working.uses(made) != 1 or not readers or not _is_plain_sum(readers[0]):
            raise Blocked(Reason.READ_ELSEWHERE)
        terms = readers[0].inputs
        others = [term for term in terms if self._working.now(term) != made]
        if len(others) != 1 or len(terms) != 2:
            raise Blocked(Reason.READ_ELSEWHERE)
        self._ground.require_removable(readers[0])
        convolution = self._term(others[0], m, self._working.now(node.inputs[0]))
        return [
            Change(convolution, Step(Side.PARALLEL, m)),
            Change(readers[0], None, others[0]),
        ]

    def _term(self, value: str, m: ChannelMap, data: str) -> Node:
        """A convolution of the data among the terms of a sum."""
        waiting = [value]
        while waiting:
            self._look(0)
            self.visited.append(waiting[0])
            value = self._working.now(waiting.pop(0))
            maker = self._working.producer(value)
            if maker is None or self._working.uses(value) != 1:
                continue
            if absorbs_parallel(maker, m) and self._working.now(maker.inputs[0]) == data:
                self._ground.require_change(maker)
                return maker
            if _is_plain_sum(maker):
                waiting += maker.inputs
        raise Blocked(Reason.READ_ELSEWHERE)

    def _look(self, depth: int) -> None:
        self._left -= 1
        if depth > FARTHEST or self._left < 0:
            raise Blocked(Reason.TOO_FAR)


def _is_plain_sum(node: Node) -> bool:
    return node.kind is K.ADD and not node.parameters and not node.attributes


def _first(ways: Iterable[Callable[[], list[Change]]]) -> list[Change]:
    """The first way that is not blocked; raises the first obstacle where all are."""
    obstacle: Blocked | None = None
    for way in ways:
        try:
            return way()
        except Blocked as blocked:
            obstacle = obstacle or blocked
    raise obstacle or Blocked(Reason.OPERATOR)
