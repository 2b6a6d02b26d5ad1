"""Live modules: what tracing adds to what the modules say of themselves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pytest

import bncheck
from bncheck.errors import ConfigurationError
from bncheck.facts import Evidence, Unknown
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model, NormLayer
from bncheck.readers import build
from bncheck.readers.live_module import LiveModule
from bncheck.tensor import Tensor

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


def traced(module: Any, inputs: Any = None) -> Model:
    (model,) = bncheck.inspect(module, inputs=inputs)
    return model


def image(batch: int = 2) -> Any:
    return torch.randn(batch, 3, 8, 8)


def kinds(graph: Graph) -> list[str]:
    """The kinds of what works on data, without what does nothing."""
    nothing = (NodeKind.IDENTITY, NodeKind.SHAPE)
    on_data = (n for n in graph.nodes if any(map(graph.depends_on_input, n.inputs)))
    return [node.kind.value for node in on_data if node.kind not in nothing]


class Residual(nn.Module):  # type: ignore[misc]
    """A block as it is written everywhere, with activations in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8, momentum=0.03, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.2)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)

    def forward(self, x: Any) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        identity = out
        out = self.bn2(self.conv2(self.drop(out)))
        out += identity
        return self.relu(out)


BLOCK = ["conv", "batch-norm", "relu", "dropout", "conv", "batch-norm", "add", "relu"]


def test_the_graph_without_inputs() -> None:
    model = traced(Residual())
    graph = model.graph
    assert kinds(graph) == BLOCK
    assert (graph.complete, graph.inputs, graph.outputs) == (True, ("x",), ("relu_1",))
    assert Evidence.GRAPH in model.evidence
    assert (model.format, model.content) == ("module", "module")
    for layer in model.layers:
        (call,) = layer.calls
        before = graph.producer(call.inputs[0])
        assert before is not None
        assert (before.kind, before.name) == (NodeKind.CONV, layer.name.replace("bn", "conv"))
        assert call.parameters["running_var"].storage == layer.running_var.storage  # type: ignore[union-attr]


def test_a_sum_reads_what_was_made_in_place() -> None:
    graph = traced(Residual()).graph
    add = next(node for node in graph.nodes if node.kind is NodeKind.ADD)
    assert [graph.producer(value).op for value in add.inputs] == ["BatchNorm2d", "ReLU"]  # type: ignore[union-attr]


def test_inputs_give_shapes() -> None:
    x = image()
    for inputs in (x, (x,), [x], {"x": x}):
        graph = traced(Residual(), inputs).graph
        assert graph.shapes["bn1"] == (2, 8, 8, 8)
    assert traced(Residual()).graph.shapes["bn1"] == (None, 8, None, None)


def untraced(module: Any) -> Model:
    return build.from_module(LiveModule(module), build.Origin("module"))


@pytest.mark.parametrize("training", [False, True])
def test_facts_stay_those_of_the_module(training: bool) -> None:
    module = Residual().train(training)
    for theirs, ours in zip(traced(module).layers, untraced(module).layers, strict=True):
        assert (theirs.name, theirs.kind, theirs.class_path) == (
            ours.name,
            ours.kind,
            ours.class_path,
        )
        assert theirs.facts.keys() == ours.facts.keys()
        for name in theirs.facts.keys() - {"calls"}:
            mine, other = theirs.facts[name], ours.facts[name]
            if isinstance(mine, Tensor) and isinstance(other, Tensor):
                assert mine.storage == other.storage
            else:
                assert mine == other
        (call,) = theirs.calls
        assert call.attributes["training"] is training


def test_rules_that_need_a_graph_work_on_modules() -> None:
    module = Residual()
    with torch.no_grad():
        module(image(16))
    report = bncheck.check(module.eval(), select=["BN701"])
    found = {(finding.rule, finding.layer) for finding in report.findings}
    assert found == {("BN701", "bn1"), ("BN701", "bn2")}


class Reused(nn.Module):  # type: ignore[misc]
    """A layer that is called twice, and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.spare = nn.BatchNorm2d(3)

    def forward(self, x: Any) -> Any:
        return self.bn(torch.relu(self.bn(x)))


def test_calls_of_a_layer() -> None:
    bn, spare = traced(Reused()).layers
    assert [call.outputs for call in bn.calls] == [("bn",), ("bn_1",)]
    assert spare.calls == ()


class OwnForward(nn.BatchNorm2d):  # type: ignore[misc]
    """A subclass that does more than its base class, as timm's BatchNormAct2d."""

    def forward(self, x: Any) -> Any:
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, 1e-5
        )
        return F.relu(y)


class Plain(nn.BatchNorm2d):  # type: ignore[misc]
    """A subclass in name only."""


