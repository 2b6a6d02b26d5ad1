"""Where the values of initializers lie in the written model: in it, or in one file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bncheck.errors import UnreadableModel
from bncheck.folding.onnx import messages
from bncheck.folding.onnx.numbers import NewTensor
from bncheck.folding.onnx.rewrite import Rewrite
from bncheck.folding.onnx.wire import COPIED_AT_ONCE, Edits, Piece
from bncheck.readers.onnx.tensor import TensorProto
from bncheck.readers.source import Source

ALIGNMENT = 4096  # so that a runtime can map a tensor
INLINE = 1024  # bytes that are no worth a place of their own
ENTRIES = frozenset({messages.TENSOR_EXTERNAL, messages.TENSOR_LOCATION})


@dataclass
class DataFile:
    """The file beside the model: what it holds in order, each at a multiple of the alignment."""

    name: str
    size: int = 0
    _parts: list[tuple[int, TensorProto | NewTensor]] = field(default_factory=list)

    def add(self, held: TensorProto | NewTensor, length: int) -> list[Piece]:
        """Add values; the fields that say where they are."""
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        self._parts.append((offset, held))
        self.size = offset + length
        return messages.external(self.name, offset, length)

    def written(self, rewrite: Rewrite) -> Iterator[bytes]:
        """All bytes, a part at a time."""
        at = 0
        for offset, held in self._parts:
            yield bytes(offset - at)
            at = offset
            parts = (
                iter([rewrite.numbers.make(held)])
                if isinstance(held, NewTensor)
                else _copied(rewrite.file.source, held)
            )
            for part in parts:
                yield part
                at += len(part)


def place_initializers(rewrite: Rewrite, edits: Edits, name: str) -> DataFile | None:
    """Add to the edits where initializers lie; the file beside the model where it needs one."""
    held = {each.name: each for each in rewrite.file.initializers()}
    data = DataFile(name) if any(each.external for each in held.values()) else None
    for dropped in rewrite.dropped:
        edits.replaced[held[dropped].span] = []
    for replaced, new in rewrite.in_place.items():
        edits.replaced[held[replaced].span] = _field(rewrite, replaced, new, data)
    for kept in rewrite.kept_initializers() if data else ():
        if kept.external is not None and data is not None:
            edits.headed[kept.span] = data.add(kept, _length(rewrite, kept)), ENTRIES
    added = [p for name, new in rewrite.added.items() for p in _field(rewrite, name, new, data)]
    edits.added.setdefault(rewrite.file.graph_span, []).extend(added)
    return data


def _field(rewrite: Rewrite, name: str, new: NewTensor, data: DataFile | None) -> list[Piece]:
    if data is None or new.nbytes <= INLINE:
        return rewrite.initializer(rewrite.inline(name, new))
    values = data.add(new, new.nbytes)
    return rewrite.initializer(messages.tensor(name, new.shape, new.dtype, values))


def _length(rewrite: Rewrite, tensor: TensorProto) -> int:
    entries = tensor.external or {}
    if "length" in entries:
        return int(entries["length"])
    return _sibling(rewrite.file.source, tensor).size - int(entries.get("offset", "0"))


def _copied(source: Source, tensor: TensorProto) -> Iterator[bytes]:
    entries = tensor.external or {}
    sibling = _sibling(source, tensor)
    begin = int(entries.get("offset", "0"))
    end = begin + int(entries.get("length", sibling.size - begin))
    for at in range(begin, end, COPIED_AT_ONCE):
        yield sibling.read(at, min(COPIED_AT_ONCE, end - at))


def _sibling(source: Source, tensor: TensorProto) -> Source:
    location = (tensor.external or {}).get("location", "")
    found = source.sibling(location) if location else None
    if found is None:
        raise UnreadableModel(
            f"external data file {location!r} is missing beside the model; copy it there"
        )
    return found
