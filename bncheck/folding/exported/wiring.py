"""The document of a program: its graph, its signature, and references to values in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from itertools import compress
from typing import Any

Json = Any
Names = Counter[str]
BODY = "as_graph"  # whose names are its own


def names_in(argument: Json) -> Iterator[str]:
    """The names of all values that an argument refers to."""
    for held in _references(argument):
        yield held["name"]


def rename(argument: Json, renamed: Mapping[str, str]) -> None:
    """Let an argument refer to other values, in place."""
    for held in _references(argument):
        held["name"] = renamed.get(held["name"], held["name"])


def _references(argument: Json) -> Iterator[dict[str, Json]]:
    waiting = [argument]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            if isinstance(item.get("name"), str):
                yield item
            waiting.extend(held for key, held in item.items() if key != BODY)


def tensor(name: str) -> Json:
    """A value as an argument."""
    return {"as_tensor": {"name": name}}


def spec_kinds(spec: Json) -> list[str]:
    """The alternative of a union, in either way of writing one."""
    return [kind for kind, held in spec.items() if held is not None]


class Document:
    """A program as its archive has it in JSON, of which only the outermost graph is looked into."""

    def __init__(self, json: Json) -> None:
        self.json = json
        self.graph: Json = json["graph_module"]["graph"]
        self.signature: Json = json["graph_module"]["signature"]

    @property
    def nodes(self) -> list[Json]:
        """Its nodes, in order."""
        nodes: list[Json] = self.graph["nodes"]
        return nodes

    @property
    def metas(self) -> dict[str, Json]:
        """What is said of tensors, by value."""
        metas: dict[str, Json] = self.graph["tensor_values"]
        return metas

    @property
    def inputs(self) -> list[Json]:
        """What each input stands for."""
        specs: list[Json] = self.signature["input_specs"]
        return specs

    @property
    def outputs(self) -> list[Json]:
        """What each output stands for."""
        specs: list[Json] = self.signature["output_specs"]
        return specs

    @cached_property
    def values(self) -> frozenset[str]:
        """All values of the outermost graph."""
        made = (name for node in self.nodes for name in outputs_of(node))
        given = (name for each in self.graph["inputs"] for name in names_in(each))
        return frozenset((*made, *given))

    @property
    def taken(self) -> set[str]:
        """Every name that something has."""
        tables = (held for key, held in self.graph.items() if key.endswith("_values"))
        names = {name for table in tables for name in table}
        return names | self.values | {node.get("name") or "" for node in self.nodes}

    def reads(self, gone: Collection[int] = ()) -> Names:
        """How often each value is read by outputs and nodes, but for those of an ``id`` in gone."""
        found: Names = Counter()
        for node in self.nodes:
            for argument in node["inputs"] if id(node) not in gone else ():
                found.update(names_in(argument["arg"]))
        for output in self.graph["outputs"]:
            found.update(names_in(output))
        return found

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Let everything refer to other values."""
        for node in self.nodes:
            for argument in node["inputs"]:
                rename(argument["arg"], renamed)
        calls = self.json["graph_module"].get("module_call_graph") or []
        signatures = [call.get("signature") or {} for call in calls]
        faces = [held.get(key) or [] for held in signatures for key in ("inputs", "outputs")]
        rename([self.graph["outputs"], self.outputs, faces], renamed)

    def forget_calls(self, modules: Collection[str]) -> None:
        """Take back what is said of the inputs and outputs of modules that do nothing any more."""
        for call in self.json["graph_module"].get("module_call_graph") or []:
            if call.get("fqn") in modules:
                call["signature"] = None

    def add_parameter(self, value: str, name: str, meta: Json) -> None:
        """Give the program another parameter, after those that it has."""
        kinds = [spec_kinds(spec) for spec in self.inputs]
        first = [at for at, kind in enumerate(kinds, 1) if {*kind} & {"token", "parameter"}]
        at = first[-1] if first else 0
        spec = {"parameter": {"arg": {"name": value}, "parameter_name": name}}
        self.inputs.insert(at, spec)
        self.graph["inputs"].insert(at, tensor(value))
        self.metas[value] = meta

    def mutations(self) -> Iterator[Json]:
        """What outputs that take the place of something stored say of it."""
        for spec in self.outputs:
            yield from (held for held in spec.values() if isinstance(held, dict))

    def remove(self, gone: Collection[int], dead: Collection[str]) -> None:
        """Take out nodes by ``id``, and inputs that nothing reads."""
        lost = {name for node in self.nodes if id(node) in gone for name in outputs_of(node)}
        self.graph["nodes"] = [node for node in self.nodes if id(node) not in gone]
        kept = [{*names_in(each)}.isdisjoint(dead) for each in self.graph["inputs"]]
        self.graph["inputs"] = [*compress(self.graph["inputs"], kept)]
        self.signature["input_specs"] = [*compress(self.inputs, kept)]
        for name in (*lost, *dead):
            self.metas.pop(name, None)


def outputs_of(node: Json) -> Iterator[str]:
    """The values that a node makes."""
    return names_in(node["outputs"])
