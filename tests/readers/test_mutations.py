"""Damaged files: read or refused in one line, never a crash, and not all of them refused.

A zip directory and the lengths of safetensors refuse nearly every change before anything else sees
it, so that pickles and headers are also changed inside containers that stay sound.
"""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bncheck.errors import UnreadableModel
from bncheck.facts import Fact, UnknownFact
from bncheck.model import Model
from bncheck.readers import safetensors, zips
from bncheck.readers.source import BytesSource
from bncheck.readers.torch import legacy
from bncheck.report import layer_to_dict
from bncheck.tensor import Tensor

EXAMPLES = 120
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ROLES = ("weight", "bias", "running_mean", "running_var")
DATA = {role: struct.pack("<4f", *range(i, i + 4)) for i, role in enumerate(ROLES)}


# Seeds


def state_dict(make):
    metadata = {"_metadata": {"bn": {"version": 2}}}
    return make.Call("collections.OrderedDict", (), metadata, tuple(make.batch_norm().items()))


def module(make):
    ordered = make.Call("collections.OrderedDict")

    def parameter(role):
        arguments = (make.tensor(role, (4,)), True, ordered)
        return make.Call("torch._utils._rebuild_parameter", arguments)

    norm = make.module(
        "torch.nn.modules.batchnorm.BatchNorm2d",
        parameters={role: parameter(role) for role in ROLES[:2]},
        buffers={role: make.tensor(role, (4,)) for role in ROLES[2:]},
        num_features=4,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
    )
    conv = make.module("torch.nn.modules.conv.Conv2d", parameters={"weight": parameter("weight")})
    chain = make.module("torch.nn.modules.container.Sequential", {"0": conv, "1": norm})
    rms = make.module("my.RMSNorm", parameters={"weight": parameter("weight")}, eps=1e-6)
    return make.module("my.Net", {"chain": chain, "norm": rms})


def checkpoint(make):
    return {
        "epoch": 3,
        "state_dict": make.batch_norm(prefix="module.bn"),
        "model": module(make),
        "optimizer": {"state": {}, "param_groups": []},
        "hyper_parameters": {"batch_size": 2},
        "train_args": {"batch": 16, "device": 0},
    }


def header() -> bytes:
    entries = {
        f"bn.{role}": {"dtype": "F32", "shape": [4], "data_offsets": [16 * i, 16 * i + 16]}
        for i, role in enumerate(ROLES)
    }
    return json.dumps(entries).encode()


def in_zip(make, pickled: bytes) -> bytes:
    entries = [make.Entry("a/data.pkl", pickled)]
    return make.zip(*entries, *(make.Entry(f"a/data/{key}", data) for key, data in DATA.items()))


def in_legacy(make, pickled: bytes) -> bytes:
    facts = (legacy.MAGIC, legacy.PROTOCOL, {})
    parts = [*map(make.pickle, facts), pickled, make.pickle(list(DATA))]
    return b"".join(parts) + b"".join(struct.pack("<q", 4) + data for data in DATA.values())


def in_safetensors(make, text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + b"".join(DATA.values())


def whole(make, data: bytes) -> bytes:
    return data


# name -> what is changed, what it is put into, what reads the whole
SEEDS: dict[str, tuple[Callable, Callable, Callable]] = {
    "pickle of a state_dict": (lambda m: m.pickle(state_dict(m)), in_zip, zips.read),
    "pickle of a module": (lambda m: m.pickle(module(m)), in_zip, zips.read),
    "pickle of a checkpoint": (lambda m: m.pickle(checkpoint(m)), in_zip, zips.read),
    "old pickle": (lambda m: m.pickle(module(m)), in_legacy, legacy.read),
    "zip": (lambda m: in_zip(m, m.pickle(module(m))), whole, zips.read),
    "old format": (lambda m: in_legacy(m, m.pickle(module(m))), whole, legacy.read),
    "header of safetensors": (lambda m: header(), in_safetensors, safetensors.read),
    "safetensors": (lambda m: in_safetensors(m, header()), whole, safetensors.read),
}


# Looking at everything


def look_at_everything(models: tuple[Model, ...]) -> None:
    for holder in (each for model in models for each in (model, *model.layers)):
        for fact in (name for name, kind in vars(type(holder)).items() if isinstance(kind, Fact)):
            for value in knowledge(holder, fact):
                look_at(value)
    for layer in (layer for model in models for layer in model.layers):
        json.dumps(layer_to_dict(layer), allow_nan=False)
        list(knowledge(layer, "counter"))


def look_at(value: object) -> None:
    if isinstance(value, Tensor):
        for reduced in ("values", "finite", "minimum", "maximum"):
            list(knowledge(value, reduced))


def knowledge(holder: object, name: str) -> Iterator[Any]:
    """An attribute, where it is known and can be read."""
    try:
        yield getattr(holder, name)
    except (UnknownFact, UnreadableModel) as error:
        assert "\n" not in str(error)


def is_read(reader: Callable, data: bytes) -> bool:
    """Whether a file is read; else it must be refused in one line."""
    try:
        models = reader(BytesSource(data))
    except UnreadableModel as error:
        assert 0 < len(error.reason) < 400
        assert error.reason.isprintable()
        return False
    look_at_everything(models)
    return True


# Mutations


EDITS = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 6), st.binary(max_size=6)),
    min_size=1,
    max_size=5,
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for position, removed, inserted in edits:
        at = position % (len(data) + 1)
        data = data[:at] + inserted + data[at + removed :]
    return data


