from __future__ import annotations

import pytest

from bncheck.facts import UnknownFact
from bncheck.model import NormLayer
from bncheck.readers.state_dict import layers, parameters, unwrapped
from bncheck.tensor import constant

V, SCALAR, MATRIX = (4,), (), (4, 4)
BATCH = {"weight": V, "bias": V, "running_mean": V, "running_var": V, "num_batches_tracked": SCALAR}


def found(shapes: dict[str, tuple[int, ...]], **versions: int):
    return layers({name: constant(0.5, shape) for name, shape in shapes.items()}, versions)


def under(prefix: str, leaves) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{leaf}": shape for leaf, shape in dict(leaves).items()}


NORMS = {
    "batch norm": (under("a.bn", BATCH), [("a.bn", "batch")]),
    "batch norm without affine": (
        under("bn", {"running_mean": V, "running_var": V}),
        [("bn", "batch")],
    ),
    "half a batch norm": (under("bn", {"running_var": V}), [("bn", "batch")]),
    "batch norm of TensorFlow": (
        under("bn", {"gamma": V, "beta": V, "moving_mean": V, "moving_variance": V}),
        [("bn", "batch")],
    ),
    "layer or group norm": (under("x.3", {"weight": V, "bias": V}), [("x.3", None)]),
    "layer norm over an image": (under("x", {"weight": (2, 3), "bias": (2, 3)}), [("x", None)]),
    "old layer norm": (under("LayerNorm", {"gamma": V, "beta": V}), [("LayerNorm", None)]),
    "quantized layer norm": (
        under("x", {"weight": V, "bias": V, "scale": SCALAR, "zero_point": SCALAR}),
        [("x", None)],
    ),
    **{
        f"lone weight of {name}": (under(f"model.{name}", {"weight": V}), [(f"model.{name}", None)])
        for name in ("norm", "input_layernorm", "final_norm", "ln_f", "ln1", "q_norm", "rms_1")
    },
}
OTHERS = {
    "linear": {"weight": MATRIX, "bias": V},
    "linear of one feature": {"weight": (4, 1), "bias": V},
    "convolution": {"weight": (4, 4, 3, 3), "bias": V},
    "embedding": {"weight": MATRIX},
    "activation": {"weight": V},
    "temperature": {"weight": SCALAR, "bias": SCALAR},
    "weights of different lengths": {"weight": V, "bias": (5,)},
    "more than weight and bias": {"weight": V, "bias": V, "codebook": V},
    "weight norm": {"weight_g": V, "weight_v": MATRIX, "bias": V},
    "a lone counter": {"num_batches_tracked": SCALAR},
    "layer scale": {"gamma": V},
    "a lone bias": {"bias": V},
}


@pytest.mark.parametrize("name", NORMS)
def test_norms(name):
    shapes, expected = NORMS[name]
    assert [(layer.name, layer.kind) for layer in found(shapes)] == expected


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("prefix", ["conv", "norm.3", "ffn.linear", "x.transforms"])
def test_others(name, prefix):
    assert found(under(prefix, OTHERS[name])) == ()


@pytest.mark.parametrize(
    ("leaves", "foreign"),
    [
        (BATCH, {}),
        (
            {"gamma": V, "beta": V, "moving_mean": V, "moving_variance": V},
            {
                "weight": "gamma",
                "bias": "beta",
                "running_mean": "moving_mean",
                "running_var": "moving_variance",
            },
        ),
        ({**BATCH, "gamma": V}, {}),
        ({"gamma": V, "bias": V}, {"weight": "gamma"}),
    ],
)
def test_names_of_other_libraries_are_noted(leaves, foreign):
    (layer,) = found(under("bn", leaves))
    assert layer.foreign_names == foreign


def test_parameters_are_what_is_no_buffer_under_pytorchs_names():
    tensors = {name: constant(0.5, shape) for name, shape in under("a.bn", BATCH).items()}
    tensors |= {"ln.gamma": constant(0.5, V), "mask": constant(0, V, "int64")}
    assert parameters(tensors) == {"a.bn.weight": V, "a.bn.bias": V, "ln.weight": V}


