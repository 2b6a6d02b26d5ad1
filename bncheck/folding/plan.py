"""Which BatchNorms can go, into what, and why the others stay: pure functions of a graph.

A BatchNorm at inference scales and shifts each channel (``affine``). Its map is carried along the
graph, against the flow of data and, where that fails, along with it (``search``), through operators
that let it pass (``transfer``), until others take it into their parameters (``absorb``). A third
way is for the branch without weights of a block like RepVGG's: it becomes a tap of the convolution
beside it (Ding et al. 2021, arXiv:2101.03697, section 3.3).

A plan changes nothing. It names steps for nodes; ``arithmetic`` turns them into numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from weakref import WeakKeyDictionary

from bncheck.folding.absorb import Side, Step
from bncheck.folding.channels import ChannelMap
from bncheck.folding.reasons import Blocked, Obstacle, Reason
from bncheck.folding.search import STAGES, Change, Ground, MayChange, Search, Stage
from bncheck.folding.sources import is_source, map_of
from bncheck.graph import Graph, Node, NodeKind

NO_SHAPES: Mapping[str, tuple[int | None, ...]] = {}


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """A node that goes, and the operators that take in what it did; none for an identity."""

    node: Node
    into: tuple[Node, ...]

    @property
    def is_direct(self) -> bool:
        """Whether the operator directly before takes it in."""
        return len(self.into) == 1 and self.node.inputs[0] in self.into[0].outputs

    def handed_on(self, later: Fold) -> Fold:
        """This fold, where one of those that took the node in is gone too by now."""
        if later.node not in self.into:
            return self
        into = (later.into if each is later.node else (each,) for each in self.into)
        return Fold(self.node, tuple(dict.fromkeys(node for nodes in into for node in nodes)))


@dataclass(frozen=True, eq=False)
class FoldPlan:
    """What to do to a graph.

    ``folds`` and ``kept`` hold all BatchNorms, and ``folds`` the constant products and sums that
    go besides. ``steps`` are to be made in order, by ``id`` of the node. ``aliases`` says which
    value is to be read instead of one that is gone. A node of ``sums`` becomes an addition of the
    shift of its map. ``sites`` are values that must stay what they are, for a comparison: by their
    names in the graph, the values that stand for them once all is done.
    """

    folds: tuple[Fold, ...] = ()
    kept: Mapping[Node, Obstacle] = field(default_factory=dict)
    steps: Mapping[int, tuple[Step, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[Node, ChannelMap] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)

    @property
    def batch_norms(self) -> tuple[Fold, ...]:
        """The folds of BatchNorms."""
        return tuple(each for each in self.folds if each.node.kind is NodeKind.BATCH_NORM)

    @cached_property
    def by_node(self) -> Mapping[Node, Fold]:
        """The folds by what they take away."""
        return {fold.node: fold for fold in self.folds}

    def needing(self, *nodes: Node) -> tuple[Node, ...]:
        """What can only go if some nodes go or change."""
        needed = {*nodes}
        return tuple(f.node for f in self.folds if not needed.isdisjoint((f.node, *f.into)))

    def now(self, value: str) -> str:
        """The value that is to be read instead of one; itself where it stays."""
        while value in self.aliases:
            value = self.aliases[value]
        return value


def in_the_file(graph: Graph, node: Node) -> Reason | None:
    """Why a node cannot change in the file that a graph was read from."""
    return Reason(graph.fixed[node]) if node in graph.fixed else None


_PLANS: WeakKeyDictionary[Graph, FoldPlan] = WeakKeyDictionary()


def plan_of(graph: Graph) -> FoldPlan:
    """The plan with nothing forbidden but by the file itself, made once for each graph."""
    if graph not in _PLANS:
        _PLANS[graph] = plan(graph)
    return _PLANS[graph]


def plan(
    graph: Graph,
    may_change: MayChange | None = None,
    *,
    keep: Mapping[Node, Obstacle] | None = None,
    copies_parameters: bool = True,
    scale_only: bool = False,
    rewires: bool = True,
) -> FoldPlan:
    """Plan to fold every BatchNorm of a graph that can be folded exactly.

    ``may_change`` gives a reason against changing or removing a node; by default those of the file.
    Nodes in ``keep`` are left alone. Without ``copies_parameters`` what shares a parameter with
    another node stays as it is. ``scale_only`` also folds a scale whose shift finds no place, and
    leaves an addition. Without ``rewires`` nothing is done that takes another node out, or puts one
    in.
    """
    ground = Ground(graph, may_change or partial(in_the_file, graph), copies_parameters)
    return _Planner(ground, keep or {}, scale_only, rewires).plan()


class _Planner:
    def __init__(
        self, ground: Ground, keep: Mapping[Node, Obstacle], scale_only: bool, rewires: bool
    ) -> None:
        self._ground = ground
        self._keep = keep
        self._scale_only = scale_only
        self._rewires = rewires
        self._folds: list[Fold] = []
        self._taken_in: dict[Node, set[int]] = {}  # by who took in: places in _folds
        self._visits: list[tuple[int, str]] = []  # when a map was carried over which value
        self._sites: list[tuple[int, str]] = []

    def plan(self) -> FoldPlan:
        graph = self._ground.graph
        waiting: Sequence[Node] = [node for node in graph.nodes if is_source(graph, node)]
        kept: Mapping[Node, Obstacle] = {}
        stages = [*STAGES]
        while stages:  # what is folded may clear the way for what was blocked before
            self._ground.stage = stages.pop(0)
            kept = {node: obstacle for node in waiting if (obstacle := self._fold(node))}
            if len(kept) < len(waiting):
                stages = [*STAGES]
            waiting = [*kept]
        return FoldPlan(
            tuple(self._folds),
            {node: why for node, why in kept.items() if node.kind is NodeKind.BATCH_NORM},
            self._ground.steps,
            self._ground.working.aliases,
            self._ground.sums,
            self._untouched_sites(),
        )

    def _untouched_sites(self) -> Mapping[str, str]:
        """Values that no map was carried over, nor over what stands for them after they were noted.

        A map leaves a value behind under its own name, which is no longer what it was.
        """
        now = self._ground.working.now
        changed = {value for _, value in self._visits}
        last: dict[str, int] = {}
        for moment, value in self._visits:
            last[now(value)] = max(moment, last.get(now(value), 0))
        found = ((m, value) for m, value in self._sites if value not in changed)
        return {value: now(value) for m, value in found if last.get(now(value), 0) <= m}

    def _fold(self, node: Node) -> Obstacle | None:
        """Fold one node; what stands in the way where that cannot be."""
        if node in self._keep:
            return self._keep[node]
        if node.outputs[0] in self._ground.working.aliases:
            return None  # it went with another
        try:
            self._ground.require_removable(node)
            m = self._map_of(node)
            if len(m.parts) == 1 and m.parts[0].affine.is_identity:
                self._remove(node, [])
                self._sites.append((len(self._folds), node.outputs[0]))
                return None
        except Blocked as blocked:
            return blocked.obstacle
        return self._fold_map(node, m)

    def _map_of(self, node: Node) -> ChannelMap:
        """What a node does by now: a BatchNorm may have taken in others before."""
        is_norm = node.kind is NodeKind.BATCH_NORM
        m = map_of(self._ground.graph, node, NO_SHAPES if is_norm else self._ground.shapes)
        for step in self._ground.steps.get(id(node), ()):
            before, after = (m, step.map) if step.side is Side.OUTPUT else (step.map, m)
            m = before.then(after)
        return m

    def _fold_map(self, node: Node, m: ChannelMap) -> Obstacle | None:
        is_norm = node.kind is NodeKind.BATCH_NORM
        obstacles: list[Obstacle] = []
        ways = (_upstream, _downstream, _parallel) if self._rewires else (_upstream, _downstream)
        for way in ways if is_norm else ways[:1]:
            search = Search(self._ground)
            try:
                changes = way(search, node, m)
                self._remove(node, changes)
                self._note(search, _sites(way, node, changes))
            except Blocked as blocked:
                obstacles.append(blocked.obstacle)
            else:
                return None
        is_last = self._ground.stage is Stage.SUMS
        may_sum = self._scale_only or obstacles[0].reason is Reason.NO_BIAS
        if is_norm and is_last and may_sum and self._rewires:
            return self._leave_a_sum(node, m, obstacles[0])
        return obstacles[0]

    def _note(self, search: Search, sites: Sequence[str]) -> None:
        moment = len(self._folds)
        self._visits += [(moment, value) for value in search.visited]
        self._sites += [(moment, value) for value in sites]

    def _remove(self, node: Node, changes: Sequence[Change]) -> None:
        self._ground.steps.pop(id(node), None)
        self._make(node, changes)
        self._hand_on(node)
        self._ground.working.take_out(node, node.inputs[0])

    def _hand_on(self, node: Node) -> None:
        """What a node took in before it went is with those that took in the node."""
        last = len(self._folds) - 1
        for index in self._taken_in.pop(node, ()):
            self._folds[index] = self._folds[index].handed_on(self._folds[last])
            self._remember(index)

    def _remember(self, index: int) -> None:
        for each in self._folds[index].into:
            self._taken_in.setdefault(each, set()).add(index)

    def _make(self, node: Node, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.step is None:
                self._ground.working.take_out(change.node, change.instead)
                if is_source(self._ground.graph, change.node):
                    self._folds.append(Fold(change.node, ()))
            else:
                before = self._ground.steps.get(id(change.node), ())
                self._ground.steps[id(change.node)] = (*before, change.step)
        into = dict.fromkeys(change.node for change in changes if change.step)
        self._folds.append(Fold(node, tuple(into)))
        self._remember(len(self._folds) - 1)

    def _leave_a_sum(self, node: Node, m: ChannelMap, obstacle: Obstacle) -> Obstacle | None:
        """A matrix product has no place for a shift: the BatchNorm becomes the sum after it."""
        search = Search(self._ground)
        try:
            changes = _upstream(search, node, m.scale_only())
        except Blocked:
            return obstacle
        self._ground.steps.pop(id(node), None)
        self._make(node, changes)
        self._note(search, node.outputs[:1])
        self._ground.sums[node] = m
        return None


def _upstream(search: Search, node: Node, m: ChannelMap) -> list[Change]:
    return search.before(node.inputs[0], m)


def _downstream(search: Search, node: Node, m: ChannelMap) -> list[Change]:
    return search.after(node.outputs[0], m)


def _parallel(search: Search, node: Node, m: ChannelMap) -> list[Change]:
    return search.beside(node, m)


Way = Callable[[Search, Node, ChannelMap], list[Change]]


def _sites(way: Way, node: Node, changes: Sequence[Change]) -> list[str]:
    """Where the original and the folded graph have the same value."""
    if way is _upstream:
        return [node.outputs[0]]
    if way is _downstream:
        return [change.node.outputs[0] for change in changes]
    return [change.node.outputs[0] for change in changes if change.step is None]
