"""Carries a plan out on the document and the tensors of a program."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cached_property, partial

from bncheck.folding.archives.tensors import Content
from bncheck.folding.archives.zipped import Copied, Part
from bncheck.folding.arguments import flag
from bncheck.folding.exported.file import ExportedFile
from bncheck.folding.exported.stores import Store, layout, text
from bncheck.folding.exported.wiring import Json, Names, names_in, outputs_of, tensor
from bncheck.folding.numbers import NewTensor, Numbers
from bncheck.folding.plan import FoldPlan
from bncheck.folding.shapes import shapes
from bncheck.graph import Node, NodeKind
from bncheck.readers.aten import base_name
from bncheck.readers.aten.constants import VIEWS
from bncheck.readers.aten.layers import COUNTER
from bncheck.tensor import Tensor

STALE = ".data/serialization_id"  # of what was in the archive
SUM = "torch.ops.aten.add.Tensor"


class Rewrite:
    """What becomes of a document and its tensors; the file itself stays as it is."""

    def __init__(self, file: ExportedFile, plan: FoldPlan) -> None:
        self._file = file
        self._plan = plan
        self.document = file.new_document()
        self._stores = file.new_stores()
        self._numbers = Numbers(plan, shapes(file.graph) if plan.sums else {})
        self._makers = {v: node for node in self.document.nodes for v in outputs_of(node)}
        self._taken = self.document.taken
        self._gone: set[int] = set()
        self._take_out()
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

    def parts(self) -> Iterator[Part]:
        """The entries of the new archive."""
        archive, place = self._file.archive, self._file.place
        changes: dict[str, Part | None] = {}
        for store in self._stores:
            changes |= store.changes()
        changes[place.document] = text(place.document, self.document.json)
        for name in archive.entries:
            part = changes.pop(name, Copied(archive, name))
            if part is not None and not name.endswith(STALE):
                yield part
        yield from filter(None, changes.values())

    def _json(self, node: Node) -> Json:
        return self.document.nodes[self._file.origins[node].position]

    def _take_out(self) -> None:
        renamed: dict[str, str] = {}
        for value in self._plan.aliases:
            node = self._file.graph.producer(value)
            if node is not None:
                self._gone.add(id(self._json(node)))
                renamed[value] = self._plan.now(value)
        self.document.rename(renamed)
        self.document.forget_calls({fold.node.name for fold in self._plan.batch_norms})

    # Parameters

    def _give_parameters(self, node: Node) -> None:
        for new in self._numbers.tensors(node, False):
            argument = self._argument(node, new.role)
            names = [*names_in(argument["arg"])] if argument else []
            stored = self._own(names[0], new) if names else None
            if stored is None:
                weight = self._argument(node, "weight") or argument
                self._rewire(node, new, argument, weight)
            else:
                self._replace(stored, new)

    def _argument(self, node: Node, role: str) -> Json:
        """What the document gives for a parameter; None where it gives nothing."""
        wanted = self._file.origins[node].places.get(role, role)
        given = self._json(node)["inputs"]
        return next((each for each in given if each["name"] == wanted), None)

    def _own(self, value: str, new: NewTensor) -> str | None:
        """The stored tensor behind an argument, where nothing else reads it."""
        while self._file.reads[value] == 1:
            if value in self._file.program.stored:
                return value if self._is_as_stored(value, new) else None
            source = self._viewed(value)
            if source is None:
                return None
            value = source
        return None

    def _is_as_stored(self, value: str, new: NewTensor) -> bool:
        held, parameter = self._file.parameter(value), new.node.parameters.get(new.role)
        same = held is not None and held.tensor is parameter
        return same and isinstance(parameter, Tensor) and parameter.shape == new.shape

    def _viewed(self, value: str) -> str | None:
        """What a value is a view of, where it is no more than that."""
        maker = self._makers.get(value)
        if maker is None or f"aten.{_base(maker)}" not in VIEWS:
            return None
        names = [*names_in([each["arg"] for each in maker["inputs"]])]
        return names[0] if len(names) == 1 else None

    def _replace(self, value: str, new: NewTensor) -> None:
        """Let a stored tensor have other numbers."""
        content, name = self._content(new), self._file.program.stored[value]
        self._holder(name).put(name, content, name)
        if value in self.document.metas:
            self.document.metas[value] |= layout(content)

    def _holder(self, name: str) -> Store:
        return next(each for each in reversed(self._stores) if name in each.names)

    def _content(self, new: NewTensor, turned: bool = False, grad: bool = False) -> Content:
        shape, strides = new.shape, _strides(new.shape)
        if turned:
            shape, strides = shape[::-1], strides[::-1]
        make = partial(self._numbers.make, new)
        return Content(shape, strides, new.dtype, new.nbytes, make, grad)

    def _rewire(self, node: Node, new: NewTensor, argument: Json, weight: Json) -> None:
        """Let a node read a parameter that is added to the program."""
        (like,) = names_in(weight["arg"])
        origin = self._origin_of(like)
        held = self._file.parameter(origin) if origin else None
        grad = held is not None and held.requires_grad
        turned = new.role == "weight" and _is_turned(node)
        value = self._add(new, like, origin, self._content(new, turned, grad))
        if argument is None:
            self._json(node)["inputs"].append({**weight, "name": new.role, "arg": tensor(value)})
        else:
            argument["arg"] = tensor(value)

    def _origin_of(self, value: str) -> str | None:
        """The input of the program that a value views."""
        found: str | None = value
        while found is not None and found not in self._file.program.stored:
            found = self._viewed(found)
        return found

    def _add(self, new: NewTensor, like: str, origin: str | None, content: Content) -> str:
        """A new parameter; the value that stands for it."""
        before = self._file.program.stored.get(origin or "", f"{new.node.label}.weight")
        module, dot, _ = before.rpartition(".")
        name = self._free(f"{module}{dot}{new.role}", self._names)
        value = self._free(f"p_{_words(name)}", self._taken)
        self._stores[-1].put(name, content, before)
        meta = {**self.document.metas[like], **layout(content), "requires_grad": content.grad}
        self.document.add_parameter(value, name, meta)
        return value

    @cached_property
    def _names(self) -> set[str]:
        stored = self._file.program.stored.values()
        return {*stored, *(name for store in self._stores for name in store.names)}

    @staticmethod
    def _free(wanted: str, taken: set[str]) -> str:
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name)
        return name

    def _make_a_sum(self, node: Node) -> None:
        """A BatchNorm of a matrix product becomes the addition of what it shifts by."""
        json, new = self._json(node), self._numbers.summand(node)
        data, weight = (self._argument(node, role) for role in ("input", "weight"))
        like = weight or self._argument(node, "running_mean")
        (name,) = names_in(like["arg"])
        value = self._add(new, name, self._origin_of(name), self._content(new))
        json["target"], json["outputs"] = SUM, json["outputs"][:1]
        json["inputs"] = [{**data, "name": "self"}, {**data, "name": "other", "arg": tensor(value)}]

    # What nothing reads any more

    def _drop_the_dead(self) -> None:
        """Stored tensors, and views of them, that were read and are no longer."""
        left = self.document.reads(self._gone)
        waiting = [name for name in self._file.reads if not left[name]]
        dead: set[str] = set()
        while waiting:
            name = waiting.pop()
            source = self._viewed(name)
            if name in self._file.program.stored:
                dead.add(name)
            elif source is not None and id(self._makers[name]) not in self._gone:
                self._gone.add(id(self._makers[name]))
                left[source] -= 1
                waiting += [source] if not left[source] else []
        self._forget(dead | self._counters(dead, left))

    def _counters(self, dead: set[str], left: Names) -> set[str]:
        """The batch counters of BatchNorms that go."""
        stored = self._file.program.stored
        modules = {stored[name].rpartition(".")[0] for name in dead}
        counters = {f"{module}.{COUNTER}" for module in modules}
        return {v for v, name in stored.items() if name in counters and not left[v]}

    def _forget(self, dead: set[str]) -> None:
        stored = self._file.program.stored
        changed = {held.get("buffer_name") for held in self.document.mutations()}
        dead = {value for value in dead if stored[value] not in changed}
        kept = {name for value, name in stored.items() if value not in dead}
        for name in {stored[value] for value in dead} - kept:
            for store in self._stores:
                store.drop(name)
        self.document.remove(self._gone, dead)


def _base(node: Json) -> str:
    parts = node["target"].removeprefix("torch.ops.").split(".")
    return base_name(parts[1]) if len(parts) == 3 and parts[0] == "aten" else ""


def _is_turned(node: Node) -> bool:
    """Whether the weight of a node is the transpose of what the operator is given."""
    return node.kind is NodeKind.LINEAR and flag(node, "transB") is not (node.op == "aten.linear")


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[at + 1 :]) for at in range(len(shape)))


def _words(name: str) -> str:
    return re.sub(r"\W", "_", name)
