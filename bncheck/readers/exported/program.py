"""An exported program as torch.export understands it, from an archive or from a live object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bncheck.graph import Shape
from bncheck.readers.aten.call import Argument
from bncheck.readers.torch.values import Parameter


@dataclass(frozen=True, slots=True)
class Scope:
    """A module on whose behalf an operation runs: its qualified name and its class."""

    path: str
    class_path: str


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A call, as "torch.ops.aten.conv2d.default", with its arguments by name.

    ``scopes`` are the modules that it runs in, outermost first. Of control flow, ``bodies`` are
    the graphs among its arguments, and ``arguments`` the rest.
    """

    target: str
    arguments: Mapping[str, Argument]
    outputs: tuple[str, ...]
    scopes: tuple[Scope, ...] = ()
    bodies: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A graph: names are valid inside it only. An output that is no value is ""."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    shapes: Mapping[str, Shape]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A body, and what its inputs and outputs are.

    ``stored`` gives the qualified name of the tensor that an input stands for, ``given`` and
    ``returned`` what a caller gives and gets, ``tensors`` the stored tensors by qualified name.
    """

    body: Body
    stored: Mapping[str, str]
    given: tuple[str, ...]
    returned: tuple[str, ...]
    tensors: Mapping[str, Parameter]
