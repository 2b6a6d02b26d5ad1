"""Sound files of an odd kind, as torch.save writes them: read right, or refused in one line.

The classes of the modules are taken away before the file is read: nothing may need them.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import enum
import functools
import sys
import types
from pathlib import Path

import pytest

from bncheck.errors import NotAModel
from bncheck.readers import read
from bncheck.report import layer_to_dict

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")


def block(**options) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, **options), nn.ReLU())


def own_class(name: str, base: type = nn.Module, **body) -> type:
    """A class of a module that exists only while the file is written."""
    module = sys.modules.setdefault("someones_code", types.ModuleType("someones_code"))
    made = type(name, (base,), {"__module__": "someones_code", **body})
    setattr(module, name, made)
    return made


@pytest.fixture
def found(tmp_path: Path):
    """Member, content and the layers' names and kinds of what a file holds."""

    def save_and_read(value, **options):
        path = tmp_path / "model.pt"
        try:
            torch.save(value, path, **options)
        finally:
            sys.modules.pop("someones_code", None)
        models = read(path)
        for layer in (layer for model in models for layer in model.layers):
            layer_to_dict(layer)
        return [(m.member, m.content, {la.name: la.kind for la in m.layers}) for m in models]

    return save_and_read


def prepared_for_quantization():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)).eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    prepared = torch.ao.quantization.prepare(model)
    prepared(torch.randn(1, 3, 4, 4))
    return prepared


def pruned():
    from torch.nn.utils import prune

    return prune.random_unstructured(nn.BatchNorm2d(4), "weight", 0.5)


def parametrized():
    module = block()
    nn.utils.parametrizations.weight_norm(module[0])
    return module


def with_own_code():
    def forward(self, x):
        return self.bn(x)

    net = own_class("Net", forward=forward)()
    net.bn = nn.BatchNorm2d(4)
    net.activation = functools.partial(torch.clamp, min=0)
    net.sizes = list(range(100_000))
    net.register_forward_hook(print)
    return net


def with_extra_state():
    methods = {"get_extra_state": lambda self: {"a": 1}, "set_extra_state": lambda self, x: None}
    net = own_class("Net", **methods)()
    net.bn = nn.BatchNorm2d(4)
    return net


def with_buffers():
    norm = own_class("Norm")()
    norm.running_mean, norm.running_var = nn.Buffer(torch.zeros(3)), nn.Buffer(torch.ones(3))
    norm.weight = nn.Parameter(torch.ones(3))
    return norm


def reference_to_itself():
    net = own_class("Net")()
    net.bn = nn.BatchNorm2d(4)
    net.__dict__["owner"] = net
    return net


Colour = enum.Enum("Colour", "RED GREEN")
NamedTuple = collections.namedtuple("NamedTuple", "model epoch")


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int
    model: object


class OwnDict(collections.OrderedDict):
    """As mmcv's, Lightning's and many others'."""


for _each in (Slotted, OwnDict, NamedTuple, Colour):
    _each.__module__ = "someones_data"


@pytest.fixture(autouse=True)
def someones_data(monkeypatch):
    """The classes above can be found by pickle, under a name that nothing else can import."""
    module = types.ModuleType("someones_data")
    vars(module).update({each.__name__: each for each in (Slotted, OwnDict, NamedTuple, Colour)})
    monkeypatch.setitem(sys.modules, "someones_data", module)


def everything():
    numpy = pytest.importorskip("numpy")
    return {
        "enum": Colour.RED,
        "array": numpy.arange(4),
        "scalar": numpy.float64(3),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "partial": functools.partial(print, 1),
        "namespace": argparse.Namespace(lr=1.0),
        "bytes": b"xx",
        "bytearray": bytearray(b"yy"),
        "set": {1, 2},
        "slice": slice(1, 2),
        "complex": 1j,
        "default": collections.defaultdict(list, a=[1]),
        "rng": torch.get_rng_state(),
        "deque": collections.deque([1], 3),
        "path": Path("a/b"),
        "state_dict": block().state_dict(),
    }


