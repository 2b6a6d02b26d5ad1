"""Arguments with which a module is run: those given, and variations of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.arguments import flag
from bncheck.folding.shapes import shapes
from bncheck.folding.torch.values import mapped, tensors
from bncheck.graph import Graph, NodeKind, Shape
from bncheck.readers.tracing import tracer
from bncheck.tensor import Tensor

K = NodeKind
SIZES = (64, 224, 32, 299, 331, 16, 8)  # tried for axes of space, which no layer tells
MOST_LOOKS = 50
KEEPING = frozenset(  # operators after which data has the channels that it had
    {K.ACTIVATION, K.ADD, K.AVERAGE_POOL, K.DROPOUT, K.IDENTITY, K.MAX_POOL, K.MUL, K.OPAQUE}
    | {K.PAD, K.QUANTIZE, K.RELU, K.RESIZE}
)
GIVE = "give inputs=..., or verify=False to fold without proof"
OF_RANK = {"1d": 3, "2d": 4, "3d": 5}


@dataclass(frozen=True, slots=True)
class Feed:
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, change: Callable[[Any], Any]) -> Feed:
        """The same with every tensor changed."""
        return Feed(mapped(self.args, change), mapped(dict(self.kwargs), change))


@dataclass(frozen=True, slots=True)
class Variation:
    """Another batch size (None: the same), other numbers, and what they are times."""

    batch: int | None
    seed: int
    factor: float


VARIATIONS = (
    Variation(None, 0, 1.0),
    Variation(1, 1, 1.0),
    Variation(3, 2, 10.0),
    Variation(None, 3, 0.0),
)


def given(module: Any, inputs: object) -> Feed:
    """The arguments that a user gave. Raises CannotFold where they do not fit."""
    try:
        bound = tracer.bind(module, inputs)
    except (TypeError, ValueError) as error:
        raise CannotFold(f"the inputs do not fit the module's forward: {error}") from error
    return Feed(bound.args, dict(bound.kwargs))


def variations(feed: Feed) -> Iterator[Feed]:
    """Feeds of the same structure, shapes and dtypes, with other batch sizes and numbers."""
    batch = _batch(feed)
    for each in VARIATIONS:
        yield feed.changed(_Varied(each, batch))


def _batch(feed: Feed) -> int | None:
    """The size of the first axis of what has one, first of what holds fractions."""
    held = [t for _, t in tensors([feed.args, dict(feed.kwargs)]) if t.dim() > 1]
    fractions = [tensor for tensor in held if tensor.is_floating_point()]
    return next((int(tensor.shape[0]) for tensor in (*fractions, *held)), None)


class _Varied:
    """Makes a tensor of the same kind: normal numbers of the same size, or the same integers."""

    def __init__(self, how: Variation, batch: int | None) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._how = how
        self._batch = batch
        self._random = self._torch.Generator().manual_seed(how.seed)

    def __call__(self, tensor: Any) -> Any:
        if tensor.dim() == 0 or tensor.layout is not self._torch.strided or not tensor.numel():
            return tensor
        tensor = tensor.detach()
        if self._batch is not None and tensor.shape[0] == self._batch:
            tensor = tensor[self._positions(self._batch, self._how.batch or self._batch)]
        if not tensor.is_floating_point():
            return tensor
        wide = tensor.float()
        size = float(wide.square().mean().sqrt())
        numbers = self._torch.randn(tensor.shape, generator=self._random)
        factor = self._how.factor * (size if 0 < size < float("inf") else 1.0)
        return (factor * numbers).to(dtype=tensor.dtype, device=tensor.device)

    def _positions(self, size: int, wanted: int) -> Any:
        return self._torch.randint(size, (wanted,), generator=self._random)


def derived(module: Any, graph: Graph) -> Iterator[Feed]:
    """Feeds that fit what the first layers of a trace take; several, since no layer tells space.

    Raises CannotFold where they do not tell the shape of every argument.
    """
    read = [value for value in graph.inputs if [*graph.consumers(value)]]  # no **kwargs
    found = [shape_of(graph, value) for value in read]
    taken = [shape for shape in found if shape is not None]
    if len(taken) != len(found) or len(found) != len(_required(module)):
        raise CannotFold(f"the layers do not tell what the module takes as inputs; {GIVE}")
    for size in SIZES:
        yield _random(module, [_filled(shape, size) for shape in taken])
    longer = [(*shape[:1], None, *shape[1:]) if len(shape) == 2 else shape for shape in taken]
    if longer != taken:
        yield _random(module, [_filled(shape, SIZES[-1]) for shape in longer])


def _random(module: Any, sizes: Sequence[tuple[int, ...]]) -> Feed:
    """Normal numbers of the dtype and on the device of the module's first parameter."""
    torch: Any = importlib.import_module("torch")
    held = next((each for each in module.parameters() if each.is_floating_point()), None)
    like = {} if held is None else {"dtype": held.dtype, "device": held.device}
    random = torch.Generator().manual_seed(0)
    return Feed(tuple(torch.randn(size, generator=random).to(**like) for size in sizes))


def _required(module: Any) -> list[str]:
    signature = inspect.signature(type(module).forward).parameters.values()
    empty = inspect.Parameter.empty
    named = [p for p in [*signature][1:] if p.kind not in tracer.VARIADIC]
    needed = [p.name for p in named if p.default is empty]
    return needed or [p.name for p in named[:1]]


def _filled(shape: Shape, size: int) -> tuple[int, ...]:
    first, *rest = shape
    return (first or 2, *(size if each is None else each for each in rest))


def shape_of(graph: Graph, value: str) -> Shape | None:
    """The shape of a value, or what a layer near it takes; None where none tells."""
    known = shapes(graph)
    waiting, seen = [value], set[str]()
    while waiting and len(seen) < MOST_LOOKS:
        each = waiting.pop(0)
        seen.add(each)
        if each in known:
            return known[each] if each == value else _channels_alone(known[each])
        readers = [node for node in graph.consumers(each) if node.inputs[0] == each]
        for taken in filter(None, map(_taken_by, readers)):
            return taken
        waiting += (o for n in readers if n.kind in KEEPING for o in n.outputs[:1] if o not in seen)
    return None


def _channels_alone(shape: Shape) -> Shape:
    """A shape without what operators on the way change."""
    return shape if len(shape) < 3 else (None, shape[1], *[None] * (len(shape) - 2))


def _taken_by(node: Any) -> Shape | None:
    """What a layer says of the data that it reads."""
    weight = node.parameters.get("weight", node.parameters.get("running_mean"))
    if not isinstance(weight, Tensor) or not weight.shape:
        return None
    if node.kind is K.LINEAR and len(weight.shape) == 2:
        return (None, weight.shape[flag(node, "transB")])
    rank = OF_RANK.get(node.op[-2:], 2)
    is_norm = node.kind is K.BATCH_NORM
    return (None, weight.shape[0], *[None] * (rank - 2)) if is_norm else None