@pytest.mark.parametrize("name", SEEDS)
@BOUNDED
@given(edits=EDITS)
def test_bytes(name, make, edits):
    seed, wrap, reader = SEEDS[name]
    is_read(reader, wrap(make, edited(seed(make), edits)))


# What share of files is still read after one byte was replaced; the tests above would also pass
# if everything were refused. Containers with checked lengths and offsets tolerate little.
SHARES = dict.fromkeys(SEEDS, 0.3) | {"header of safetensors": 0.05, "safetensors": 0.2}


@pytest.mark.parametrize("name", SEEDS)
def test_much_of_the_small_damage_is_still_read(name, make):
    seed, wrap, reader = SEEDS[name]
    data, chance, tries = seed(make), random.Random(0), 300
    read = 0
    for _ in range(tries):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] = chance.randrange(256)
        read += is_read(reader, wrap(make, bytes(changed)))
    assert SHARES[name] < read / tries < 1


def parts(value: Any) -> list[tuple[tuple, Any]]:
    """All that a described value holds, with the way to it."""
    found, stack = [], [((), value)]
    while stack:
        path, held = stack.pop()
        found.append((path, held))
        if isinstance(held, dict):
            stack += [((*path, key), each) for key, each in held.items()]
        elif isinstance(held, list | tuple):
            stack += [((*path, index), each) for index, each in enumerate(held)]
        elif hasattr(held, "args"):
            stack += [((*path, name), getattr(held, name)) for name in ("args", "state")]
        elif hasattr(held, "value"):
            stack.append(((*path, "value"), held.value))
    return found


def replaced(value: Any, path: tuple, new: Any) -> Any:
    if not path:
        return new
    first, *rest = path
    if isinstance(value, dict):
        return {**value, first: replaced(value[first], rest, new)}
    if isinstance(value, list | tuple):
        inner = replaced(value[first], rest, new)
        return type(value)([*value[:first], inner, *value[first + 1 :]])
    return replace(value, **{first: replaced(getattr(value, first), rest, new)})


def strange_values(make) -> list[Any]:
    tensor = make.tensor("weight", (4,))
    return [
        *(None, True, 0, -1, 2**70, -(2**1000), 1.5, float("nan"), float("inf")),
        *("", "x", "weight", "\ud800", "a\nb\x1b[2J", "x" * 2000, b"", b"xx"),
        *((), [], {}, (1, 2), [1, 2], {"a": 1}, {1: 2}, {"data": 1}, ((),)),
        *(make.Name("torch.FloatStorage"), make.Name("os.system"), make.Name(".")),
        make.Call("collections.OrderedDict"),
        make.Call("collections.OrderedDict", ([["a", 1]],)),
        make.Call("os.system", ("x",)),
        make.Call("torch.Size", ((2, 2),)),
        make.Call("torch.nn.parameter.UninitializedParameter", (True,)),
        make.Call("torch._utils._rebuild_parameter", (1, True, 3)),
        make.Call("torch._dynamo.eval_frame.OptimizedModule", (tensor,)),
        *(tensor, make.tensor("bias", ()), make.tensor("bias", (0,))),
        make.tensor("weight", (2**40,), (0,)),
        make.storage("weight", 4),
        make.storage("weight", 4, "LongStorage"),
        make.Reference(3),
        module(make),
        make.batch_norm(),
    ]


@pytest.mark.parametrize("build", [state_dict, module, checkpoint])
@BOUNDED
@given(data=st.data())
def test_values(build, make, data):
    """Any value of a pickle may be any other."""
    value, strange = build(make), strange_values(make)
    for _ in range(data.draw(st.integers(1, 3))):
        places = parts(value)
        path, held = places[data.draw(st.integers(0, len(places) - 1))]
        keep_tuple = isinstance(held, tuple) and path and path[-1] == "args"
        new = data.draw(st.sampled_from(strange))
        value = replaced(value, path, (new,) if keep_tuple else new)
    is_read(zips.read, in_zip(make, make.pickle(value)))


def values_of(models: tuple[Model, ...]) -> dict[str, list[float]]:
    """The values of a state_dict's layers by the name that PyTorch gives them, where known."""
    found = {}
    for layer in (layer for model in models for layer in model.layers):
        for role in ROLES:
            for tensor in knowledge(layer, role):
                name = f"{layer.name}.{role}" if layer.name else role
                found[name] = next(knowledge(tensor, "values"), None) if tensor else None
    return {name: list(values) for name, values in found.items() if values is not None}


@pytest.mark.filterwarnings("ignore")
def test_what_torch_reads_too_has_the_same_values(make):
    """Nobody may be shown another model than the one that PyTorch loads."""
    torch = pytest.importorskip("torch")
    seed, chance, compared = make.pickle(state_dict(make)), random.Random(1), 0
    for _ in range(1500):
        changed = bytearray(seed)
        for _ in range(chance.choice((1, 1, 2))):
            changed[chance.randrange(len(seed))] = chance.randrange(256)
        entries = {"data.pkl": bytes(changed), "version": b"3\n"}
        entries |= {f"data/{key}": data for key, data in DATA.items()}
        archive = make.zip(*(make.Entry(f"a/{name}", data) for name, data in entries.items()))
        try:
            expected = torch.load(io.BytesIO(archive), weights_only=True)
        except Exception:  # torch raises errors of all kinds
            continue
        try:
            found = values_of(zips.read(BytesSource(archive)))
        except UnreadableModel:
            continue
        assert {name: expected[name].tolist() for name in found} == found
        compared += bool(found)
    assert compared > 150
