from __future__ import annotations

import json
import struct
import time
import tracemalloc

import pytest

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.readers.safetensors import MAX_HEADER


def pack(header, data: bytes = b"", pad: str = "") -> bytes:
    text = header if isinstance(header, bytes) else (json.dumps(header) + pad).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(start: int, stop: int, shape=None, dtype: str = "F32", **more):
    shape = [(stop - start) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop], **more}


MEAN, VAR = "bn.running_mean", "bn.running_var"
TWO = struct.pack("<4f", 0, 1, 2, 3)
SOUND = {
    "plain": pack({MEAN: entry(0, 8), VAR: entry(8, 16)}, TWO),
    "with metadata": pack(
        {"__metadata__": {"format": "pt", "x": "{[,"}, MEAN: entry(0, 8), VAR: entry(8, 16)}, TWO
    ),
    "in another order": pack({MEAN: entry(0, 8), VAR: entry(8, 16)} | {}, TWO),
    "padded": pack({MEAN: entry(0, 8), VAR: entry(8, 16)}, TWO, pad=" " * 7),
    "with an empty tensor": pack({MEAN: entry(0, 8), "x": entry(8, 8), VAR: entry(8, 16)}, TWO),
    "with a name beyond ASCII": pack({MEAN: entry(0, 8), "ü": entry(8, 8), VAR: entry(8, 16)}, TWO),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound(name, read_bytes):
    (model,) = read_bytes(SOUND[name], "model.safetensors")
    (layer,) = model.layers
    assert (model.format, model.content, layer.kind) == ("safetensors", "state_dict", "batch")
    assert (list(layer.running_mean.values), list(layer.running_var.values)) == ([0, 1], [2, 3])


def broken(*entries, data: bytes = TWO, **named) -> bytes:
    header = dict(zip((MEAN, VAR), entries, strict=False)) | named
    return pack(header, data)


DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
REFUSED = {
    "a hole": (broken(entry(0, 8), entry(12, 16)), "bytes between"),
    "a hole at the start": (broken(entry(4, 16)), "bytes between"),
    "overlap": (broken(entry(0, 8), entry(4, 16)), "overlap"),
    "twice the same bytes": (broken(entry(0, 16), entry(0, 16)), "overlap"),
    "bytes that nobody owns": (broken(entry(0, 8)), "truncated"),
    "bytes that are not there": (broken(entry(0, 8), entry(8, 24)), "truncated"),
    "a name twice": (
        pack(b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 16)).encode(),) * 2), TWO),
        "names something twice",
    ),
    "a field twice": (
        pack(b'{"a":{"dtype":"F32","dtype":"I32","shape":[4],"data_offsets":[0,16]}}', TWO),
        "names something twice",
    ),
    "a size that the shape does not have": (broken(entry(0, 16, [3])), "contradicts itself"),
    "a negative length": (broken(entry(0, 16, [-4])), "contradicts itself"),
    "a length that is true": (broken(entry(0, 4, [True]), data=bytes(4)), "contradicts itself"),
    "an offset that is true": (broken(entry(0, 8), entry(True, 9, [2])), "contradicts itself"),
    "an offset that is a fraction": (broken(entry(0.0, 16, [4])), "contradicts itself"),
    "a range that runs backwards": (broken(entry(16, 0, [4])), "contradicts itself"),
    "a shape of two million digits": (broken(entry(0, 16, [2**60] * 40_000)), "contradicts itself"),
    "three offsets": (
        pack({"a": {**entry(0, 16), "data_offsets": [0, 8, 16]}}, TWO),
        "contradicts",
    ),
    "a dtype with a line break": (broken(entry(0, 16, dtype="F\n")), "contradicts itself"),
    "a dtype of surrogates": (
        pack(b'{"a":{"dtype":"\\ud800","shape":[4],"data_offsets":[0,16]}}', TWO),
        "contradicts itself",
    ),
    "no dtype": (pack({"a": {"shape": [4], "data_offsets": [0, 16]}}, TWO), "contradicts itself"),
    "a tensor that is a list": (pack({"a": [1]}, TWO), "contradicts itself"),
    "no JSON": (pack(b"{not json}"), "no JSON"),
    "JSON that is cut": (pack(b'{"a":'), "no JSON"),
    "no UTF-8": (pack(b'{"\xff":1}'), "no JSON"),
    "UTF-16": (pack(b"{\0}\0"), "no JSON"),
    "a long name": (pack({"x" * 10**6: 1}), f"tensor '{'x' * 60}'$"),
    "deep JSON": (pack(DEEP), "no JSON"),
    "a header that is not there": (struct.pack("<Q", 1000) + b"{}", "truncated download"),
    "a header of a terabyte": (struct.pack("<Q", 2**40) + b"{}", "header of 1099511627776 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, read_bytes):
    data, reason = REFUSED[name]
    with pytest.raises(UnreadableModel, match=reason) as caught:
        read_bytes(data, "model.safetensors")
    assert not isinstance(caught.value, NotAModel)


def test_every_truncation_is_refused(read_bytes):
    data = SOUND["plain"]
    for length in range(len(data)):
        with pytest.raises(UnreadableModel):
            read_bytes(data[:length], "model.safetensors")


HUGE = {
    "a header of 90 MB": lambda: b'{"a":"' + b"x" * 90_000_000 + b'"}',
    "a million tensors": lambda: b"{" + b'"a":{"b":[]},' * 1_000_000 + b'"c":1}',
    "many numbers": lambda: b'{"a":[' + b"1," * 12_000_000 + b"1]}",
    "many strings": lambda: b'{"a":[' + b'"",' * 10_000_000 + b"1]}",
    "much text with an escaped letter": lambda: b'{"a":"\\u00fc' + b"x" * 20_000_000 + b'"}',
    "much text beyond ASCII": lambda: ('{"a":"' + "ü" * 10_000_000 + '"}').encode(),
    "as much as is allowed": lambda: b'{"a":"' + b"x" * (MAX_HEADER - 8) + b'"}',
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_header_is_refused_early(name, read_bytes):
    data = pack(HUGE[name]())
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(UnreadableModel):
        read_bytes(data, "model.safetensors")
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 4
    assert peak < 150 * 2**20


KINDS = {
    "F64": ("float64", "d", 1.5),
    "F32": ("float32", "f", 1.5),
    "F16": ("float16", "e", 1.5),
    "I64": ("int64", "q", -(2**60)),
    "I32": ("int32", "i", -3),
    "I16": ("int16", "h", -3),
    "I8": ("int8", "b", -3),
    "U64": ("uint64", "Q", 2**63),
    "U8": ("uint8", "B", 200),
    "BOOL": ("bool", "B", 1),
}


@pytest.mark.parametrize("code", KINDS)
def test_dtypes(code, read_bytes):
    dtype, typecode, value = KINDS[code]
    data = struct.pack(f"<2{typecode}", value, 0)
    header = {MEAN: entry(0, len(data), [2], code), VAR: entry(len(data), len(data), [0])}
    tensor = read_bytes(pack(header, data))[0].layers[0].running_mean
    assert (tensor.dtype, list(tensor.values)) == (dtype, [value, 0])


@pytest.mark.parametrize(
    ("code", "length", "numel"),
    [("F8_E4M3", 4, 4), ("C64", 8, 1), ("F4", 2, 4), ("F6_E2M3", 3, 4), ("NEW", 5, 4)],
)
def test_values_of_other_dtypes_are_unknown(code, length, numel, read_bytes):
    header = {MEAN: entry(0, length, [numel], code), VAR: entry(length, length, [0])}
    tensor = read_bytes(pack(header, bytes(length)))[0].layers[0].running_mean
    assert tensor.shape == (numel,)
    with pytest.raises(UnknownFact, match="not decoded"):
        _ = tensor.values


def test_prefixes_of_wrappers_are_taken_off(read_bytes):
    header = {f"module.{MEAN}": entry(0, 8), f"module.{VAR}": entry(8, 16)}
    assert read_bytes(pack(header, TWO))[0].layers[0].name == "bn"


def test_the_length_of_the_header_may_begin_with_any_byte(read_bytes):
    """Some of them begin other formats: 0x80 a pickle, 0x20 JSON after a blank, 0x08 ONNX."""
    header = {MEAN: entry(0, 8), VAR: entry(8, 16)}
    shortest = len(json.dumps(header))
    for length in range(shortest, shortest + 256):
        data = pack(header, TWO, pad=" " * (length - shortest))
        assert read_bytes(data, "model.bin")[0].format == "safetensors", hex(data[0])