def test_layers_come_in_the_order_of_their_first_key():
    shapes = {"b.running_mean": V, "a.weight": V, "a.bias": V, "b.running_var": V}
    assert [layer.name for layer in found(shapes)] == ["b", "a"]


def test_a_name_of_pytorch_comes_before_one_of_another_library():
    tensors = {f"bn.{leaf}": constant(i, V) for i, leaf in enumerate(("weight", "gamma", "bias"))}
    (layer,) = layers(tensors, {})
    assert (layer.weight.minimum, layer.bias.minimum) == (0, 2)


def test_a_name_of_nothing_but_a_dot_hides_no_other():
    tensors = {f"{dot}running_var": constant(i, V) for i, dot in enumerate(("", "."))}
    assert [layer.running_var.minimum for layer in layers(tensors, {})] == [0, 1]


class TestVersions:
    """``_metadata`` keeps the version of each class."""

    def test_3_is_a_frozen_batch_norm(self):
        (layer,) = found(under("bn", {"running_mean": V, "running_var": V}), bn=3)
        assert layer.kind == "frozen-batch"

    def test_2_tells_a_lone_weight_from_that_of_an_activation(self):
        shapes = under("x", {"weight": V})
        assert found(shapes, x=1) == ()
        assert [layer.name for layer in found(shapes, x=2)] == ["x"]

    def test_a_matrix_is_none_even_so(self):
        assert found(under("x", {"weight": MATRIX}), x=2) == ()


class TestFacts:
    def test_tensors_are_known(self):
        (layer,) = found(under("bn", BATCH))
        assert (layer.num_features, layer.affine, layer.running_var.shape) == (4, True, V)
        assert layer.num_batches_tracked.shape == ()

    def test_without_affine(self):
        (layer,) = found(under("bn", {"running_mean": V, "running_var": V}))
        assert (layer.affine, layer.weight, layer.num_batches_tracked) == (False, None, None)

    @pytest.mark.parametrize(
        "name", ["eps", "momentum", "training", "track_running_stats", "has_running_stats", "calls"]
    )
    def test_flags_are_not(self, name):
        (layer,) = found(under("bn", BATCH))
        assert not layer.knows(getattr(NormLayer, name))
        with pytest.raises(UnknownFact, match="a state_dict holds none"):
            getattr(layer, name)

    def test_the_other_half_of_the_statistics_is_unknown(self):
        (layer,) = found(under("bn", {"running_var": V}))
        with pytest.raises(UnknownFact, match="running_mean"):
            _ = layer.running_mean

    def test_statistics_that_are_no_vector_tell_no_number_of_features(self):
        (layer,) = found(under("bn", {"running_mean": MATRIX, "running_var": MATRIX}))
        assert not layer.knows(NormLayer.num_features)

    def test_a_layer_norm_without_bias(self):
        (layer,) = found(under("norm", {"weight": V}))
        assert (layer.weight.shape, layer.bias) == (V, None)


UNWRAPPED = {
    "nothing to take off": (["a.b"], ["a.b"]),
    "nothing": ([], []),
    "data parallel": (["module.a", "module.b"], ["a", "b"]),
    "not of all": (["module.a", "b"], ["module.a", "b"]),
    "compiled": (["_orig_mod.a"], ["a"]),
    "both": (["module._orig_mod.a"], ["a"]),
    "within": (["x._orig_mod.a", "b"], ["x.a", "b"]),
    "sharded": (
        ["_fsdp_wrapped_module.a._fsdp_wrapped_module.b", "c._checkpoint_wrapped_module.d"],
        ["a.b", "c.d"],
    ),
    "a name that only ends so": (["x_orig_mod.a", "b"], ["x_orig_mod.a", "b"]),
    "within, where names would meet": (["x._orig_mod.a", "x.a"], ["x._orig_mod.a", "x.a"]),
    "a module of that name": (["module.module.a"], ["a"]),
}


@pytest.mark.parametrize("name", UNWRAPPED)
def test_unwrapped(name):
    names, expected = UNWRAPPED[name]
    assert unwrapped(names) == dict(zip(names, expected, strict=True))


def test_unwrapping_ends():
    name = "module." * 100_000 + "a"
    assert len(unwrapped([name])[name]) < len(name)
