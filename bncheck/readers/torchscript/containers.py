"""Lists and dictionaries of TorchScript code: exactly, as long as what is in them is known.

The content of a List is a list, that of a Dictionary a dict; or Data or Computed where it is not
known, as after a loop. Operators on such content give Data or Computed again.
"""

from __future__ import annotations

from collections.abc import Sequence

from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.tape import Tape
from bncheck.readers.torchscript.values import (
    UNKNOWN,
    Computed,
    Data,
    Dictionary,
    Heap,
    List,
    Named,
    Runtime,
    Stored,
    is_plain,
    key_of,
    leaves,
    words,
)

LONGEST = 10_000  # items
NOT_KNOWN = object()  # what an operator gives that is not followed here
GIVES_AN_ITEM = words("pop setdefault")
CHANGES = GIVES_AN_ITEM | words(
    "append extend insert clear reverse remove sort add_ _set_item update Delete popitem"
)


class Containers:
    """Makes containers, takes from them and changes them."""

    def __init__(self, heap: Heap, tape: Tape) -> None:
        self._heap = heap
        self._tape = tape

    def new_list(self, items: Sequence[Runtime]) -> Runtime:
        """A new list."""
        return self._new(List(), [*items])

    def new_dictionary(self, items: Sequence[Runtime]) -> Runtime:
        """A new dictionary from keys and values in turn."""
        content: dict[str, Runtime] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = key_of(key)
            if name is None:
                raise Unclear("a dictionary has a key that is computed")
            content[name] = value
        return self._new(Dictionary(), content)

    def unpack(self, value: Runtime, count: int) -> Sequence[Runtime]:
        """The items of a tuple or list that has so many."""
        self._heap.budget.spend(count)
        content = self._heap[value] if isinstance(value, List) else value
        if isinstance(content, list | tuple) and len(content) == count:
            return content
        if isinstance(content, Data):
            return [self._tape.item(content, index) for index in range(count)]
        if isinstance(content, Computed):
            return [content] * count
        raise Unclear("something is unpacked that does not have as many items")

    def item(self, value: Runtime, key: Runtime) -> Runtime:
        """``value[key]``."""
        content = self._heap[value] if isinstance(value, List | Dictionary) else value
        if isinstance(content, list | tuple | str) and type(key) is int:
            if -len(content) <= key < len(content):
                return content[key]
            raise Unclear("an index is out of range")
        if isinstance(content, dict) and key_of(key) in content:
            return content[key_of(key) or ""]
        if isinstance(content, Data):
            known = isinstance(key, int | str)
            return self._tape.item(content, key if known else "any")
        if isinstance(content, Computed | Named):  # a type: List[int]
            return content
        return self._any_of(content)

    def section(self, value: Runtime, begin: Runtime, end: Runtime) -> Runtime:
        """``value[begin:end]`` of a tuple; those of lists are operators."""
        if not isinstance(value, tuple) or not type(begin) is type(end) is int:
            raise Unclear("a section is taken of something that is no tuple")
        self._heap.budget.spend(len(value))
        return value[begin:end]

    def _any_of(self, content: Runtime) -> Runtime:
        """An item under a key that is not known."""
        values = [*content.values()] if isinstance(content, dict) else content
        if isinstance(values, list | tuple) and values:
            if not any(isinstance(each, Data | Stored) for each in values):
                return UNKNOWN
            return self._tape.gather("prim.any", values)
        raise Unclear("an item is taken of something that has none")

    def apply(self, name: str, arguments: Sequence[Runtime]) -> Runtime:
        """The result of an operator whose first argument is a container, or NOT_KNOWN."""
        target, *rest = arguments
        content = self._heap[target]
        if isinstance(content, dict | list):
            self._heap.budget.spend(len(content))
        if isinstance(content, dict):
            result = self._of_dictionary(name, target, content, rest)
        else:
            known = isinstance(content, list)
            result = self._of_list(name, target, content, rest) if known else NOT_KNOWN
        if result is not NOT_KNOWN or name not in CHANGES:
            return result
        self._heap[target] = self._tape.gather(f"aten.{name}", [*leaves(target, self._heap), *rest])
        return self._heap[target] if name in GIVES_AN_ITEM else target

    def _of_list(
        self, name: str, target: Runtime, items: list[Runtime], rest: Sequence[Runtime]
    ) -> Runtime:
        match name, rest:
            case "len", []:
                return len(items)
            case "append", [item]:
                return self._fill(target, [*items, item])
            case "insert", [int(at), item]:
                return self._fill(target, [*items[:at], item, *items[at:]])
            case "pop", [] if items:
                return self._take_out(target, items, -1)
            case "pop", [int(at)] if -len(items) <= at < len(items):
                return self._take_out(target, items, at)
            case "_set_item", [int(at), item] if 0 <= at < len(items):
                return self._fill(target, [*items[:at], item, *items[at + 1 :]])
            case "clear", []:
                return self._fill(target, [])
            case "reverse", []:
                return self._fill(target, items[::-1])
            case "list" | "copy", []:
                return self.new_list(items)
            case "extend" | "add_", [List() as other] if isinstance(self._heap[other], list):
                return self._fill(target, items + self._heap[other])
            case "add", [List() as other] if isinstance(self._heap[other], list):
                return self.new_list(items + self._heap[other])
            case "slice", bounds if _is_section(bounds):
                return self.new_list(items[slice(*bounds)] if bounds else items)
            case "__contains__", [item] if all(map(is_plain, [item, *items])):
                return item in items
        return NOT_KNOWN

    def _of_dictionary(
        self, name: str, target: Runtime, pairs: dict[str, Runtime], rest: Sequence[Runtime]
    ) -> Runtime:
        match name, rest:
            case "len", []:
                return len(pairs)
            case "keys" | "list", []:
                return self.new_list([_key(key) for key in pairs])
            case "values", []:
                return self.new_list([*pairs.values()])
            case "items", []:
                return self.new_list([(_key(key), value) for key, value in pairs.items()])
            case "copy" | "dict", []:
                return self._new(Dictionary(), {**pairs})
            case "__contains__", [key] if key_of(key) is not None:
                return key_of(key) in pairs
            case "get", [key, *default] if key_of(key) is not None:
                return pairs.get(key_of(key) or "", default[0] if default else None)
            case "_set_item", [key, value] if (name_of := key_of(key)) is not None:
                return self._fill(target, {**pairs, name_of: value})
            case "update", [Dictionary() as other] if isinstance(self._heap[other], dict):
                return self._fill(target, {**pairs, **self._heap[other]})
        return NOT_KNOWN

    def _take_out(self, target: Runtime, items: list[Runtime], at: int) -> Runtime:
        kept = [*items]
        item = kept.pop(at)
        self._fill(target, kept)
        return item

    def _new(self, container: Runtime, content: list[Runtime] | dict[str, Runtime]) -> Runtime:
        self._heap.budget.spend(len(content))
        if len(content) > LONGEST:
            raise Unclear(f"a list has over {LONGEST} items")
        self._heap[container] = content
        return container

    _fill = _new


def _is_section(bounds: Sequence[Runtime]) -> bool:
    """Whether these are known bounds of a slice, and a step that is possible."""
    known = all(bound is None or type(bound) is int for bound in bounds)
    return known and len(bounds) <= 3 and 0 not in bounds[2:]


def _key(name: str) -> str | int:
    return name[1:] if name.startswith("s") else int(name[1:])
