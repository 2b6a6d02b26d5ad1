"""Carries a plan out on the document and the tensors of a program."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from bncheck.folding.archives.zipped import Copied, Part
from bncheck.folding.exported.file import ExportedFile
from bncheck.folding.exported.stores import Content, text
from bncheck.folding.exported.wiring import Json, names_in, outputs_of, spec_kinds, tensor
from bncheck.folding.onnx.numbers import NewTensor, Numbers
from bncheck.folding.plan import FoldPlan
from bncheck.folding.shapes import shapes
from bncheck.graph import Node
from bncheck.readers.aten import base_name
from bncheck.readers.aten.constants import VIEWS
from bncheck.readers.aten.layers import COUNTER

STALE = ".data/serialization_id"  # of what was in the archive
SUM = "torch.ops.aten.add.Tensor"
BEFORE_PARAMETERS = ("token", "parameter")


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
        self._clear()

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

    # Parameters

    def _give_parameters(self, node: Node) -> None:
        weight = self._argument(node, "weight")
        for new in self._numbers.tensors(node, False):
            argument = self._argument(node, new.role)
            names = [*names_in(argument["arg"])] if argument else []
            stored = self._own(names[0], new) if names else None
            if stored is not None:
                self._replace(stored, new)
                continue
            turned = bool(names) and self._is_transposed(names[0], new)
            value = self._add(new, next(names_in(weight["arg"])), turned)
            self._rewire(node, new.role, argument, weight, value)

    def _argument(self, node: Node, role: str) -> Json:
        """What the document gives for a parameter; None where it gives nothing."""
        wanted = self._file.origins[node].places.get(role, role)
        given = self._json(node)["inputs"]
        return next((each for each in given if each["name"] == wanted), None)

    def _own(self, value: str, new: NewTensor) -> str | None:
        """The stored tensor behind an argument, where nothing else reads it."""
        while self._file.reads[value] == 1:
            if value in self._file.program.stored:
                held = self._file.parameter(value)
                fits = held is not None and held.tensor is new.node.parameters.get(new.role)
                return value if fits and getattr(held.tensor, "shape", None) == new.shape else None
            source = self._viewed(value)
            if source is None:
                return None
            value = source
        return None

    def _viewed(self, value: str) -> str | None:
        """What a value is a view of, where it is no more than that."""
        maker = self._makers.get(value)
        if maker is None or f"aten.{_base(maker)}" not in VIEWS:
            return None
        names = [*names_in([each["arg"] for each in maker["inputs"]])]
        return names[0] if len(names) == 1 else None

    def _is_transposed(self, value: str, new: NewTensor) -> bool:
        """Whether an argument is the transpose of the parameter that it stands for."""
        maker = self._makers.get(value)
        sizes = [held.get("as_int") for held in self.document.metas[value]["sizes"]]
        turned = maker is not None and _base(maker) in ("permute", "t", "transpose", "numpy_T")
        places = self._file.origins[new.node].places
        return turned and new.role == "weight" and new.role in places and self._is_matrix(new, sizes)

    def _is_matrix(self, new: NewTensor, sizes: list[int | None]) -> bool:
        return len(new.shape) == 2 and tuple(sizes) == new.shape[::-1]

    def _replace(self, value: str, new: NewTensor) -> None:
        content = self._content(new, False, False)
        name = self._file.program.stored[value]
        self._holder(name).put(name, content, name)
        meta = self.document.metas.get(value)
        if meta is not None:
            meta |= _layout(content)

    def _holder(self, name: str) -> object:
        return next((each for each in reversed(self._stores) if name in each.names), None)

    def _content(self, new: NewTensor, turned: bool, requires_grad: bool) -> Content:
        shape, strides = new.shape, _strides(new.shape)
        if turned:
            shape, strides = shape[::-1], strides[::-1]
        make = partial(self._numbers.make, new)
        return Content(shape, strides, new.dtype, new.nbytes, make, requires_grad)
