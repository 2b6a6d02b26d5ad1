from __future__ import annotations

import pytest

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.model import NormLayer

TORCH = "torch.nn.modules."
NO_STATISTICS = {"running_mean": None, "running_var": None, "num_batches_tracked": None}


@pytest.fixture
def layers(make, read_bytes):
    """The layers of a pickled module."""

    def find(module):
        (model,) = read_bytes(make.torch(module, make.batch_norm_data()))
        return model.layers

    return find


@pytest.fixture
def role(make):
    """A parameter or buffer of four elements."""
    return lambda name, channels=4: make.tensor(name, (channels,))


@pytest.fixture
def norm(make, role):
    """A BatchNorm with all that it holds; attributes replace or add to its own."""

    def build(path=f"{TORCH}batchnorm.BatchNorm2d", **attributes):
        held = {
            "num_features": 4,
            "eps": 1e-5,
            "momentum": 0.1,
            "affine": True,
            "track_running_stats": True,
        }
        return make.module(
            path,
            parameters={
                name: make.Call(
                    "torch._utils._rebuild_parameter",
                    (role(name), True, make.Call("collections.OrderedDict")),
                )
                for name in ("weight", "bias")
            },
            buffers={name: role(name) for name in ("running_mean", "running_var")},
            **{**held, **attributes},
        )

    return build


class TestKinds:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("batchnorm.BatchNorm1d", "batch"),
            ("batchnorm.SyncBatchNorm", "sync-batch"),
            ("instancenorm.InstanceNorm3d", "instance"),
            ("normalization.GroupNorm", "group"),
            ("normalization.LayerNorm", "layer"),
            ("normalization.RMSNorm", "rms"),
            ("normalization.LocalResponseNorm", "local-response"),
        ],
    )
    def test_classes_of_pytorch(self, layers, make, path, kind):
        (layer,) = layers(make.module(TORCH + path))
        assert (layer.kind, layer.class_path) == (kind, TORCH + path)

    @pytest.mark.parametrize("path", ["linear.Linear", "conv.Conv2d", "activation.PReLU"])
    def test_other_classes_of_pytorch_are_none(self, layers, make, role, path):
        assert layers(make.module(TORCH + path, parameters={"weight": role("weight")})) == ()

    @pytest.mark.parametrize(
        "path", ["batchnorm.BatchNorm2d", "my.torch.nn.modules.batchnorm.BatchNorm2d"]
    )
    def test_a_class_of_the_same_name_elsewhere_is_judged_by_what_it_holds(
        self, layers, make, path
    ):
        assert layers(make.module(path)) == ()

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("BatchNormAct2d", "batch"),
            ("InPlaceABN", "batch"),
            ("NaiveSyncBatchNorm", "sync-batch"),
            ("FrozenBatchNorm2d", "frozen-batch"),
            ("ConditionalInstanceNorm2d", "instance"),
            ("Whatever", "batch"),
        ],
    )
    def test_statistics(self, layers, norm, name, kind):
        assert [layer.kind for layer in layers(norm(f"my.{name}"))] == [kind]

    def test_statistics_that_are_parameters(self, layers, make, role):
        held = {name: role(name) for name in ("running_mean", "running_var")}
        (layer,) = layers(make.module("my.Norm", parameters=held))
        assert (layer.kind, layer.running_var.numel) == ("batch", 4)

    def test_scale_and_shift_that_are_buffers_are_frozen(self, layers, make, role):
        held = {n: role(n) for n in ("weight", "bias", "running_mean", "running_var")}
        assert layers(make.module("my.Norm2d", buffers=held))[0].kind == "frozen-batch"

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("MyBatchNorm", "batch"),
            ("SplitBN", "batch"),
            ("InstanceNorm", "instance"),
            ("Norm", None),
        ],
    )
    def test_a_subclass_without_statistics_is_known_by_its_name_only(
        self, layers, make, name, kind
    ):
        (layer,) = layers(make.module(f"my.{name}", buffers=NO_STATISTICS, num_features=4))
        assert layer.kind == kind

    @pytest.mark.parametrize(
        ("name", "attributes", "parameters", "kind"),
        [
            ("LlamaRMSNorm", {"variance_epsilon": 1e-6}, ["weight"], "rms"),
            ("GemmaRMSNorm", {"eps": 1e-6}, ["weight"], "rms"),
            ("RMSNormGated", {"eps": 1e-6}, ["weight"], "rms"),
            ("T5LayerNorm", {"variance_epsilon": 1e-6}, ["weight"], "rms"),
            ("BertLayerNorm", {"variance_epsilon": 1e-12}, ["weight", "bias"], "layer"),
            ("LayerNorm2d", {"eps": 1e-6}, ["weight", "bias"], "layer"),
            ("LayerNorm", {"normalized_shape": (4,)}, ["weight", "bias"], "layer"),
            ("OlmoLayerNorm", {"normalized_shape": (4,)}, [], "layer"),
            ("FusedRMSNorm", {"normalized_shape": (4,)}, ["weight"], "rms"),
            ("GroupNorm32", {"num_groups": 2, "num_channels": 4}, ["weight", "bias"], "group"),
        ],
    )
    def test_affine(self, layers, make, role, name, attributes, parameters, kind):
        held = {each: role(each) for each in parameters}
        (layer,) = layers(make.module(f"my.{name}", parameters=held, **attributes))
        assert layer.kind == kind

    @pytest.mark.parametrize(
        ("name", "shape"), [("LayerScale", (4,)), ("Scale", (4,)), ("RMSNormLinear", (4, 4))]
    )
    def test_no_norm(self, layers, make, name, shape):
        held = {"weight": make.tensor("weight", shape)}
        assert layers(make.module(f"my.{name}", parameters=held)) == ()


