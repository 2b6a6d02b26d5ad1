"""Reads models in onnxruntime's own format, .ort: ONNX's graph in FlatBuffers.

From the graph on all is shared with the reader of ONNX.
"""

from __future__ import annotations

from functools import partial

from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.readers import onnx
from bncheck.readers.ort.flatbuffer import Buffer
from bncheck.readers.ort.schema import has_known_version, read_body, read_model
from bncheck.readers.source import Source


def looks_like_ort(source: Source) -> bool:
    """Whether a file with ORTM at byte 4 is in ORT format: an ONNX model may have it there too."""
    return not onnx.looks_like_onnx(source) or has_known_version(Buffer(source))


def read(source: Source) -> tuple[Model, ...]:
    """The one model of an ORT file. Raises UnreadableModel where it cannot be read in one way."""
    if onnx.looks_like_onnx(source):  # onnxruntime then goes by the name of the file
        raise UnreadableModel("can be read as ORT format and as ONNX, two different models")
    buffer = Buffer(source)
    proto = read_model(buffer)
    return (onnx.to_model("ort", source, proto, partial(read_body, buffer)),)
