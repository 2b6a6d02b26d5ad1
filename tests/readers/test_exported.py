"""Exported programs: real ones, as .pt2 files and as live objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bncheck
from bncheck.facts import Unknown
from bncheck.graph import NodeKind
from bncheck.model import BatchSize, Model
from bncheck.tensor import Tensor

torch = pytest.importorskip("torch")
nn = torch.nn

Export = Callable[..., Model]


@pytest.fixture(params=["file", "decomposed file", "live", "decomposed live"])
def export(request: Any, tmp_path: Path) -> Export:
    """Exports a module and reads the program, in each of the ways that people do."""

    def exported(module: Any, *inputs: Any, training: bool = False, **more: Any) -> Model:
        torch.manual_seed(0)
        program = torch.export.export(module.train(training), inputs, **more)
        if "decomposed" in request.param:
            program = program.run_decompositions()
        if "live" in request.param:
            return bncheck.inspect(program)[0]
        torch.export.save(program, tmp_path / "model.pt2")
        return bncheck.inspect(tmp_path / "model.pt2")[0]

    return exported


def image(batch: int = 2, channels: int = 3) -> Any:
    return torch.randn(batch, channels, 8, 8)


class Residual(nn.Module):  # type: ignore[misc]
    """Every kind of layer, in a residual block and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8, eps=1e-3, momentum=0.03)
        self.drop = nn.Dropout(0.2)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.bn2 = nn.BatchNorm2d(8)
        self.norm = nn.GroupNorm(2, 8)
        self.fc = nn.Linear(8, 4)
        self.last = nn.LayerNorm(4)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.bn1(self.conv1(x)))
        z = self.bn2(self.conv2(self.drop(y)))
        z += y
        return self.last(self.fc(self.norm(z).mean((2, 3))))


def facts_of(model: Model) -> dict[str, dict[str, Any]]:
    """What is known of each layer, tensors by their elements."""
    return {
        layer.name: {
            name: [*value.values] if isinstance(value, Tensor) else value
            for name, value in layer.facts.items()
            if not isinstance(value, Unknown) and name != "calls"
        }
        for layer in model.layers
    }


@pytest.mark.parametrize("training", [False, True])
def test_facts_are_those_of_the_module(export: Export, training: bool) -> None:
    module = Residual()
    for bn in (module.bn1, module.bn2):
        nn.init.uniform_(bn.running_var, 1, 2)
        nn.init.normal_(bn.weight)
    theirs = export(module, image(), training=training)
    ours = facts_of(bncheck.inspect(module)[0])
    known = facts_of(theirs)
    assert known.keys() == ours.keys() == {"bn1", "bn2", "norm", "last"}
    for name, facts in known.items():
        common = facts.keys() & ours[name].keys()
        assert {"eps", "weight", "bias", "affine", "requires_grad"} <= common
        assert {each: facts[each] for each in common} == {n: ours[name][n] for n in common}
    assert {"training", "momentum", "running_var", "num_batches_tracked"} <= known["bn1"].keys()
    assert [layer.kind for layer in theirs.layers] == ["batch", "batch", "group", "layer"]
    assert theirs.layers[0].class_path == "torch.nn.modules.batchnorm.BatchNorm2d"


def test_the_graph_shows_the_neighbours(export: Export) -> None:
    model = export(Residual(), image())
    graph = model.graph
    chain = [node.kind for node in graph.nodes]
    assert chain.count(NodeKind.CONV) == chain.count(NodeKind.BATCH_NORM) == 2
    first, second = (layer.calls[0] for layer in model.layers[:2])
    before = graph.producer(first.inputs[0])
    assert before is not None
    assert (before.kind, before.name) == (NodeKind.CONV, "conv1")
    assert before.attributes["kernel_size"] == (3, 3)
    (after,) = graph.consumers(second.outputs[0])
    assert after.kind is NodeKind.ADD
    assert [graph.producer(value).kind for value in after.inputs] == ["batch-norm", "relu"]  # type: ignore[union-attr]
    assert graph.shapes[first.outputs[0]] == (2, 8, 8, 8)
    assert graph.inputs == ("x",)
    assert len(graph.outputs) == 1


