"""Which weight decay each parameter trains under, as far as an optimizer's state tells."""

from __future__ import annotations

import pytest

from bncheck.facts import UnknownFact
from bncheck.readers.torch.optimizer import Slot, weight_decay

CONV, VECTOR = (4, 3, 3, 3), (4,)
NET = {"conv.weight": CONV, "bn.weight": VECTOR, "bn.bias": VECTOR, "fc.weight": (2, 4)}
TWO = {f"{n}.{role}": VECTOR for n in ("a", "b") for role in ("weight", "bias")}


def slots(*shapes, decay=0.0):
    return [Slot(decay, shape=shape) for shape in shapes]


MATCHED = {
    "no decay at all, whatever it holds": (slots(VECTOR), NET, dict.fromkeys(NET, 0.0)),
    "one group, in order": (slots(*NET.values(), decay=0.1), NET, dict.fromkeys(NET, 0.1)),
    "one group without state": (slots(*[None] * 4, decay=0.1), NET, dict.fromkeys(NET, 0.1)),
    "groups by depth": (
        slots(CONV, VECTOR, VECTOR, decay=0.1) + slots((2, 4)),
        NET,
        {"conv.weight": 0.1, "bn.weight": 0.1, "bn.bias": 0.1, "fc.weight": 0.0},
    ),
    "groups by rank": (
        slots(CONV, (2, 4), decay=0.1) + slots(VECTOR, VECTOR),
        NET,
        {"conv.weight": 0.1, "bn.weight": 0.0, "bn.bias": 0.0, "fc.weight": 0.1},
    ),
    "vectors before the rest": (
        slots(VECTOR, VECTOR, decay=0.1) + slots(CONV, (2, 4)),
        NET,
        {"conv.weight": 0.0, "bn.weight": 0.1, "bn.bias": 0.1, "fc.weight": 0.0},
    ),
    "an embedding that got no gradient": (
        slots(CONV, VECTOR, VECTOR, decay=0.1) + slots(None),
        NET,
        {"conv.weight": 0.1, "bn.weight": 0.1, "bn.bias": 0.1, "fc.weight": 0.0},
    ),
    "names": (
        [Slot(0.1, "bn.weight"), Slot(0.0, "bn.bias")],
        NET,
        {**dict.fromkeys(NET, 0.0), "bn.weight": 0.1},
    ),
    "names under a wrapper": (
        [Slot(0.1, "module.bn.weight"), Slot(0.0, "module.bn.bias")],
        NET,
        {**dict.fromkeys(NET, 0.0), "bn.weight": 0.1},
    ),
}
LEFT_OPEN = {
    "weights and biases of one shape": (
        slots(VECTOR, VECTOR, decay=0.1) + slots(VECTOR, VECTOR),
        TWO,
        set(),
    ),
    "a part of the parameters": (slots(CONV, VECTOR, decay=0.1), NET, {"conv.weight", "fc.weight"}),
    "more than the parameters": (
        slots(*NET.values(), VECTOR, decay=0.1),
        NET,
        {"conv.weight", "fc.weight"},
    ),
    "frozen ones among them, without state": (
        slots(None, None, VECTOR, decay=0.1) + slots(CONV),
        NET,
        {"conv.weight"},
    ),
    "names of another model": ([Slot(0.1, "x.weight"), Slot(0.0, "x.bias")], NET, set()),
    "as many, of other shapes": (slots(*[(9,)] * 4, decay=0.1), NET, set(NET)),
}


@pytest.mark.parametrize("name", MATCHED)
def test_matched(name):
    given, parameters, expected = MATCHED[name]
    assert weight_decay(given, parameters) == expected


@pytest.mark.parametrize("name", LEFT_OPEN)
def test_what_is_not_certain_is_left_open(name):
    given, parameters, certain = LEFT_OPEN[name]
    assert set(weight_decay(given, parameters)) == certain


@pytest.fixture
def decay(make, read_bytes):
    """The weight decay in a checkpoint with one BatchNorm and these groups and states."""

    def build(groups, states=None, wrapped=lambda o: {"optimizer": o}, prefix="bn"):
        optimizer = {"state": states or {}, "param_groups": groups}
        described = {"state_dict": make.batch_norm(prefix=prefix), **wrapped(optimizer)}
        data = {**make.batch_norm_data(), "m": b"\0" * 64}
        return read_bytes(make.torch(described, data))[0].weight_decay

    return build


def group(*params, **options):
    return {"params": list(params), **options}


