"""From a plan to what it makes, without the folds that turn out to be impossible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from bncheck.errors import CannotFold
from bncheck.folding.memory import unsafe
from bncheck.folding.plan import FoldPlan, plan
from bncheck.folding.reasons import Blocked, Obstacle, Reason
from bncheck.graph import Graph, Node
from bncheck.readers.limits import all_values

Made = TypeVar("Made")


class Opened(Protocol):
    """A model whose graph is known, down to what each node was made of."""

    @property
    def graph(self) -> Graph:
        """The flat graph."""

    @property
    def in_place(self) -> frozenset[str]:
        """What operators make that write into what they are given."""

    def objection(self, node: Node) -> Reason | None:
        """Why a node cannot change or go; None where it can."""


def carried_out(
    opened: Opened, make: Callable[[FoldPlan], Made], *, scale_only: bool = False
) -> Made:
    """What ``make`` makes of a plan; it raises Blocked for a fold that it cannot carry out.

    Such a fold is given up, as is one that memory in place makes unsafe, and all is made without.
    Raises CannotFold where what is in the way is no fold.
    """
    keep: dict[Node, Obstacle] = {}
    while True:
        decided = plan(opened.graph, opened.objection, keep=keep, scale_only=scale_only)
        refused = {**unsafe(decided, opened.graph, opened.in_place)}
        why: Obstacle | None = None
        if refused.keys() <= keep.keys():
            try:
                with all_values():
                    return make(decided)
            except Blocked as blocked:
                why = blocked.obstacle
                refused = dict.fromkeys(decided.needing(*filter(None, [why.node])), why)
        if refused.keys() <= keep.keys():
            raise CannotFold(f"the fold cannot be made: {why}")
        keep |= refused
