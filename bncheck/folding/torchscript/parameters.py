"""Gives the operators of an archive new parameters: in their objects, or as constants of code."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from bncheck.folding.archives.tensors import Content
from bncheck.folding.numbers import NewTensor, Numbers
from bncheck.folding.reasons import Blocked, Reason
from bncheck.folding.torchscript.code import Call, Code, Span
from bncheck.folding.torchscript.file import ATEN, Place, ScriptFile
from bncheck.folding.torchscript.pickles import Pickle
from bncheck.graph import Node
from bncheck.readers.aten import base_name
from bncheck.readers.aten.call import Argument, Value
from bncheck.readers.aten.constants import VIEWS
from bncheck.readers.aten.schemas import SCHEMAS
from bncheck.readers.torch.pickle_values import attributes
from bncheck.readers.torchscript.objects import ScriptObject
from bncheck.readers.torchscript.tape import Record

NOTHING = "None"
OPTIONAL, NONE = "Optional[Tensor]", "NoneType"
FROZEN_WITHOUT = "training"  # what only a module that is not frozen has
_PARAMETERS = re.compile(r"^  __parameters__ = \[(.*)\]$", re.MULTILINE)


class Parameters:
    """Puts new tensors where the operators find them, in the order in which they are given."""

    def __init__(
        self, file: ScriptFile, code: Code, pickles: tuple[Pickle, Pickle], numbers: Numbers
    ) -> None:
        self._file = file
        self._code = code
        self._data, self._constants = pickles
        self._numbers = numbers
        self._shared: dict[str, list[NewTensor]] = defaultdict(list)
        self._filled: dict[object, bytes] = {}
        self._added: set[tuple[ScriptObject, str]] = set()

    def give(self, node: Node) -> None:
        """Give a node what it takes in. Raises Blocked where there is no place for it."""
        origin = self._file.origins[node]
        for new in self._numbers.tensors(node, False):
            at = _position(origin.record, origin.places.get(new.role, new.role))
            given = _given(origin.record, at)
            if isinstance(given, Value):
                self._replace(new, at, given.name)
            elif given is None:
                self._fill(new, at)
            else:
                raise Blocked(Reason.COMPUTED, node)

    def settle(self) -> None:
        """Replace what several operators share, where all of them agree on what it becomes."""
        for stored, news in self._shared.items():
            first, *others = news
            made = self._numbers.make(first)
            agree = all(self._numbers.make(other) == made for other in others)
            if not agree or len(news) != self._file.reads[stored]:
                raise Blocked(Reason.SHARED, first.node)
            self._put(stored, first)

    def _replace(self, new: NewTensor, at: int, value: str) -> None:
        stored, is_sole = self._stored(value)
        if not self._is_as_stored(stored, new):
            self._write_at_place(new, at)
        elif is_sole:
            self._put(stored, new)
        elif self._may_write_at(new.node):
            self._write_at_place(new, at)
        elif stored == value:
            self._shared[stored].append(new)
        else:
            raise Blocked(Reason.SHARED, new.node)

    def _stored(self, value: str) -> tuple[str, bool]:
        """What a value is a view of, and whether nothing else reads it."""
        is_sole = True
        while True:
            is_sole = is_sole and self._file.reads[value] == 1
            maker = self._file.makers.get(value)
            source = maker.positional[0] if maker and maker.positional else None
            is_view = maker is not None and _aten(maker) in VIEWS
            if not is_view or not isinstance(source, Value):
                return value, is_sole
            value = source.name

    def _is_as_stored(self, stored: str, new: NewTensor) -> bool:
        held = self._file.tracer.world.stored.get(stored)
        if held is None or stored not in self._file.tracer.world.origins:
            return False
        is_it = held.tensor is new.node.parameters.get(new.role)
        return is_it and getattr(held.tensor, "shape", None) == new.shape

    def _put(self, stored: str, new: NewTensor) -> None:
        """Give an attribute or a constant other numbers."""
        target, name = self._file.tracer.world.origins[stored]
        content = self._content(new)
        if target is None:
            index = int(name[1:])
            made = self._constants.tensor(content, self._constants.value[index])
            self._constants.replace(index, made)
            return
        path = self._file.path(target)
        if path is None:
            raise Blocked(Reason.SHARED, new.node)
        holder = self._data.object(path)
        self._data.set(holder, name, self._data.tensor(content, attributes(holder)[name]))

    def _content(self, new: NewTensor) -> Content:
        strides = tuple(math.prod(new.shape[at + 1 :]) for at in range(len(new.shape)))
        return Content(new.shape, strides, new.dtype, new.nbytes, partial(self._numbers.make, new))

    # A bias that an operator did not have

    def _fill(self, new: NewTensor, at: int) -> None:
        call = self._file.call(self._file.origins[new.node].record)
        if call is None or self._is_a_name(new.node, call, at):
            self._fill_attribute(new)
        else:
            self._write_at_place(new, at)

    def _is_a_name(self, node: Node, call: Call, at: int) -> bool:
        """Whether the text of an argument is something that is None."""
        return at < len(call.arguments) and self._text(node, call.arguments[at]) != NOTHING

    def _text(self, node: Node, span: Span) -> str:
        place = self._file.place(self._file.origins[node].record)
        assert place is not None
        return self._code.text(self._code.file_of(place.class_name)).content[slice(*span)]

    def _fill_attribute(self, new: NewTensor) -> None:
        """An object around the call holds None under that name."""
        site = self._file.tracer.sites[self._file.origins[new.node].record]
        for frame in site.frame.outward():
            target = frame.target
            if target is not None and target.held.get(new.role, NOTHING) is None:
                if self._is_first((target, new.role), new):
                    self._declare_optional(target, new)
                    self._hold(target, new.role, new)
                return
        raise Blocked(Reason.NO_BIAS, new.node)

    def _declare_optional(self, target: ScriptObject, new: NewTensor) -> None:
        span = self._code.declaration(target.class_name, new.role)
        written = self._code.text(self._code.file_of(target.class_name)).content
        if span is None or written[slice(*span)] not in (OPTIONAL, NONE):
            raise Blocked(Reason.NO_BIAS, new.node)
        self._code.edit(target.class_name, span, OPTIONAL)
        self._list_as_parameter(target, new.role)

    def _hold(self, target: ScriptObject, name: str, new: NewTensor) -> None:
        path = self._file.path(target)
        if path is None:
            raise Blocked(Reason.NO_BIAS, new.node)
        holder = self._data.object(path)
        like = attributes(holder).get("weight")
        self._data.set(holder, name, self._data.tensor(self._content(new), like))

    def _is_first(self, key: object, new: NewTensor) -> bool:
        """Whether something has no new numbers yet; raises Blocked where it has others."""
        made = self._numbers.make(new)
        if key not in self._filled:
            self._filled[key] = made
            return True
        if self._filled[key] != made:
            raise Blocked(Reason.SHARED, new.node)
        return False

    # An operator that is to read something else

    def _may_write_at(self, node: Node) -> bool:
        """Whether the text of a call is that of this one alone."""
        record = self._file.origins[node].record
        place = self._file.place(record)
        return place is not None and len(self._file.by_place[place]) == 1

    def _write_at_place(self, new: NewTensor, at: int) -> None:
        """Let the text of a call name something new, for all that it is the text of."""
        record = self._file.origins[new.node].record
        place, call = self._file.place(record), self._file.call(record)
        if place is None or call is None:
            raise Blocked(Reason.NO_BIAS if new.role == "bias" else Reason.SHARED, new.node)
        if not self._is_first((place, at), new):
            return
        written = self._expression(new, place)
        if at < len(call.arguments):
            self._code.edit(place.class_name, call.arguments[at], written)
        elif at == len(call.arguments) and not any(call.keywords):
            end = call.arguments[-1].end
            self._code.edit(place.class_name, Span(end, end), f", {written}")
        else:
            raise Blocked(Reason.NO_BIAS, new.node)

    def _expression(self, new: NewTensor, place: Place) -> str:
        """What the code calls a new tensor: an attribute where one object alone runs the code."""
        frames = [self._file.tracer.sites[each].frame for each in self._file.by_place[place]]
        targets = {frame.target for frame in frames}
        (target, *others) = (each for each in targets if each is not None)
        alike = [m for m in self._file.modules.values() if m.class_name == place.class_name]
        if others or {*alike} != {target}:
            return self._constant(new, len(frames))
        if FROZEN_WITHOUT not in target.held or self._file.path(target) is None:
            return self._constant(new, len(frames))
        name = self._new_name(target, new.role)
        self._declare(target, name)
        self._hold(target, name, new)
        return f"{frames[0].function.parameters[0].name}.{name}"

    def _constant(self, new: NewTensor, uses: int) -> str:
        if uses != 1:
            raise Blocked(Reason.SHARED, new.node)
        like = next(iter(self._constants.value), None)
        made = self._constants.tensor(self._content(new), like)
        return f"CONSTANTS.c{self._constants.append(made)}"

    def _new_name(self, target: ScriptObject, wanted: str) -> str:
        known = target.script_class
        taken = {*target.held, *((*known.methods, *known.constants) if known else ())}
        name, number = wanted, 2
        while name in taken or (target, name) in self._added:
            name, number = f"{wanted}_{number}", number + 1
        self._added.add((target, name))
        return name

    def _declare(self, target: ScriptObject, name: str) -> None:
        """Add an attribute to a class, as a parameter."""
        span = self._code.class_span(target.class_name)
        content = self._code.text(self._code.file_of(target.class_name)).content
        begin = content.index("\n", span.begin, span.end) + 1
        listed = _PARAMETERS.search(content, *span)
        begin = listed.end() + 1 if listed else begin
        self._code.edit(target.class_name, Span(begin, begin), f"  {name} : Tensor\n")
        self._list_as_parameter(target, name)

    def _list_as_parameter(self, target: ScriptObject, name: str) -> None:
        """So that ``to`` moves it with the others."""
        span = self._code.class_span(target.class_name)
        content = self._code.text(self._code.file_of(target.class_name)).content
        listed = _PARAMETERS.search(content, *span)
        if listed and f'"{name}"' not in listed[1]:
            end = listed.end(1)
            self._code.edit(target.class_name, Span(end, end), f'"{name}", ')


def _aten(record: Record) -> str:
    return f"{ATEN}{base_name(record.op.removeprefix(ATEN))}"


def _position(record: Record, argument: str) -> int:
    """Where an argument of an operation comes among those that are given by position."""
    names: Sequence[str] = SCHEMAS.get(base_name(record.op.removeprefix(ATEN)), ())
    return names.index(argument) if argument in names else len(names)


def _given(record: Record, at: int) -> Argument:
    return record.positional[at] if at < len(record.positional) else None