BOTH = {"bn.weight": 0.1, "bn.bias": 0.1}
PLACES = {
    "plain": lambda o: {"optimizer": o},
    "Lightning": lambda o: {"optimizer_states": [o]},
    "mmengine, several": lambda o: {"optimizer": {"generator": o}},
    "fairseq": lambda o: {"last_optimizer_state": o},
}


@pytest.mark.parametrize("place", PLACES)
def test_where_an_optimizer_lies(decay, place):
    assert decay([group(0, 1, weight_decay=0.1)], wrapped=PLACES[place]) == BOTH


def test_groups_of_one_parameter_each(make, decay):
    """As mmengine makes them with a paramwise_cfg."""
    states = {i: {"momentum_buffer": make.tensor("m", (4,))} for i in range(2)}
    groups = [group(0, weight_decay=0.1), group(1, weight_decay=0.0)]
    with pytest.raises(KeyError):  # both have one shape
        decay(groups, states)["bn.weight"]


def test_names_that_torch_saves(decay):
    named = group(0, 1, weight_decay=0.1, param_names=["bn.weight", "bn.bias"])
    assert decay([named]) == BOTH


def test_names_instead_of_numbers(decay):
    """As FSDP and get_optimizer_state_dict gather them."""
    groups = [group("bn.weight", weight_decay=0.1), group("bn.bias", weight_decay=0.0)]
    assert decay(groups) == {"bn.weight": 0.1, "bn.bias": 0.0}


def test_legacy_names_are_found_by_role(make, read_bytes):
    norm = {"ln.gamma": make.tensor("weight", (4,)), "ln.beta": make.tensor("bias", (4,))}
    optimizer = {"state": {}, "param_groups": [group(0, 1, weight_decay=0.1)]}
    data = make.torch({"model": norm, "optimizer": optimizer}, make.batch_norm_data())
    assert read_bytes(data)[0].weight_decay == {"ln.weight": 0.1, "ln.bias": 0.1}


def test_a_group_without_weight_decay_has_none(decay):
    assert decay([group(0, 1)]) == {"bn.weight": 0.0, "bn.bias": 0.0}
    assert decay([group(0, 1, weight_decay=None)]) == {"bn.weight": 0.0, "bn.bias": 0.0}


@pytest.mark.parametrize(
    "groups",
    [
        [group(0, 1, weight_decay="0.1")],
        [group(0, 1, weight_decay=float("nan"))],
        [group(0, 1, weight_decay=-0.1)],
        [group(0, 1, weight_decay=10**400)],
        [{"params": 7, "weight_decay": 0.1}],
        [7],
    ],
)
def test_a_form_of_its_own(decay, groups):
    with pytest.raises(UnknownFact, match="form of its own"):
        decay(groups)


@pytest.mark.parametrize("groups", [None, [], {}, "x"])
def test_no_groups(decay, groups):
    with pytest.raises(UnknownFact, match="give the training checkpoint"):
        decay(groups)


def test_a_broken_state_does_not_hide_the_model(make, decay):
    states = {0: {"momentum_buffer": make.tensor("m", (4,), offset=10**9)}, 1: 7, None: None}
    assert decay([group(0, 1, weight_decay=0.1)], states) == BOTH


def test_many_references_to_one_long_group_are_counted(decay):
    long = group(*range(3000), weight_decay=0.1)
    with pytest.raises(UnknownFact, match="form of its own"):
        decay([long] * 50)


def test_no_optimizer(make, read_bytes):
    (model,) = read_bytes(make.torch(make.batch_norm(), make.batch_norm_data()))
    with pytest.raises(UnknownFact, match="give the training checkpoint"):
        _ = model.weight_decay


def test_a_module_beside_its_optimizer(make, read_bytes):
    norm = make.module(
        "torch.nn.modules.batchnorm.BatchNorm2d",
        parameters={r: make.tensor(r, (4,)) for r in ("weight", "bias")},
        buffers={r: make.tensor(r, (4,)) for r in ("running_mean", "running_var")},
        eps=1e-5,
    )
    net = make.module("net.Net", {"bn": norm, "again": norm})
    optimizer = {"state": {}, "param_groups": [group(0, 1, weight_decay=0.1)]}
    data = make.torch({"model": net, "optimizer": optimizer}, make.batch_norm_data())
    assert read_bytes(data)[0].weight_decay == BOTH


def test_an_optimizer_under_many_names_is_read_once(decay):
    groups = [group(0, 1, weight_decay=0.1)]
    assert decay(groups, wrapped=lambda o: {"optimizer": o, "again": [o] * 50}) == BOTH
