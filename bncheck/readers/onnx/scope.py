"""Which names and attributes are visible where in an ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bncheck.errors import UnreadableModel
from bncheck.graph import Shape
from bncheck.readers.onnx.attribute import Attribute, Held
from bncheck.readers.onnx.proto import NodeProto
from bncheck.readers.onnx.protobuf import Span

BODIES = frozenset({Held.GRAPH, Held.GRAPHS})


@dataclass(slots=True)
class Scope:
    """Names that are visible in one graph, body or call. ``promised``: flat names of results."""

    opsets: Mapping[str, int]
    shapes: Mapping[str, Shape]
    attributes: Mapping[str, Bound] = field(default_factory=dict)
    outer: Scope | None = None
    names: dict[str, str] = field(default_factory=lambda: {"": ""})
    promised: dict[str, str] = field(default_factory=dict)

    def find(self, local: str) -> str | None:
        """The flat name of a value that is visible here."""
        scope: Scope | None = self
        while scope is not None:
            if local in scope.names:
                return scope.names[local]
            scope = scope.outer
        return None


@dataclass(slots=True)
class Bound:
    """An attribute, and the scope in which it was written: where a body looks for its captures."""

    attribute: Attribute
    home: Scope


def may_have_bodies(node: NodeProto) -> bool:
    """Whether a node has attributes that are graphs."""
    return any(attribute.held in BODIES for attribute in node.attributes.values())


def version(node: NodeProto, scope: Scope) -> int:
    """Of the node's domain; 0 for a domain that the file says nothing of."""
    version = scope.opsets.get(node.domain, 0)
    if not version and not node.domain:
        raise UnreadableModel("uses operators of ai.onnx, but does not say of which version")
    return version


def bound(node: NodeProto, scope: Scope) -> Iterator[tuple[str, Bound]]:
    """A node's attributes; one that refers to an attribute the call did not get is left out."""
    for name, attribute in node.attributes.items():
        if not attribute.reference:
            yield name, Bound(attribute, scope)
        elif attribute.reference in scope.attributes:
            yield name, scope.attributes[attribute.reference]


def filled_in(node: NodeProto, scope: Scope) -> Mapping[str, Attribute]:
    """A node's attributes, those of the enclosing function's call in their places."""
    if not any(attribute.reference for attribute in node.attributes.values()):
        return node.attributes
    return {name: bound.attribute for name, bound in bound(node, scope)}


def bodies(node: NodeProto, scope: Scope) -> Iterator[tuple[Span, Scope]]:
    """The graphs among a node's attributes, each with the scope in which it was written."""
    for attribute in node.attributes.values():
        given = Bound(attribute, scope)
        if attribute.reference:
            given = scope.attributes.get(attribute.reference, given)
        value = given.attribute.value
        if given.attribute.held is Held.GRAPH and isinstance(value, Span):
            yield value, given.home
        elif given.attribute.held is Held.GRAPHS and isinstance(value, tuple):
            yield from ((each, given.home) for each in value if isinstance(each, Span))