class TestFacts:
    def test_of_a_batch_norm(self, layers, norm):
        (layer,) = layers(norm())
        assert (layer.num_features, layer.eps, layer.momentum) == (4, 1e-5, 0.1)
        assert (layer.affine, layer.track_running_stats, layer.has_running_stats) == (True,) * 3
        assert (layer.training, layer.requires_grad) == (False, True)
        assert list(layer.weight.values) == [1.5] * 4
        assert list(layer.running_var.values) == [2.0] * 4
        assert layer.num_batches_tracked is None

    @pytest.mark.parametrize("known", [{"num_channels": 4}, {}])  # a traced module holds none
    def test_of_a_group_norm(self, layers, make, role, known):
        held = {each: role(each) for each in ("weight", "bias")}
        path = f"{TORCH}normalization.GroupNorm"
        (layer,) = layers(make.module(path, parameters=held, num_groups=2, **known))
        assert (layer.num_groups, layer.num_features) == (2, 4)

    def test_without_statistics_and_affine(self, layers, make):
        module = make.module(
            f"{TORCH}batchnorm.BatchNorm2d",
            parameters={"weight": None, "bias": None},
            buffers=NO_STATISTICS,
            training=True,
            num_features=4,
            momentum=None,
            track_running_stats=False,
        )
        (layer,) = layers(module)
        assert (layer.affine, layer.has_running_stats, layer.requires_grad) == (False,) * 3
        assert (layer.momentum, layer.weight, layer.running_mean) == (None, None, None)
        assert layer.training is True

    @pytest.mark.parametrize("name", ["eps", "variance_epsilon", "epsilon"])
    def test_eps_goes_by_several_names(self, layers, make, role, name):
        held = {"weight": role("weight")}
        (layer,) = layers(make.module("my.RMSNorm", parameters=held, **{name: 1e-6}))
        assert layer.eps == 1e-6

    def test_eps_of_none_is_the_dtypes_own(self, layers, make):
        assert layers(make.module(f"{TORCH}normalization.RMSNorm", eps=None))[0].eps is None

    @pytest.mark.parametrize(
        ("attribute", "value"),
        [
            ("eps", "1e-5"),
            ("eps", True),
            ("eps", 10**400),
            ("momentum", [0.1]),
            ("training", 1),
            ("num_features", 4.0),
            ("num_features", 2**64),
            ("track_running_stats", None),
        ],
    )
    def test_an_attribute_of_another_type_is_unknown(self, layers, norm, attribute, value):
        (layer,) = layers(norm(**{attribute: value}))
        with pytest.raises(UnknownFact):
            getattr(layer, {"training": "training"}.get(attribute, attribute))

    @pytest.mark.parametrize("attribute", ["eps", "momentum", "track_running_stats"])
    def test_an_attribute_that_is_not_there_is_unknown(self, layers, make, attribute):
        (layer,) = layers(make.module(f"{TORCH}batchnorm.BatchNorm2d", buffers=NO_STATISTICS))
        assert not layer.knows(getattr(NormLayer, attribute))

    def test_the_number_of_features_may_follow_from_the_statistics(self, layers, make, role):
        buffers = {name: role(name) for name in ("running_mean", "running_var")}
        assert layers(make.module("my.FrozenBatchNorm2d", buffers=buffers))[0].num_features == 4

    def test_a_plain_attribute_hides_what_is_registered(self, layers, norm, role):
        """As Python looks it up, and as weight_norm and pruning leave it."""
        (layer,) = layers(norm(running_var=role("bias")))
        assert list(layer.running_var.values) == [0.5] * 4

    def test_a_lazy_layer_is_unknown_not_absent(self, layers, make):
        lazy = make.Call("torch.nn.parameter.UninitializedParameter", (True,))
        module = make.module(
            f"{TORCH}batchnorm.LazyBatchNorm2d",
            parameters={"weight": lazy, "bias": lazy},
            buffers={"running_mean": lazy, "running_var": lazy},
        )
        (layer,) = layers(module)
        assert (layer.affine, layer.has_running_stats) == (True, True)
        with pytest.raises(UnknownFact, match="not seen an input"):
            _ = layer.weight


