"""How a forward is written makes no difference: torch.fx and torch.export give the same graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import bncheck
from bncheck.graph import Graph, NodeKind

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


class Forward(nn.Module):  # type: ignore[misc]
    """A function as a module, with some layers at hand."""

    def __init__(self, function: Callable[..., Any], *layers: Any) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)
        self.conv, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 8)
        self.bn = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def kinds(graph: Graph) -> list[str]:
    """The kinds of what works on data, without what does nothing at inference."""
    found = []
    for node in graph.nodes:
        idle = node.kind is NodeKind.DROPOUT and not node.attributes.get("training")
        if any(map(graph.depends_on_input, node.inputs)) and not idle:
            found.append(node.kind.value)
    return [kind for kind in found if kind not in ("identity", "shape")]


FORWARDS: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("add relu", lambda m, x: torch.relu(x + x)),
    ("add", lambda m, x: x + 1),
    ("add", lambda m, x: 1 - x),
    ("add", lambda m, x: x.sub(m.scale)),
    ("add", lambda m, x: torch.add(x, m.scale, alpha=2)),
    ("mul", lambda m, x: x / 2),
    ("mul", lambda m, x: torch.div(m.scale, x)),
    ("mul", lambda m, x: x.mul_(m.scale)),
    ("matmul", lambda m, x: x @ x),
    ("linear", lambda m, x: x @ m.fc.weight),
    ("linear", lambda m, x: F.linear(x, m.fc.weight, m.fc.bias)),
    ("conv", lambda m, x: F.conv2d(x, m.conv.weight, None, 1, 1)),
    ("conv", lambda m, x: torch.conv2d(x, m.conv.weight, bias=m.conv.bias, padding="same")),
    ("relu", lambda m, x: F.relu(x, inplace=True)),
    ("relu", lambda m, x: F.relu_(x)),
    ("relu", lambda m, x: x.relu()),
    ("activation", lambda m, x: F.relu6(x)),
    ("activation", lambda m, x: F.gelu(x)),
    ("activation", lambda m, x: F.silu(x)),
    ("activation", lambda m, x: F.leaky_relu(x, 0.2)),
    ("activation", lambda m, x: x.clamp(min=0, max=6)),
    ("activation", lambda m, x: torch.tanh(x)),
    ("activation", lambda m, x: x**2),
    ("activation activation mul", lambda m, x: x * torch.sigmoid(-x)),
    ("opaque", lambda m, x: F.softmax(x, dim=1)),
    ("", lambda m, x: F.dropout(x, 0.5, training=m.training)),
    ("", lambda m, x: F.dropout2d(x, 0.5, m.training)),
    ("dropout", lambda m, x: F.dropout(x, 0.5)),
    ("max-pool", lambda m, x: F.max_pool2d(x, 2, stride=1)),
    ("average-pool", lambda m, x: F.avg_pool2d(x, kernel_size=2)),
    ("average-pool", lambda m, x: F.adaptive_avg_pool2d(x, 1)),
    ("average-pool", lambda m, x: x.mean((2, 3))),
    ("average-pool", lambda m, x: torch.mean(x, dim=[2, 3], keepdim=True)),
    ("average-pool", lambda m, x: x.mean(dim=(-1, -2))),
    ("opaque", lambda m, x: x.mean(1)),
    ("resize", lambda m, x: F.interpolate(x, scale_factor=2)),
    ("resize", lambda m, x: F.interpolate(x, size=(4, 4), mode="bilinear")),
    ("pad", lambda m, x: F.pad(x, (1, 1, 1, 1))),
    ("pad", lambda m, x: F.pad(x, (1, 1, 1, 1), mode="reflect")),
    ("concat", lambda m, x: torch.cat([x, x], dim=1)),
    ("concat", lambda m, x: torch.cat((x, m.scale.expand(2, 4, 8, 8)), 1)),
    ("split mul", lambda m, x: (lambda a, b: a * b)(*x.chunk(2, 1))),
    ("split relu", lambda m, x: torch.relu(x.split([1, 3], 1)[1])),
    ("split", lambda m, x: x[:, 0]),
    ("split split", lambda m, x: x[:, 1:, ::2]),
    ("split", lambda m, x: x[..., 0]),
    ("reshape", lambda m, x: x[:, None]),
    ("split reshape", lambda m, x: x[0, ..., None]),
    ("split", lambda m, x: x.narrow(1, 0, 2)),
    ("reshape", lambda m, x: torch.flatten(x, 1)),
    ("reshape", lambda m, x: x.view(x.size(0), -1)),
    ("reshape", lambda m, x: x.reshape(x.shape[0], 2, 2, 8, 8)),
    ("reshape reshape", lambda m, x: x.view([2, 4, 64]).permute(0, 2, 1)),
    ("reshape", lambda m, x: x.transpose(1, 2).contiguous()),
    ("reshape", lambda m, x: x.unsqueeze(1).detach()),
    ("reshape", lambda m, x: x.swapaxes(1, 2)),
    ("reshape", lambda m, x: F.pixel_shuffle(x, 2)),
    ("", lambda m, x: x.contiguous().clone()),
    ("", lambda m, x: x.double().to(torch.float32)),
    ("", lambda m, x: x.type_as(m.scale)),
    ("activation", lambda m, x: x.to(torch.int64)),
    ("batch-norm", lambda m, x: F.batch_norm(x, m.bn.running_mean, m.bn.running_var, m.bn.weight)),
    ("batch-norm", lambda m, x: F.batch_norm(x, None, None, training=True)),
    ("instance-norm", lambda m, x: F.instance_norm(x)),
    ("group-norm", lambda m, x: F.group_norm(x, 2, eps=1e-3)),
    ("layer-norm", lambda m, x: F.layer_norm(x, (8,), m.fc.bias)),
    ("rms-norm", lambda m, x: F.rms_norm(x, [8])),
    ("opaque", lambda m, x: torch.cumsum(x, 1)),
    ("conv add relu", lambda m, x: (x + m.conv(x)).relu_()),
]


def same(forward: Any, *layers: Any) -> tuple[list[str], list[str]]:
    """The kinds that torch.fx and torch.export find."""
    module = Forward(forward, *layers).eval()
    x = torch.randn(2, 4, 8, 8)
    (live,) = bncheck.inspect(module, inputs=x)
    (exported,) = bncheck.inspect(torch.export.export(module, (x,)))
    return kinds(live.graph), kinds(exported.graph)


@pytest.mark.parametrize(("expected", "forward"), FORWARDS)
def test_functions_and_methods(expected: str, forward: Any) -> None:
    live, exported = same(forward)
    assert live == exported
    assert sorted(live) == sorted(expected.split())


def test_a_part_of_a_list_is_no_part_of_a_tensor() -> None:
    live, _ = same(lambda m, x: torch.cat(torch.split(x, 2, dim=1)[::-1], 1))
    assert live == ["split", "opaque", "concat"]


LAYERS: list[tuple[str, Any]] = [
    ("conv", nn.Conv2d(4, 6, 3, stride=2, groups=2)),
    ("pad conv", nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")),
    ("conv-transpose", nn.ConvTranspose2d(4, 6, 2, stride=2)),
    ("linear", nn.Linear(8, 3)),
    ("", nn.Identity()),
    ("batch-norm", nn.BatchNorm2d(4)),
    ("batch-norm", nn.BatchNorm2d(4, track_running_stats=False)),
    ("instance-norm", nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
    ("group-norm", nn.GroupNorm(2, 4)),
    ("layer-norm", nn.LayerNorm((4, 8, 8))),
    ("rms-norm", nn.RMSNorm(8)),
    ("relu", nn.ReLU(inplace=True)),
    *(("activation", each) for each in (nn.ReLU6(), nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.Tanh())),
    *(("activation", each) for each in (nn.LeakyReLU(), nn.Hardswish(), nn.ELU(), nn.Mish())),
    *(
        ("activation", each)
        for each in (nn.PReLU(4), nn.Softplus(), nn.Hardtanh(), nn.Hardsigmoid())
    ),
    ("opaque", nn.Softmax(1)),
    ("", nn.Dropout()),
    ("", nn.Dropout2d()),
    ("max-pool", nn.MaxPool2d(3, 2, 1)),
    ("average-pool", nn.AvgPool2d(2, count_include_pad=False)),
    ("average-pool", nn.AdaptiveAvgPool2d(1)),
    ("resize", nn.Upsample(scale_factor=2, mode="bilinear")),
    ("resize", nn.UpsamplingNearest2d(scale_factor=2)),
    ("pad", nn.ZeroPad2d(1)),
    ("pad", nn.ReflectionPad2d((1, 2, 1, 2))),
    ("pad", nn.ConstantPad2d(1, 2.0)),
    ("reshape", nn.Flatten()),
    ("reshape", nn.Unflatten(1, (2, 2))),
    ("reshape", nn.PixelShuffle(2)),
    ("reshape", nn.PixelUnshuffle(2)),
]
COMPARED = {
    "groups", "padding", "kernel_size", "stride", "dilation", "output_padding", "eps", "momentum",
    "training", "num_groups", "axis", "axes", "output_size", "ceil_mode", "count_include_pad",
    "mode", "value", "block_size", "use_input_stats", "transB",
}  # fmt: skip


@pytest.mark.parametrize(("expected", "layer"), LAYERS, ids=lambda each: str(each))
def test_layers_of_torch_nn(expected: str, layer: Any) -> None:
    live, exported = same(lambda m, x: m.layers[0](x), layer)
    assert live == exported == expected.split()


@pytest.mark.parametrize(("expected", "layer"), LAYERS, ids=lambda each: str(each))
def test_attributes_and_parameters_of_layers(expected: str, layer: Any) -> None:
    module = nn.Sequential(layer).eval()
    x = torch.randn(2, 4, 8, 8)
    ours = bncheck.inspect(module, inputs=x)[0].graph.nodes
    theirs = bncheck.inspect(torch.export.export(module, (x,)))[0].graph.nodes
    for mine, other in zip(ours, theirs, strict=bool(expected)):
        assert mine.kind == other.kind
        assert mine.parameters.keys() == other.parameters.keys()
        for role, tensor in mine.parameters.items():
            assert [*tensor.values] == [*other.parameters[role].values]  # type: ignore[union-attr]
        both = COMPARED & mine.attributes.keys() & other.attributes.keys()
        assert {n: mine.attributes[n] for n in both} == {n: other.attributes[n] for n in both}
        assert COMPARED & mine.attributes.keys() == COMPARED & other.attributes.keys()
