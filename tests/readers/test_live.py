from __future__ import annotations

import pytest

import bncheck
from bncheck.errors import NotAModel, UnreadableModel
from bncheck.facts import Evidence, UnknownFact
from bncheck.model import BatchSize, Model, NormLayer
from bncheck.readers import read

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def only(target) -> NormLayer:
    (model,) = read(target)
    (layer,) = model.layers
    return layer


class TestModules:
    def test_facts(self):
        layer = only(nn.BatchNorm2d(4, eps=1e-3, momentum=None))
        assert (layer.name, layer.kind, layer.num_features) == ("", "batch", 4)
        assert (layer.eps, layer.momentum, layer.training) == (1e-3, None, True)
        assert layer.class_path == "torch.nn.modules.batchnorm.BatchNorm2d"
        assert list(layer.running_var.values) == [1.0] * 4
        assert layer.counter == 0

    def test_model(self):
        (model,) = read(net().eval())
        assert (model.format, model.content, model.training_state) == ("module", "module", None)
        assert {Evidence.TENSORS, Evidence.FLAGS} <= model.evidence
        assert model.holds.startswith("Sequential of 4 modules")

    def test_training_mode_of_the_root_makes_it_a_training_model(self):
        assert read(net().train())[0].training_state == "the module is in training mode"

    def test_a_subclass_is_known_by_its_base(self):
        class Norm(nn.InstanceNorm2d):
            pass

        class Odd(nn.Conv2d):
            pass

        assert only(Norm(3)).kind == "instance"
        assert only(nn.Sequential(Odd(3, 3, 1), Norm(3))).name == "1"

    @pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
    def test_names_are_those_of_named_modules(self, wrap):
        wrapped = wrap(net().eval())
        names = [name for name, m in wrapped.named_modules() if isinstance(m, nn.BatchNorm2d)]
        assert [layer.name for layer in read(wrapped)[0].layers] == names

    def test_a_lazy_layer(self):
        layer = only(nn.LazyBatchNorm2d().eval())
        assert (layer.affine, layer.has_running_stats) == (True, True)
        with pytest.raises(UnknownFact, match="not seen an input"):
            _ = layer.running_var

    def test_a_parametrized_weight_is_unknown_not_absent(self):
        norm = nn.BatchNorm2d(4).eval()
        nn.utils.parametrize.register_parametrization(norm, "weight", nn.Softplus())
        layer = only(norm)
        assert (layer.kind, layer.affine) == ("batch", True)
        with pytest.raises(UnknownFact, match="parametrization"):
            _ = layer.weight

    def test_a_weight_that_pruning_computes_is_the_one_in_use(self):
        from torch.nn.utils import prune

        norm = prune.random_unstructured(nn.BatchNorm2d(4), "weight", 0.5)
        layer = only(norm)
        assert list(layer.weight.values) == norm.weight.tolist()

    def test_values_follow_the_module_until_they_are_touched(self):
        norm = nn.BatchNorm2d(2)
        layer = only(norm)
        norm.running_var.fill_(3.0)
        assert list(layer.running_var.values) == [3.0, 3.0]

    def test_reading_changes_nothing(self):
        module = net()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        layer = read(module)[0].layers[0]
        assert layer.running_var.finite
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        assert module.training

    def test_a_script_module_is_refused(self):
        with pytest.raises(UnreadableModel, match="ScriptModule"):
            read(torch.jit.trace(net().eval(), torch.zeros(1, 3, 8, 8)))


TENSORS = {
    "float16": torch.tensor([1.5, float("inf")]).half(),
    "bfloat16": torch.tensor([1.5, -2.0]).bfloat16(),
    "int64": torch.tensor([2**40, -1]),
    "bool": torch.tensor([True, False]),
    "wants a gradient": torch.ones(2, requires_grad=True),
    "view": torch.arange(8.0)[1::4],
    "conjugated": torch.complex(torch.ones(2), torch.ones(2)).conj().imag,
}
UNREAD = {
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "meta": lambda: torch.ones(2, device="meta"),
    "sparse": lambda: torch.ones(2).to_sparse(),
}


class TestTensors:
    @pytest.mark.parametrize("name", TENSORS)
    def test_values(self, name):
        tensor = TENSORS[name]
        found = only({"bn.running_mean": tensor, "bn.running_var": tensor}).running_mean
        assert found.dtype == str(tensor.dtype).removeprefix("torch.")
        assert list(found.values) == tensor.detach().tolist()

    @pytest.mark.parametrize("name", UNREAD)
    def test_values_that_it_does_not_give(self, name):
        found = only({"bn.running_mean": UNREAD[name](), "bn.running_var": torch.ones(2)})
        assert found.running_mean.shape == (2,)
        with pytest.raises(UnknownFact, match="this tensor gives none"):
            _ = found.running_mean.values

    def test_shared_storage(self):
        base = torch.ones(8)
        found = only({"bn.running_mean": base[:4], "bn.running_var": base[4:]})
        assert found.running_mean.storage == found.running_var.storage is not None


class TestStateDicts:
    def test_of_torch(self):
        layer = only(net().state_dict())
        assert (layer.name, layer.kind) == ("1", "batch")

    def test_of_numpy(self):
        numpy = pytest.importorskip("numpy")
        held = {"bn.running_mean": numpy.zeros(2, "f2"), "bn.running_var": numpy.ones((2,))}
        layer = only(held)
        assert (layer.running_mean.dtype, list(layer.running_var.values)) == ("float16", [1.0, 1.0])

    def test_metadata_is_used(self):
        layers = read(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).state_dict())
        assert [layer.name for layer in layers[0].layers] == ["0"]

    def test_what_is_no_tensor_is_passed_over(self):
        held = {
            **net().state_dict(),
            "epoch": 3,
            "nested": torch.nested.nested_tensor([torch.ones(2)]),
        }
        assert only(held).name == "1"

    def test_of_a_lazy_module(self):
        assert read(nn.Sequential(nn.LazyBatchNorm1d(), nn.BatchNorm1d(2)).state_dict())[0].layers


@pytest.mark.parametrize("target", [None, 3, object(), [1], torch.ones(2), {}, {"a": 1}])
def test_anything_else_is_no_model(target):
    with pytest.raises(NotAModel):
        read(target)


def test_an_onnx_model():
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    proto = onnx.helper.make_model(graph)
    (model,) = read(proto)
    assert (model.format, model.content) == ("onnx", "graph")


class TestBatchSizeOfInputs:
    """In training mode, the batch of the inputs is one to take statistics from."""

    @staticmethod
    def model(training: bool = True):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train(training)

    def test_training_mode(self):
        (model,) = read(self.model(), torch.zeros(2, 3, 9, 9))
        assert model.batch_size == BatchSize(2, "the inputs given", 49)

    def test_eval_mode_and_no_inputs(self):
        for found in (read(self.model(False), torch.zeros(2, 3, 9, 9)), read(self.model())):
            assert not found[0].knows(Model.batch_size)

    def test_one_value_a_channel(self):
        net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
        one = bncheck.check(net, inputs=torch.zeros(1, 3, 9, 9), profile="deploy")
        two = bncheck.check(net, inputs=torch.zeros(2, 3, 9, 9), profile="deploy")
        assert {f.rule for f in one.findings if f.level == "error"} >= {"BN301", "BN302"}
        assert not {f.rule for f in two.findings if f.level == "error"} & {"BN301", "BN302"}
