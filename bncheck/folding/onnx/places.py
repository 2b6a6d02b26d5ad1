"""Where the values of external tensors lie in the files beside a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bncheck.errors import UnreadableModel
from bncheck.readers.onnx.protobuf import quoted
from bncheck.readers.onnx.tensor import TensorProto
from bncheck.readers.onnx.values import external_number
from bncheck.readers.source import Source
from bncheck.tensor import itemsize


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a file beside the original."""

    location: str
    offset: int
    length: int


def place_of(source: Source, tensor: TensorProto) -> Place:
    """Where a tensor lies. Raises UnreadableModel where it cannot lie there."""
    entries = tensor.external or {}
    location = entries.get("location", "")
    size = sibling_of(source, location).size
    offset = external_number(entries.get("offset", "0"), tensor)
    element = itemsize(tensor.dtype)
    known = size - offset if element is None else math.prod(tensor.shape) * element
    length = external_number(entries.get("length", str(max(known, 0))), tensor)
    if element is not None and length != known:
        raise UnreadableModel(f"gives the external data of {quoted(tensor.name)} another size")
    if offset + length > size:
        raise UnreadableModel(
            f"external data file {quoted(location)} ends at byte {size}, before the end of "
            f"tensor {quoted(tensor.name)}: truncated download, or damaged"
        )
    return Place(location, offset, length)


def sibling_of(source: Source, location: str) -> Source:
    """A file beside the model. Raises UnreadableModel where it is not there."""
    found = source.sibling(location) if location else None
    if found is None:
        raise UnreadableModel(
            f"external data file {quoted(location)} is missing beside the model; copy it there"
        )
    return found