def test_what_the_model_says_of_itself(export: Export) -> None:
    model = export(Residual(), image())
    assert (model.format, model.content, model.member) == ("torch-export", "graph", None)
    assert model.evidence == {"tensors", "graph"}
    assert model.statistics_gone is None
    assert model.holds.startswith(("2 aten.", "1 aten."))


def test_rules_on_a_healthy_program_find_nothing_wrong() -> None:
    module = Residual()
    with torch.no_grad():
        for _ in range(200):  # until the initial statistics are forgotten
            module(image(16))
    program = torch.export.export(module.eval(), (image(),))
    report = bncheck.check(program)
    assert "BN701" in {finding.rule for finding in report.findings}
    assert {finding.level for finding in report.findings} == {"info"}


def test_rules_on_a_program_in_training_mode() -> None:
    program = torch.export.export(Residual().train(), (image(2),))
    found = {(f.rule, f.layer) for f in bncheck.check(program).findings if f.level != "info"}
    assert found == {("BN101", "bn1"), ("BN101", "bn2"), ("BN102", None), ("BN301", None)}


def test_rules_on_batch_norm_without_statistics() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.InstanceNorm2d(3))
    program = torch.export.export(module.eval(), (image(),))
    for each in (program, program.run_decompositions()):
        found = {(f.rule, f.layer) for f in bncheck.check(each).findings if f.level != "info"}
        assert found == {("BN104", "0")}


def test_the_batch_of_a_training_graph(export: Export) -> None:
    model = export(Residual(), image(2), training=True)
    assert model.batch_size == BatchSize(2, "static batch of the training graph", 64)


def test_a_batch_that_may_be_any_is_not_known(export: Export) -> None:
    batch = torch.export.Dim("batch", min=2)
    model = export(Residual(), image(), training=True, dynamic_shapes=({0: batch},))
    assert isinstance(model.facts["batch_size"], Unknown)
    assert model.graph.shapes["x"] == (None, 3, 8, 8)


class Lone(nn.Module):  # type: ignore[misc]
    """One layer behind a convolution."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(self.conv(x))


def test_batch_norm_without_statistics(export: Export) -> None:
    model = export(Lone(nn.BatchNorm2d(4, track_running_stats=False)), image())
    (layer,) = model.layers
    assert (layer.name, layer.kind, layer.has_running_stats) == ("layer", "batch", False)
    assert (layer.running_mean, layer.num_features) == (None, 4)
    assert isinstance(model.facts["batch_size"], Unknown)  # the batch at inference, not training's


def test_batch_norm_without_affine(export: Export) -> None:
    (layer,) = export(Lone(nn.BatchNorm2d(4, affine=False)), image()).layers
    assert (layer.affine, layer.weight, layer.requires_grad) == (False, None, False)


def test_a_cumulative_average_is_not_taken_for_a_momentum_of_zero(export: Export) -> None:
    (layer,) = export(Lone(nn.BatchNorm2d(4, momentum=None)), image()).layers
    assert isinstance(layer.facts["momentum"], Unknown)
    (layer,) = export(Lone(nn.BatchNorm2d(4, momentum=0.0)), image(), training=True).layers
    assert layer.momentum == 0.0


@pytest.mark.parametrize("affine", [False, True])
def test_a_healthy_instance_norm_is_no_finding(export: Export, affine: bool) -> None:
    model = export(Lone(nn.InstanceNorm2d(4, affine=affine)), image())
    (layer,) = model.layers
    assert (layer.name, layer.kind) == ("layer", "instance")
    assert layer.class_path == "torch.nn.modules.instancenorm.InstanceNorm2d"
    assert not model.batch_norms
    assert model.statistics_gone is not None


class Standardized(nn.Conv2d):  # type: ignore[misc]
    """Weight standardization, as timm's ScaledStdConv2d does it."""

    def forward(self, x: Any) -> Any:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = nn.functional.batch_norm(flat, None, None, training=True, momentum=0.0)
        return nn.functional.conv2d(x, weight.reshape_as(self.weight), self.bias)


