"""Nothing that a file names is imported or called, in whatever format and by whatever opcode."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bncheck.errors import NotAModel
from bncheck.readers import read

DANGEROUS = (
    "os.system",
    "posix.system",
    "builtins.exec",
    "pip.main",
    "pydoc.pipepager",
    "timeit.timeit",
    "torch.utils.bottleneck.__main__.run_cprofile",
    "torch.jit.unsupported_tensor_ops.execWrapper",
    "numpy.testing._private.utils.runstring",
    "antigravity.geohash",
)


class Touch:
    """Makes files of pickles that would write a file, were anything in them called."""

    def __init__(self, make: Any, folder: Path) -> None:
        self.make = make
        self.trace = folder / "trace"
        self.command = f"open({str(self.trace)!r}, 'w')"

    def calls(self) -> dict[str, Any]:
        make, command = self.make, self.command
        called = {path: make.Call(path, (command,)) for path in DANGEROUS}
        built = make.Call("os.system", (), {"__setstate__": make.Name("builtins.exec")}, new=True)
        slots = make.Call("my.Class", (), (None, {"x": make.Call("builtins.exec", (command,))}))
        return {**called, "new": make.Call("my.Class", (), new=True), "b": built, "s": slots}

    def state(self) -> dict[str, Any]:
        """A state_dict with all of it beside."""
        return {"state_dict": self.make.batch_norm(), **self.calls()}


CALLS = {
    "REDUCE": b"cos\nsystem\nX%b\x85R",
    "NEWOBJ": b"cos\nsystem\nX%b\x85\x81",
    "NEWOBJ_EX": b"cos\nsystem\nX%b\x85}\x92",
    "INST": b"(X%bios\nsystem\n",
    "OBJ": b"(cos\nsystem\nX%bo",
    "STACK_GLOBAL": b"\x8c\x02os\x8c\x06system\x93X%b\x85R",
}


def torch_zip(touch: Touch) -> bytes:
    return bytes(touch.make.torch(touch.state(), touch.make.batch_norm_data()))


def torch_legacy(touch: Touch) -> bytes:
    facts = map(touch.make.pickle, (0x1950A86A20F9469CFC6C, 1001, {}, touch.state(), []))
    return b"".join(facts)


def torch_package(touch: Touch) -> bytes:
    entries = {
        "net/net.pkl": touch.make.pickle(touch.state()),
        "my.py": touch.command.encode(),
        ".data/extern_modules": b"my\n",
    }
    return archived(touch, "p", entries)


def torchscript(touch: Touch) -> bytes:
    held = {**touch.calls(), "training": False}
    entries = {
        "data.pkl": touch.make.pickle(touch.make.Call("__torch__.Net", (), held, new=True)),
        "constants.pkl": touch.make.pickle(tuple(touch.calls().values())),
        "code/__torch__.py": touch.command.encode(),
    }
    return archived(touch, "net", entries)


def exported(touch: Touch) -> bytes:
    saved = torch_zip(touch)
    graph = {"inputs": [], "outputs": [], "nodes": [], "tensor_values": {}}
    signature: dict[str, Any] = {"input_specs": [], "output_specs": []}
    program = {"graph_module": {"graph": graph, "signature": signature}}
    entries = {
        "archive_format": b"pt2",
        "models/model.json": json.dumps(program).encode(),
        "data/weights/model.pt": saved,
        "data/constants/model.pt": saved,
        "data/sample_inputs/model.pt": saved,
    }
    return archived(touch, "m", entries)


def archived(touch: Touch, root: str, entries: Mapping[str, bytes]) -> bytes:
    return bytes(touch.make.zip(*(touch.make.Entry(f"{root}/{n}", d) for n, d in entries.items())))


CONTAINERS = (torch_zip, torch_legacy, torch_package, torchscript, exported)


@pytest.mark.parametrize("build", CONTAINERS)
def test_nothing_is_called_or_imported(build: Callable[[Touch], bytes], make, tmp_path) -> None:
    touch = Touch(make, tmp_path)
    path = tmp_path / "model.pt"
    path.write_bytes(build(touch))
    before = {*sys.modules}
    assert read(path)
    assert not touch.trace.exists()
    assert all(name.partition(".")[0] == "bncheck" for name in {*sys.modules} - before)


def test_nothing_beside_a_model_is_called(make, tmp_path) -> None:
    touch = Touch(make, tmp_path)
    arguments = make.Call("t.Arguments", (), {"per_device_train_batch_size": 4, **touch.calls()})
    (tmp_path / "training_args.bin").write_bytes(make.torch(arguments))
    path = tmp_path / "model.pt"
    path.write_bytes(make.torch(make.batch_norm(), make.batch_norm_data()))
    assert read(path)[0].batch_size.samples == 4
    assert not touch.trace.exists()


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_every_kind(name, make, tmp_path) -> None:
    trace = tmp_path / "trace"
    command = f"touch {trace}".encode()
    call = CALLS[name] % (struct.pack("<I", len(command)) + command)
    state = make.pickle(make.batch_norm())[:-1]  # without its STOP
    path = tmp_path / "model.pt"
    entries = {f"data/{key}": data for key, data in make.batch_norm_data().items()}
    entries["data.pkl"] = state + b"X\1\0\0\0x" + call + b"s."
    path.write_bytes(make.zip(*(make.Entry(f"a/{n}", data) for n, data in entries.items())))
    assert read(path)[0].layers
    assert not trace.exists()


def test_keys_that_cannot_be_hashed(make, read_bytes) -> None:
    """They are not even looked at: a dictionary with others than names is no state_dict."""
    pairs = b"](K\1e" + b"N" + b"}" + b"N" + b"cm\nn\n)R" + b"N"
    data = b"\x80\x02}(" + pairs + b"u."
    with pytest.raises(NotAModel):
        read_bytes(make.zip(make.Entry("a/data.pkl", data)))