class Frozen(nn.Module):  # type: ignore[misc]
    """Like torchvision's FrozenBatchNorm2d."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Any) -> Any:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class InParts(nn.BatchNorm2d):  # type: ignore[misc]
    """A subclass whose forward is arithmetic."""

    def forward(self, x: Any) -> Any:
        return x * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (OwnForward(3), ["batch-norm", "relu"]),
        (Plain(3), ["batch-norm"]),
        (Frozen(3), ["batch-norm"]),
        (nn.SyncBatchNorm(3), ["batch-norm"]),
    ],
)
def test_layers_of_other_classes(layer: Any, expected: list[str]) -> None:
    model = traced(nn.Sequential(layer, nn.ReLU()).eval())
    assert kinds(model.graph) == [*expected, "relu"]
    (found,) = model.layers
    (call,) = found.calls
    assert (call.kind, call.attributes["training"]) == (NodeKind.BATCH_NORM, False)
    assert set(call.parameters) == {"weight", "bias", "running_mean", "running_var"}


def test_a_layer_that_is_no_one_call_says_so() -> None:
    (layer,) = traced(nn.Sequential(InParts(3), nn.ReLU())).layers
    assert layer.facts["calls"] == Unknown("order", "its class computes it in several operations")


def test_layers_within_what_is_not_looked_into() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2)
    model = traced(nn.Sequential(encoder, nn.LayerNorm(8)).eval())
    assert kinds(model.graph) == ["opaque", "layer-norm"]
    inner, _, last = model.layers
    assert isinstance(inner.facts["calls"], Unknown)
    assert inner.facts["calls"].why == "it runs inside 0, which was not looked into"
    assert len(last.calls) == 1


class Branching(nn.Module):  # type: ignore[misc]
    """Decides by the shape of its input: torch.fx gives up, torch.export does not."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Residual()

    def forward(self, x: Any) -> Any:
        return self.block(x * 2 if x.shape[0] > 1 else x)


class Deciding(Branching):
    """Decides by the values of its input: nothing can trace that."""

    def forward(self, x: Any) -> Any:
        y = self.block.bn1(self.block.conv1(x))
        if y.sum() > -1e9:
            y.mul_(2)
        return self.block.bn2(self.block.conv2(y))


def test_torch_export_where_torch_fx_fails() -> None:
    model = traced(Branching().eval(), image())
    assert kinds(model.graph) == ["mul", *BLOCK]
    assert [len(layer.calls) for layer in model.layers] == [1, 1]
    assert traced(Branching().eval()).facts["graph"] == Unknown(
        "graph",
        "could not be traced: "
        "symbolically traced variables cannot be used as inputs to control flow",
        "give inputs: bncheck.check(model, inputs=...)",
    )


def test_hooks_where_nothing_can_trace() -> None:
    model = traced(Deciding().eval(), image())
    assert isinstance(model.facts["graph"], Unknown)
    order = model.order
    assert not order.complete
    assert [node.name for node in order.nodes] == [
        "block.conv1",
        "block.bn1",
        "block.conv2",
        "block.bn2",
    ]
    conv1, bn1, conv2, bn2 = order.nodes
    assert bn1.inputs == conv1.outputs
    assert bn2.inputs == conv2.outputs
    assert conv2.inputs != bn1.outputs  # something happened to it in between
    assert all(
        order.uses(node.outputs[0]) > len(order.consumers(node.outputs[0])) for node in order.nodes
    )
    assert [len(layer.calls) for layer in model.layers] == [1, 1]


class Raising(nn.Module):  # type: ignore[misc]
    """Cannot be traced, nor run."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Any) -> Any:
        raise RuntimeError("not today. And not tomorrow.\nNever.")


@pytest.mark.parametrize("inputs", [None, image()])
def test_a_module_that_cannot_be_traced_is_a_reason_and_no_error(inputs: Any) -> None:
    model = traced(Raising(), inputs)
    graph = model.facts["graph"]
    assert isinstance(graph, Unknown)
    assert graph.why == "could not be traced: not today"
    (layer,) = model.layers
    assert len(layer.calls) == 1  # what the Sequential proves
    assert Evidence.GRAPH not in model.evidence


@pytest.mark.parametrize("inputs", [(image(), image()), {"y": image()}])
def test_inputs_that_do_not_fit(inputs: Any) -> None:
    graph = traced(Residual(), inputs).facts["graph"]
    assert isinstance(graph, Unknown)
    assert graph.why.startswith("could not be traced: the inputs do not fit")


def test_inputs_are_for_modules(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="inputs are for"):
        bncheck.check(tmp_path / "model.onnx", inputs=image())
    with pytest.raises(ConfigurationError, match="inputs are for"):
        bncheck.inspect(nn.BatchNorm2d(3).state_dict(), inputs=image())


class Optional(nn.Module):  # type: ignore[misc]
    """Takes more than it needs."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Any, mask: Any = None, scale: float = 2.0, *, deep: bool = False) -> Any:
        if mask is not None:
            x = x * mask
        y = self.bn(x)
        return torch.sin(y) if deep else y * scale


@pytest.mark.parametrize(
    ("inputs", "expected", "names"),
    [
        (None, ["batch-norm", "mul"], ("x",)),
        ((image(),), ["batch-norm", "mul"], ("x",)),
        ((image(), image()), ["mul", "batch-norm", "mul"], ("x", "mask")),
        ({"x": image(), "deep": True}, ["batch-norm", "activation"], ("x",)),
    ],
)
def test_arguments_that_are_no_tensors_are_taken_as_they_are(
    inputs: Any, expected: list[str], names: tuple[str, ...]
) -> None:
    graph = traced(Optional(), inputs).graph
    assert (kinds(graph), graph.inputs) == (expected, names)
    assert ("bn" in graph.shapes) is (inputs is not None)


