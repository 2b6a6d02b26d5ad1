"""Where the values of initializers lie in the written model: in it, or in one file beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bncheck.errors import CannotFold
from bncheck.folding.numbers import NewTensor
from bncheck.folding.onnx import messages
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.onnx.places import Place, place_of, sibling_of
from bncheck.folding.onnx.rewrite import Rewrite
from bncheck.folding.onnx.wire import COPIED_AT_ONCE, Edits, Piece
from bncheck.readers.onnx.tensor import TensorProto
from bncheck.readers.source import Source

ALIGNMENT = 4096  # so that a runtime can map a tensor
INLINE = 1024  # bytes that are not worth a place of their own
ENTRIES = frozenset({messages.TENSOR_EXTERNAL, messages.TENSOR_LOCATION})


@dataclass
class DataFile:
    """The file beside the model: what it holds in order, each at a multiple of the alignment."""

    name: str
    source: Source
    size: int = 0
    _parts: list[tuple[int, Place | NewTensor]] = field(default_factory=list)
    _begins: dict[Place, int] = field(default_factory=dict)

    def add(self, held: NewTensor) -> list[Piece]:
        """Add new values; the fields that say where they are."""
        return messages.external(self.name, self._append(held, held.nbytes), held.nbytes)

    def copy(self, place: Place) -> list[Piece]:
        """Add bytes of the original, once however many tensors they are."""
        if place not in self._begins:
            self._begins[place] = self._append(place, place.length)
        return messages.external(self.name, self._begins[place], place.length)

    def _append(self, held: Place | NewTensor, length: int) -> int:
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        self._parts.append((offset, held))
        self.size = offset + length
        return offset

    def written(self, rewrite: Rewrite) -> Iterator[bytes]:
        """All bytes, a part at a time."""
        at = 0
        for offset, held in self._parts:
            yield bytes(offset - at)
            at = offset
            parts = rewrite.numbers.parts(held) if isinstance(held, NewTensor) else self._read(held)
            for part in parts:
                yield part
                at += len(part)

    def _read(self, place: Place) -> Iterator[bytes]:
        sibling = sibling_of(self.source, place.location)
        end = place.offset + place.length
        for at in range(place.offset, end, COPIED_AT_ONCE):
            yield sibling.read(at, min(COPIED_AT_ONCE, end - at))


@dataclass
class Beside:
    """The files beside the original in which tensors lie."""

    file: OnnxFile

    @cached_property
    def tensors(self) -> list[TensorProto]:
        """All external ones: initializers, and values in attributes of nodes."""
        held = (a.value for node in self.file.all_nodes() for a in node.attributes.values())
        values = [value for value in held if isinstance(value, TensorProto)]
        found = (each for each in (*self.file.initializers(), *values) if each.external is not None)
        return list({each.span: each for each in found}.values())

    @property
    def sources(self) -> Mapping[str, Source]:
        """The files by name, as far as they are there."""
        names = {(each.external or {}).get("location", "") for each in self.tensors}
        found = {name: self.file.source.sibling(name) for name in names if name}
        return {name: each for name, each in found.items() if each is not None}


def data_name(file: OnnxFile, target: Path) -> str:
    """A name for the file beside the target that is none of the original's.

    Raises CannotFold where the target is one of them itself.
    """
    taken = [*Beside(file).sources.values()]
    if _is_one_of(target, taken):
        raise CannotFold(f"{target} holds data of the model: give another name with -o")
    names = (f"{target.name}{number}.data" for number in ("", *(f".{i}" for i in range(2, 1000))))
    return next(name for name in names if not _is_one_of(target.with_name(name), taken))


def _is_one_of(path: Path, sources: list[Source]) -> bool:
    paths = (getattr(source, "path", None) for source in sources)
    return path.exists() and any(isinstance(each, Path) and each.samefile(path) for each in paths)


def place_initializers(rewrite: Rewrite, edits: Edits, name: str) -> DataFile | None:
    """Add to the edits where initializers lie; the file beside the model where it needs one."""
    beside = Beside(rewrite.file)
    data = DataFile(name, rewrite.file.source) if beside.tensors else None
    held = {each.name: each for each in rewrite.file.initializers()}
    for dropped in rewrite.dropped:
        edits.replaced[held[dropped].span] = []
    for replaced, new in rewrite.in_place.items():
        edits.replaced[held[replaced].span] = _field(rewrite, replaced, new, data)
    for tensor in beside.tensors if data is not None else ():
        if tensor.span not in edits.replaced and data is not None:
            edits.headed[tensor.span] = data.copy(place_of(rewrite.file.source, tensor)), ENTRIES
    added = [p for name, new in rewrite.added.items() for p in _field(rewrite, name, new, data)]
    edits.added.setdefault(rewrite.file.graph_span, []).extend(added)
    return data


def _field(rewrite: Rewrite, name: str, new: NewTensor, data: DataFile | None) -> list[Piece]:
    if data is None or new.nbytes <= INLINE:
        return rewrite.initializer(rewrite.inline(name, new))
    tensor = messages.tensor(name, new.shape, new.dtype, data.add(new))
    return rewrite.initializer(tensor)
