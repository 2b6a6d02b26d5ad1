"""What archives say of normalization layers, and what is left where code is not followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bncheck.facts import Evidence, Unknown
from bncheck.model import Model, NormLayer
from bncheck.readers import zips
from bncheck.readers.source import BytesSource

PATH = "__torch__.torch.nn.modules.batchnorm.___torch_mangle_7.BatchNorm2d"
FILE = "__torch__/torch/nn/modules/batchnorm/___torch_mangle_7"
ROLES = ("weight", "bias", "running_mean", "running_var")
DECLARED = """\
class BatchNorm2d(Module):
  __parameters__ = ["weight", "bias", ]
  __buffers__ = ["running_mean", "running_var", "num_batches_tracked", ]
  training : bool
"""
CONSTANTS = """\
  eps : Final[float] = 0.001
  momentum : Final[NoneType] = None
  affine : Final[bool] = True
  num_features : Final[int] = 4
  track_running_stats : Final[bool] = True
"""
HEAD = f"""\
  def forward(self: {PATH},
    x: Tensor) -> Tensor:
"""
TENSORS = "self.weight, self.bias, self.running_mean, self.running_var"
TRACED = f"    return torch.batch_norm(x, {TENSORS}, {{}}, 0.10000000000000001, 1e-05, True)\n"
SCRIPTED = f"    return torch.batch_norm(x, {TENSORS}, self.training, 0.10, 0.001, True)\n"
CALL_IT = "    bn = self.bn\n    return (bn).forward(x, )\n"


@dataclass(frozen=True)
class Nets:
    """Archives of a net that holds one BatchNorm, ``bn``."""

    make: Any
    archive: Callable[..., bytes]

    def bytes(self, bn: str, forward: str = CALL_IT, training: bool = False, **more: Any) -> bytes:
        roles = {role: self.make.tensor(role, (4,)) for role in ROLES}
        counter = self.make.tensor("counter", (), kind="LongStorage")
        state = {**roles, "num_batches_tracked": counter, "training": training}
        held = {"training": training, "bn": self.make.Call(PATH, (), state, new=True), **more}
        root = "class Net(Module):\n  __parameters__ = []\n  training : bool\n"
        root += f"  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n{forward}"
        return self.archive({"__torch__": root, FILE: bn}, held, keys=[*ROLES, "counter"])


@pytest.fixture
def nets(make: Any, archive: Callable[..., bytes]) -> Nets:
    return Nets(make, archive)


@pytest.fixture
def layer_of(read_bytes: Callable[..., tuple[Model, ...]]) -> Callable[[bytes], NormLayer]:
    def only(data: bytes) -> NormLayer:
        (layer,) = read_bytes(data)[0].layers
        return layer

    return only


def why(layer: NormLayer, name: str) -> str:
    unknown = layer.facts[name]
    assert isinstance(unknown, Unknown)
    return unknown.why


@pytest.mark.parametrize("literal", [True, False])
@pytest.mark.parametrize("attribute", [True, False])
def test_the_literal_decides_the_mode_of_a_traced_layer(
    nets: Nets, layer_of: Any, literal: bool, attribute: bool
) -> None:
    layer = layer_of(nets.bytes(DECLARED + HEAD + TRACED.format(literal), training=attribute))
    assert layer.training is literal
    assert (layer.name, layer.kind) == ("bn", "batch")
    assert layer.class_path == "torch.nn.modules.batchnorm.BatchNorm2d"
    assert (layer.eps, layer.momentum, layer.num_features) == (1e-5, 0.1, 4)
    assert [call.name for call in layer.calls] == ["bn"]


@pytest.mark.parametrize("attribute", [True, False])
def test_the_attribute_decides_the_mode_of_a_scripted_layer(
    nets: Nets, layer_of: Any, attribute: bool
) -> None:
    layer = layer_of(nets.bytes(DECLARED + CONSTANTS + HEAD + SCRIPTED, training=attribute))
    assert layer.training is attribute
    assert (layer.eps, layer.momentum, layer.track_running_stats) == (0.001, None, True)


def test_parameters_and_buffers_are_told_apart(nets: Nets, layer_of: Any) -> None:
    layer = layer_of(nets.bytes(DECLARED + CONSTANTS + HEAD + SCRIPTED))
    assert all(layer.facts[role].shape == (4,) for role in ROLES)
    assert layer.num_batches_tracked.dtype == "int64"
    assert layer.requires_grad is False


def test_a_layer_that_is_not_called_has_no_known_mode(nets: Nets, layer_of: Any) -> None:
    layer = layer_of(nets.bytes(DECLARED + HEAD + TRACED.format(True), "    return x\n"))
    assert layer.calls == ()
    assert "never calls" in why(layer, "training")


def test_a_layer_of_other_operators_has_no_known_mode(nets: Nets, layer_of: Any) -> None:
    own = "    return torch.mul(torch.sub(x, self.running_mean), self.weight)\n"
    layer = layer_of(nets.bytes(DECLARED + HEAD + own, training=True))
    assert "operators of its own" in why(layer, "training")
    assert "operators of its own" in why(layer, "calls")


def test_a_layer_that_is_called_in_both_modes_is_in_training_mode(
    nets: Nets, layer_of: Any
) -> None:
    both = HEAD + TRACED.format(False).replace("return", "y =").rstrip()
    both += "\n" + TRACED.format(True).replace("(x,", "(y,")
    layer = layer_of(nets.bytes(DECLARED + both))
    assert layer.training is True
    assert len(layer.calls) == 2


def test_a_copy_of_a_layer_has_the_calls_that_read_its_tensors(
    nets: Nets, read_bytes: Any, make: Any
) -> None:
    """torch saves a module once for each name that it is registered under."""
    roles = {role: make.tensor(role, (4,)) for role in ROLES}
    copy = make.Call(PATH, (), {**roles, "training": False}, new=True)
    data = nets.bytes(DECLARED + HEAD + TRACED.format(False), alias=copy)
    first, second = read_bytes(data)[0].layers
    assert (first.name, second.name) == ("bn", "alias")
    assert first.calls == second.calls
    assert second.training is False


UNCLEAR = "    return (self).head(x, )\n"


def test_layers_remain_where_the_code_is_not_followed(nets: Nets, read_bytes: Any) -> None:
    traced, scripted = (
        read_bytes(nets.bytes(bn, UNCLEAR, training=True))[0]
        for bn in (DECLARED + HEAD + TRACED.format(False), DECLARED + CONSTANTS + HEAD + SCRIPTED)
    )
    assert "no method 'head'" in traced.facts["graph"].why
    assert traced.layers[0].running_var.shape == (4,)
    assert "not followed" in why(traced.layers[0], "training")
    assert "holds none" in why(traced.layers[0], "eps")
    assert (scripted.layers[0].training, scripted.layers[0].eps) == (True, 0.001)
    assert traced.evidence == {Evidence.TENSORS}
    assert scripted.evidence == {Evidence.TENSORS, Evidence.FLAGS}


def test_a_class_without_code_is_known_by_what_it_holds(nets: Nets, layer_of: Any) -> None:
    layer = layer_of(nets.bytes("def unrelated():\n  pass\n", UNCLEAR))
    assert (layer.kind, layer.running_mean.shape) == ("batch", (4,))


def test_a_frozen_archive_has_its_tensors_among_the_constants(
    make: Any, follow: Callable[..., Model]
) -> None:
    tensors = ", ".join(f"CONSTANTS.c{index}" for index in range(4))
    model = follow(
        "y = torch.neg(x)",
        f"return torch.batch_norm(y, {tensors}, False, 0.1, 1e-05, True)",
        state={},
        constants=[make.tensor(role, (4,)) for role in ROLES],
        constant_keys=ROLES,
    )
    (layer,) = model.layers
    assert (layer.name, layer.kind, layer.training) == ("batch_norm", "batch", False)
    assert all(layer.facts[role].shape == (4,) for role in ROLES)
    assert (model.content, model.holds) == ("graph", "Net, frozen")


def test_a_graph_without_batch_norm_proves_nothing_of_statistics(
    follow: Callable[..., Model],
) -> None:
    gone = follow("return torch.relu(x)").statistics_gone
    assert gone is not None
    assert "folded" in gone.why


def test_a_batch_norm_of_weights_is_no_layer(make: Any, follow: Callable[..., Model]) -> None:
    model = follow(
        "w = torch.batch_norm(self.w, None, None, None, None, True, 0., 1e-05, True)",
        "return torch.conv2d(x, w)",
        state={"training": False, "w": make.tensor("w", (4, 1, 1, 1))},
        keys=["w"],
    )
    assert model.layers == ()


def test_a_normalization_of_nothing_is_none(follow: Callable[..., Model]) -> None:
    assert follow("return torch.batch_norm(5, None, None, None, None, True)").layers == ()


class CountingSource(BytesSource):
    """Remembers how many bytes were asked for."""

    asked = 0

    def read(self, offset: int, length: int) -> bytes:
        self.asked += length
        return super().read(offset, length)


def test_other_tensors_than_those_of_normalizations_are_not_read(
    make: Any, follow: Any, archive: Any
) -> None:
    megabytes = 32
    code = "class Net(Module):\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"
    code += "    return torch.linear(x, self.w)\n"
    held = {"training": False, "w": make.tensor("w", (megabytes * 2**18,))}
    named = {
        "data.pkl": make.pickle(make.Call("__torch__.Net", (), held, new=True)),
        "constants.pkl": make.pickle(()),
        "code/__torch__.py": code.encode(),
        "data/w": bytes(megabytes * 2**20),
    }
    source = CountingSource(make.zip(*(make.Entry(f"net/{n}", d) for n, d in named.items())))
    (model,) = zips.read(source)
    assert len(model.facts["graph"].nodes) == 1
    assert source.size > megabytes * 2**20
    assert source.asked < 100_000
