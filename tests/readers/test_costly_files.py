"""Graphs and archives that cost other readers minutes or gigabytes; see test_pickle_attacks too."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import pytest
from apart import require_cheap
from graphs import external


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes((*encoded, value))


def message(field: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def node(op: bytes, *inputs: bytes, output: bytes = b"y", domain: bytes = b"") -> bytes:
    held = [message(1, name) for name in inputs]
    return message(1, *held, message(2, output), message(4, op), message(7, domain))


def onnx_model(*graph: bytes, functions: bytes = b"") -> bytes:
    opsets = message(8, b"\x10\x17") + message(8, message(1, b"f") + b"\x10\x01")
    return b"\x08\x0a" + message(7, *graph, message(11, message(1, b"x"))) + opsets + functions


def function(name: str, *body: bytes) -> bytes:
    opset = message(9, message(1, b"f") + b"\x10\x01")
    held = message(4, b"x") + message(5, b"y")
    inner = b"".join(message(7, each) for each in body)
    return message(25, message(1, name.encode()), held, inner, opset, message(10, b"f"))


def call(name: str, given: bytes, made: bytes) -> bytes:
    return message(1, given) + message(2, made) + message(4, name.encode()) + message(7, b"f")


def loops(depth: int) -> bytes:
    body = node(b"Relu", b"x")
    for _ in range(depth):
        attribute = message(5, message(1, b"body"), message(6, body), b"\xa0\x01\x05")
        body = message(1, message(1, b""), message(2, b"y"), message(4, b"Loop"), attribute)
    return body


def weighted(tensor: bytes) -> bytes:
    """A model whose one layer has this tensor for a weight."""
    return onnx_model(node(b"RMSNormalization", b"x", b"w"), message(5, message(8, b"w"), tensor))


COSTLY: Mapping[str, Callable[[], bytes]] = {
    "a function that calls itself": lambda: onnx_model(
        node(b"a", b"x", domain=b"f"), functions=function("a", call("a", b"x", b"y"))
    ),
    "functions that call each other": lambda: onnx_model(
        node(b"a", b"x", domain=b"f"),
        functions=function("a", call("b", b"x", b"y")) + function("b", call("a", b"x", b"y")),
    ),
    "functions that double": lambda: onnx_model(
        node(b"f0", b"x", domain=b"f"),
        functions=b"".join(
            function(f"f{i}", call(f"f{i + 1}", b"x", b"m"), call(f"f{i + 1}", b"m", b"y"))
            for i in range(60)
        ),
    ),
    "loops in loops": lambda: onnx_model(loops(2000)),
    "many packed values": lambda: weighted(
        b"\x08\x80\x80\x80\x02\x10\x07" + message(7, b"\x01" * 2**22)
    ),
    "many values one by one": lambda: weighted(
        b"\x08\x80\x80\x80\x01\x10\x07" + b"\x38\x01" * 2**21
    ),
    "many nodes": lambda: onnx_model(b"\x0a\x00" * 700_000),
    "many attributes": lambda: onnx_model(
        message(1, b"".join(message(5, message(1, b"%d" % i)) for i in range(1_500_000)))
    ),
    "many names": lambda: onnx_model(
        message(1, b"".join(message(1, b"%d" % i) for i in range(3_000_000)))
    ),
    "many inputs": lambda: onnx_model(
        b"".join(message(11, message(1, b"%d" % i)) for i in range(700_000))
    ),
    "many initializers": lambda: onnx_model(
        b"".join(message(5, message(8, b"%d" % i)) for i in range(600_000))
    ),
    "a tensor of text": lambda: weighted(b"\x08\x03\x10\x08" + message(6, b"x" * 10**7) * 3),
    "values that are promised only": lambda: weighted(b"\x08\xff\xff\xff\xff\x7f\x10\x01"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_costly_graphs(name, tmp_path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(COSTLY[name]())
    require_cheap(path)


@pytest.mark.parametrize("dtype", ["FloatStorage", "HalfStorage"])
def test_bombs_in_each_storage(dtype, make, tmp_path) -> None:
    """A megabyte that becomes a gigabyte."""
    size = 2**25
    deflate = zlib.compressobj(wbits=-15)
    zeros = deflate.compress(bytes(size)) + deflate.flush()

    class Zeros(make.Entry):  # type: ignore[misc, name-defined]
        stored = zeros

    entries = [Zeros(f"a/data/{i}", size=size, method=8) for i in range(32)]
    state = {f"bn{i}.running_var": make.tensor(str(i), (2**22,), kind=dtype) for i in range(32)}
    path = tmp_path / "model.pt"
    path.write_bytes(make.zip(make.Entry("a/data.pkl", make.pickle(state)), *entries))
    assert path.stat().st_size < 2**21
    require_cheap(path)


def test_one_place_for_many_tensors(make, tmp_path) -> None:
    """32 MB of external data that hold 3 GB of weights."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(external("w.bin"))
    length = 2**23
    model.graph.initializer[0].dims[0] = length
    for i in range(100):
        model.graph.initializer.append(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"w{i}"
        model.graph.node.append(onnx.helper.make_node("RMSNormalization", ["x", f"w{i}"], [f"{i}"]))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as data:
        data.truncate(4 * length)
    require_cheap(tmp_path / "model.onnx")