def test_a_module_that_is_one_layer() -> None:
    model = traced(nn.BatchNorm2d(3))
    assert kinds(model.graph) == ["batch-norm"]
    (layer,) = model.layers
    assert layer.calls == model.graph.nodes


class Listed(nn.Module):  # type: ignore[misc]
    """Takes a list and a dictionary of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, xs: Any, named: Any) -> Any:
        return self.bn(xs[0] + named["y"])


def test_inputs_within_lists_and_dictionaries() -> None:
    graph = traced(Listed(), ([image()], {"y": image()})).graph
    assert kinds(graph)[-2:] == ["add", "batch-norm"]


def test_hooks_are_not_run_and_hide_what_they_may_change() -> None:
    seen: list[Any] = []
    module = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)), nn.ReLU())
    module[0].register_forward_hook(lambda m, i, o: seen.append(o))
    model = traced(module, image())
    assert not seen
    assert kinds(model.graph) == ["opaque", "relu"]


def test_a_forward_of_the_object_is_not_that_of_its_class() -> None:
    module = Residual()
    module.forward = lambda x: x
    graph = traced(module, image()).facts["graph"]
    assert isinstance(graph, Unknown)
    assert graph.why == "could not be traced: its forward is not that of its class"


def test_a_weight_that_is_computed_is_unknown() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))
    (node,) = traced(nn.Sequential(conv)).graph.nodes
    assert node.kind is NodeKind.CONV
    assert isinstance(node.parameters["weight"], Unknown)
    old = nn.utils.spectral_norm(nn.Conv2d(3, 4, 1))
    assert kinds(traced(nn.Sequential(old)).graph) == ["opaque"]


def test_weight_standardization_is_on_no_data() -> None:
    class Standardized(nn.Conv2d):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            flat = self.weight.reshape(1, self.out_channels, -1)
            weight = F.batch_norm(flat, None, None, training=True, momentum=0.0)
            return F.conv2d(x, weight.reshape_as(self.weight), self.bias)

    model = traced(nn.Sequential(Standardized(3, 4, 1)).eval())
    assert kinds(model.graph) == ["conv"]
    assert not bncheck.check(nn.Sequential(Standardized(3, 4, 1)).eval()).findings


class Functional(nn.Module):  # type: ignore[misc]
    """Normalizes without a layer: by buffers of its own, and by none at all."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean_of_images", torch.zeros(3))
        self.register_buffer("running_var_of_images", torch.ones(3))
        self.layer_norm = nn.LayerNorm(8)

    def forward(self, x: Any) -> Any:
        y = F.batch_norm(x, self.running_mean_of_images, self.running_var_of_images)
        return self.layer_norm(F.layer_norm(F.batch_norm(y, None, None, training=True), (8,)))


def test_functions_that_normalize_are_layers_too() -> None:
    module = Functional().eval()
    live, exported = traced(module), traced(torch.export.export(module, (image(),)))
    for model in (live, exported):
        kinds_of = {layer.name: layer.kind for layer in model.layers}
        assert sorted(map(str, kinds_of.values())) == ["batch", "batch", "layer", "layer"]
        assert {layer.name for layer in model.batch_norms} == {"batch_norm", "batch_norm_1"}
    assert live.layers[0].name == "layer_norm"  # the module that there is, before the functions
    first, second = live.batch_norms
    assert (first.has_running_stats, second.has_running_stats) == (True, False)
    assert {(f.rule, f.layer) for f in bncheck.check(module).findings if f.level == "error"} == {
        ("BN104", "batch_norm_1")
    }


def test_modules_that_torch_export_makes() -> None:
    made = torch.export.export(Residual().eval(), (image(),)).module()
    model = traced(made)
    assert [k for k in kinds(model.graph) if k != "opaque"] == BLOCK
    assert {layer.name for layer in model.layers} == {"bn1", "bn2"}


def test_nothing_is_printed_and_no_warning_is_left(capfd: Any, recwarn: Any) -> None:
    class Loud(Residual):
        def forward(self, x: Any) -> Any:
            print("loud")
            warnings.warn("louder", stacklevel=1)
            if x.sum() > 0:
                return super().forward(x)
            return super().forward(-x)

    traced(Loud(), image())
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def names_of(layers: tuple[NormLayer, ...]) -> Mapping[str, tuple[Node, ...]]:
    return {layer.name: layer.calls for layer in layers}


def test_shared_and_nested_modules_have_the_names_of_the_tree() -> None:
    bn = nn.BatchNorm2d(3)
    module = nn.Sequential(nn.Sequential(bn), nn.Sequential(bn, nn.ReLU()))
    calls = names_of(traced(module).layers)
    assert list(calls) == ["0.0"]
    assert [node.name for node in calls["0.0"]] == ["0.0", "0.0"]