BN1 = {"1": "batch"}
STATE_DICT = [(None, "state_dict", BN1)]
MODULE = [(None, "module", BN1)]
FILES = {
    "weight norm": (
        lambda: nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)),
        MODULE,
    ),
    "spectral norm": (
        lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)),
        MODULE,
    ),
    "parametrized, its state_dict": (lambda: parametrized().state_dict(), STATE_DICT),
    "pruned": (pruned, [(None, "module", {"": "batch"})]),
    "pruned, its state_dict": (
        lambda: pruned().state_dict(),
        [(None, "state_dict", {"": "batch"})],
    ),
    "data parallel": (lambda: nn.DataParallel(block()), [(None, "module", {"module.1": "batch"})]),
    "data parallel, its state_dict": (lambda: nn.DataParallel(block()).state_dict(), STATE_DICT),
    "compiled": (lambda: torch.compile(block()), [(None, "module", {"_orig_mod.1": "batch"})]),
    "compiled, its state_dict": (lambda: torch.compile(block()).state_dict(), STATE_DICT),
    "compiled within": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), torch.compile(block())),
        [(None, "module", {"0": "batch", "1._orig_mod.1": "batch"})],
    ),
    "averaged": (
        lambda: torch.optim.swa_utils.AveragedModel(block()),
        [(None, "module", {"module.1": "batch"})],
    ),
    "averaged, its state_dict": (
        lambda: torch.optim.swa_utils.AveragedModel(block()).state_dict(),
        [(None, "state_dict", {"module.1": "batch"})],
    ),
    "synchronised": (
        lambda: nn.SyncBatchNorm.convert_sync_batchnorm(block()),
        [(None, "module", {"1": "sync-batch"})],
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 1), nn.LazyBatchNorm2d()), MODULE),
    "symbolically traced": (lambda: torch.fx.symbolic_trace(block()), MODULE),
    "quantized": (
        lambda: torch.ao.quantization.convert(prepared_for_quantization()),
        [(None, "module", {"1": "batch", "2": "group"})],
    ),
    "quantized, its state_dict": (
        lambda: torch.ao.quantization.convert(prepared_for_quantization()).state_dict(),
        [(None, "state_dict", {"1": "batch", "2": None})],
    ),
    "observed, its state_dict": (
        lambda: prepared_for_quantization().state_dict(),
        [(None, "state_dict", {"1": "batch", "2": None})],
    ),
    "dynamically quantized": (
        lambda: torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), {nn.Linear}
        ),
        MODULE,
    ),
    "recurrent": (lambda: nn.Sequential(nn.LSTM(4, 5, 2), nn.BatchNorm1d(5)), MODULE),
    "recurrent, its state_dict": (
        lambda: nn.Sequential(nn.LSTM(4, 5, 2), nn.BatchNorm1d(5)).state_dict(),
        STATE_DICT,
    ),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(4, 2),
        [(None, "module", {"norm1": "layer", "norm2": "layer"})],
    ),
    "no norm at all": (lambda: nn.Linear(2, 2), [(None, "module", {})]),
    "own code": (with_own_code, [(None, "module", {"bn": "batch"})]),
    "extra state": (with_extra_state, [(None, "module", {"bn": "batch"})]),
    "extra state, its state_dict": (
        lambda: with_extra_state().state_dict(),
        [(None, "state_dict", {"bn": "batch"})],
    ),
    "nn.Buffer": (with_buffers, [(None, "module", {"": "batch"})]),
    "a module that knows itself": (reference_to_itself, [(None, "module", {"bn": "batch"})]),
    "half": (lambda: block().half(), MODULE),
    "without statistics": (lambda: block(track_running_stats=False), MODULE),
    "without statistics, its state_dict": (
        lambda: block(track_running_stats=False).state_dict(),
        [(None, "state_dict", {"1": None})],
    ),
    "an ordered dictionary of its own": (lambda: OwnDict(block().state_dict()), STATE_DICT),
    "a default dictionary": (
        lambda: collections.defaultdict(list, block().state_dict()),
        STATE_DICT,
    ),
    "an iterable of state_dicts": (
        lambda: (block().state_dict(), [block()]),
        [("0", "checkpoint", BN1), ("1.0", "module", BN1)],
    ),
    "a named tuple": (
        lambda: NamedTuple(block().state_dict(), 3),
        [("0", "checkpoint", BN1)],
    ),
    "slots": (lambda: Slotted(3, block()), [("model", "module", BN1)]),
    "a namespace": (lambda: argparse.Namespace(net=block()), [("net", "module", BN1)]),
    "everything at once": (everything, [("state_dict", "checkpoint", BN1)]),
    "tensors in dictionaries": (
        lambda: {"bn": dict(nn.BatchNorm2d(4).state_dict()), "lr": 0.1},
        [("bn", "checkpoint", {"": "batch"})],
    ),
    "PReLU and RMSNorm in a row": (
        # Two vectors without a name: the file does not tell which is which.
        lambda: nn.Sequential(nn.PReLU(4), nn.RMSNorm(4)).state_dict(),
        [(None, "state_dict", {})],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_file(name, found):
    build, expected = FILES[name]
    assert found(build()) == expected


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["module", "state_dict"])
def test_protocols(found, protocol, kind):
    value, expected = (block(), MODULE) if kind == "module" else (block().state_dict(), STATE_DICT)
    assert found(value, pickle_protocol=protocol) == expected


@pytest.mark.parametrize("name", ["own code", "quantized", "compiled", "data parallel", "half"])
def test_the_format_of_before_1_6(name, found):
    build, expected = FILES[name]
    assert found(build(), _use_new_zipfile_serialization=False) == expected


NO_MODELS = {
    "an optimizer": lambda: torch.optim.Adam(block().parameters()),
    "its state": lambda: torch.optim.Adam(block().parameters()).state_dict(),
    "a tensor": lambda: torch.zeros(3),
    "tensors": lambda: [torch.zeros(3), torch.ones(2)],
    "nothing": lambda: None,
    "an empty dictionary": dict,
    "a generator": lambda: torch.Generator().get_state(),
    "a scheduler": lambda: {"scheduler": {"last_epoch": 3}},
}


@pytest.mark.parametrize("name", NO_MODELS)
def test_no_model(name, found):
    with pytest.raises(NotAModel, match=r"^holds no model: it is [^\n]{5,100}$"):
        found(NO_MODELS[name]())


def test_ultralytics(found):
    yolo = own_class("DetectionModel")()
    yolo.model = block().half().train()
    checkpoint = {
        "epoch": -1,
        "model": yolo,
        "ema": None,
        "optimizer": None,
        "train_args": {"batch": 16, "device": "0,1"},
    }
    assert found(checkpoint) == [("model", "module", {"model.1": "batch"})]


def test_lightning(found):
    adam = torch.optim.Adam(block().parameters())
    checkpoint = {
        "epoch": 4,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{name}": value for name, value in block().state_dict().items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(1.0)}},
        "optimizer_states": [adam.state_dict()],
        "lr_schedulers": [{"last_epoch": 3, "base_lrs": [0.1]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"batch_size": 2},
    }
    assert found(checkpoint) == [("state_dict", "checkpoint", {"model.1": "batch"})]