class TestTrees:
    def test_names_and_order_are_those_of_named_modules(self, layers, make, norm):
        inner = make.module("my.Block", {"n2": norm(), "n1": norm()})
        root = make.module("my.Net", {"z": inner, "none": None, "a": norm()})
        assert [layer.name for layer in layers(root)] == ["z.n2", "z.n1", "a"]

    def test_a_shared_module_is_one_layer_under_its_first_name(self, layers, make, norm):
        shared = norm()
        root = make.module("my.Net", {"a": shared, "b": make.module("my.B", {"c": shared})})
        assert [layer.name for layer in layers(root)] == ["a"]

    def test_a_module_inside_itself(self, make, read_bytes):
        """By BUILD, a pickle can set the attributes of an object that they hold already."""
        inner = b"cm\nN\n)\x81q\0}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}X\1\0\0\0ah\0sub"
        data = make.zip(make.Entry("r/data.pkl", b"\x80\x02" + inner + b"."))
        assert read_bytes(data)[0].holds == "N of 1 modules"

    def test_what_compile_wraps(self, layers, make, norm):
        compiled = make.Call("torch._dynamo.eval_frame.OptimizedModule", (norm(), None))
        assert [layer.name for layer in layers(compiled)] == ["_orig_mod"]
        root = make.module("my.Net", {"net": compiled, "bn": norm()})
        assert [layer.name for layer in layers(root)] == ["net._orig_mod", "bn"]

    def test_a_graph_module_is_given_its_attributes(self, layers, make, norm):
        state = make.module("x.X", {"bn": norm()}).state
        path = "torch.fx.graph_module.reduce_graph_module"
        assert [layer.name for layer in layers(make.Call(path, (state, "import torch")))] == ["bn"]

    def test_a_name_beyond_all_sense_is_refused(self, layers, make, norm):
        with pytest.raises(UnreadableModel, match="a name has over 1000"):
            layers(make.module("my.Net", {"x" * 1001: norm()}))

    def test_what_it_holds_is_said(self, make, read_bytes, norm):
        root = make.module("my.models.Net", {"a": norm(), "b": make.module("my.B")})
        assert read_bytes(make.torch(root))[0].holds == "Net of 3 modules"