def test_weight_standardization_is_no_layer(export: Export) -> None:
    model = export(nn.Sequential(Standardized(3, 4, 1), nn.ReLU()), image())
    assert model.layers == ()
    conv = next(node for node in model.graph.nodes if node.kind is NodeKind.CONV)
    assert isinstance(conv.parameters["weight"], Unknown)
    assert model.graph.producer(conv.inputs[1]) is not None


class Shared(nn.Module):  # type: ignore[misc]
    """One BatchNorm at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Any) -> Any:
        return self.bn(self.conv(self.bn(x)))


@pytest.mark.parametrize("training", [False, True])
def test_a_layer_that_is_called_twice_is_one_layer(export: Export, training: bool) -> None:
    model = export(Shared(), image(), training=training)
    (layer,) = model.layers
    assert (layer.name, len(layer.calls), layer.has_running_stats) == ("bn", 2, True)
    assert isinstance(layer.running_mean, Tensor)


class Guarded(nn.Module):  # type: ignore[misc]
    """Layers inside control flow: gradients switched off, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(3)
        self.bn2 = nn.BatchNorm2d(3)

    def forward(self, x: Any) -> Any:
        with torch.no_grad():
            y = self.bn1(x)
        return torch.cond(x.sum() > 0, self.bn2, torch.sin, (y,))


def test_bodies_of_control_flow_are_part_of_the_graph(export: Export) -> None:
    model = export(Guarded(), image())
    assert [layer.name for layer in model.layers] == ["bn1", "bn2"]
    first, second = (layer.calls[0] for layer in model.layers)
    assert second.inputs[0] == first.outputs[0]
    (end,) = model.graph.outputs
    decision = model.graph.producer(end)
    assert decision is not None
    assert (decision.kind, decision.op) == (NodeKind.OPAQUE, "higher_order.cond")
    assert second.outputs[0] in decision.inputs


def test_parts_of_a_split_are_outputs_of_one_node(export: Export) -> None:
    class Halves(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            left, right = x.chunk(2, dim=1)
            return left * right

    nodes = export(Halves(), image(2, 4)).graph.nodes
    assert [node.kind for node in nodes] == ["split", "mul"]
    assert nodes[0].outputs == nodes[1].inputs


def test_the_decomposed_linear_keeps_its_weight(export: Export) -> None:
    linear = nn.Linear(8, 4)
    (node,) = export(linear, torch.randn(2, 8)).graph.nodes
    weight = node.parameters["weight"]
    assert isinstance(weight, Tensor)
    assert (node.kind, weight.shape, node.attributes["transB"]) == (NodeKind.LINEAR, (4, 8), True)
    assert [*weight.values] == linear.weight.flatten().tolist()


def test_half_precision_and_frozen_parameters(export: Export) -> None:
    module = Lone(nn.BatchNorm2d(4)).requires_grad_(False).to(torch.bfloat16)
    (layer,) = export(module, image().to(torch.bfloat16)).layers
    assert (layer.requires_grad, layer.weight and layer.weight.dtype) == (False, "bfloat16")


def test_several_programs_are_members(tmp_path: Path) -> None:
    package = pytest.importorskip("torch.export.pt2_archive._package")
    programs = {n: torch.export.export(Shared().eval(), (image(),)) for n in ("student", "ema")}
    package.package_pt2(str(tmp_path / "two.pt2"), exported_programs=programs)
    models = bncheck.inspect(tmp_path / "two.pt2")
    assert sorted(str(model.member) for model in models) == ["ema", "student"]
    assert all(len(model.layers) == 1 for model in models)


def test_tied_and_strided_tensors_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    class Tied(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            both = torch.arange(16.0).reshape(4, 4)
            self.register_buffer("mean", both[:, 1])
            self.register_buffer("var", both.t()[2])

        def forward(self, x: Any) -> Any:
            return nn.functional.batch_norm(x, self.mean, self.var)

    module = Tied()
    torch.export.save(torch.export.export(module, (image(2, 4),)), tmp_path / "model.pt2")
    (layer,) = bncheck.inspect(tmp_path / "model.pt2")[0].layers
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert [*layer.running_mean.values] == module.mean.tolist()
    assert [*layer.running_var.values] == module.var.tolist()
    assert layer.running_mean.storage == layer.running_var.storage
