"""Archives that torch itself writes, against what torch itself says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # tracing, and TorchScript itself, warn

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from bncheck.facts import Unknown  # noqa: E402
from bncheck.graph import Graph, NodeKind  # noqa: E402
from bncheck.model import Model, NormLayer  # noqa: E402
from bncheck.readers import read  # noqa: E402
from bncheck.tensor import Tensor  # noqa: E402

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.drop(self.bn(self.conv(x)))
        out += x
        return self.relu(out)


class Residual(nn.Module):
    """Mangled duplicates of one class, an addition in place, a head without a mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, 4)
        self.norm = nn.BatchNorm1d(4, momentum=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1)
        return self.norm(self.head(x))


class Kinds(nn.Module):
    """One normalization layer of every kind, with and without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.instance = nn.InstanceNorm2d(4, affine=True)
        self.tracked = nn.InstanceNorm2d(4, track_running_stats=True)
        self.group = nn.GroupNorm(2, 4, eps=1e-4)
        self.layer = nn.LayerNorm(4, elementwise_affine=False)
        self.plain = nn.BatchNorm2d(4, affine=False)
        self.response = nn.LocalResponseNorm(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.plain(self.group(self.tracked(self.instance(self.conv(x)))))
        return self.response(self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class Shared(nn.Module):
    """One BatchNorm that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.second(self.bn(self.first(x))))


class Dense(nn.Module):
    """A list that grows, a split, and a join."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3 * (i + 1), 3, 1) for i in range(3)])
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        left, right = torch.cat(features, 1).chunk(2, 1)
        return functional.relu(self.bn(left)) * right


class Functional(nn.Module):
    """A BatchNorm that is no module of its own, and one of statistics of the batch alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.weight = nn.Parameter(torch.ones(3))
        self.bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("running_mean", torch.zeros(3))
        self.register_buffer("running_var", torch.ones(3))
        self.untracked = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, var = self.running_mean, self.running_var
        x = functional.batch_norm(
            self.conv(x), mean, var, self.weight, self.bias, self.training, 0.2, 1e-4
        )
        return self.untracked(x)


class StandardizedConv2d(nn.Conv2d):
    """As in NFNet: the weight is normalized by a batch norm in training mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(flat, None, None, training=True, momentum=0.0)
        return functional.conv2d(x, weight.reshape(self.weight.shape), self.bias)


class Standardized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = StandardizedConv2d(3, 6, 3)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class Outputs(NamedTuple):
    logits: torch.Tensor
    aux: torch.Tensor


class Recurrent(nn.Module):
    """Operators that bncheck has no name for, numbers from shapes, a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> Outputs:
        hidden, _ = self.lstm(x)
        hidden = self.norm(hidden)
        return Outputs(hidden.reshape(x.shape[0], -1), hidden.mean(1))


IMAGE = (2, 3, 16, 16)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, IMAGE),
    "kinds": (Kinds, IMAGE),
    "shared": (Shared, IMAGE),
    "dense": (Dense, IMAGE),
    "functional": (Functional, IMAGE),
    "standardized": (Standardized, IMAGE),
    "recurrent": (Recurrent, (2, 5, 8)),
}
ARCHITECTURES = ["resnet18", "preresnet18", "mobilenet_w1", "ibn_resnet50", "shufflenetv2_w1"]


def trained(net: nn.Module) -> nn.Module:
    """A net whose tensors tell each other apart."""
    torch.manual_seed(0)
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand_like(tensor) + 0.5)
    return net


def traced(net: nn.Module, shape: tuple[int, ...]) -> Any:
    return torch.jit.trace(net, torch.rand(shape), check_trace=False, strict=False)


def scripted(net: nn.Module, shape: tuple[int, ...]) -> Any:
    return torch.jit.script(net)


def saved(script: Any, folder: Path) -> Path:
    path = folder / "net.pt"
    script.save(str(path))
    return path


@pytest.fixture(params=["train", "eval"])
def mode(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "train")


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("how", [traced, scripted])
def test_layers_are_those_of_the_modules(
    name: str, how: Callable[..., Any], mode: bool, tmp_path: Path
) -> None:
    make, shape = NETS[name]
    net = trained(make()).train(mode)
    path = saved(how(net, shape), tmp_path)
    (model,) = read(path)
    norms = norms_of(net)
    assert [layer.name for layer in model.layers] == [*norms]
    for layer in model.layers:
        assert_tensors_are_those_of(layer, norms[layer.name])
        assert_flags_are_those_of(layer, norms[layer.name], how is scripted)


def norms_of(net: nn.Module) -> dict[str, nn.Module]:
    """The normalization layers by name, with those that hold the statistics of a function."""
    named = net.named_modules()
    return {n: m for n, m in named if isinstance(m, NORMS) or hasattr(m, "running_mean")}


def assert_tensors_are_those_of(layer: NormLayer, module: nn.Module) -> None:
    for role in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        theirs = getattr(module, role, None)
        ours = layer.facts.get(role)
        if theirs is None:
            assert ours is None or isinstance(ours, Unknown)
        else:
            assert isinstance(ours, Tensor)
            assert tuple(theirs.shape) == ours.shape
            assert theirs.flatten().tolist() == pytest.approx([*ours.values])


def assert_flags_are_those_of(layer: NormLayer, module: nn.Module, is_scripted: bool) -> None:
    eps = getattr(module, "eps", None)
    if eps is not None:
        assert layer.eps == eps
    if layer.is_batch_norm and hasattr(module, "momentum"):
        untracked = module.running_mean is None
        assert layer.training == (module.training or (untracked and not is_scripted))
        assert layer.has_running_stats is not untracked
        assert layer.affine is (module.weight is not None)
        if is_scripted:
            assert layer.momentum == module.momentum
        elif module.momentum is not None:
            assert layer.momentum == pytest.approx(module.momentum)


@pytest.mark.parametrize("name", NETS)
def test_what_can_be_repaired_is_a_module_and_all_else_a_graph(name: str, tmp_path: Path) -> None:
    make, shape = NETS[name]
    net = make().eval()
    frozen = torch.jit.freeze(torch.jit.script(net))
    scripts = {"module": scripted(net, shape), "graph": traced(net, shape), "frozen": frozen}
    models = {kind: read(saved(script, tmp_path))[0] for kind, script in scripts.items()}
    assert [m.content for m in models.values()] == ["module", "graph", "graph"]
    assert all(isinstance(model.facts["graph"], Graph) for model in models.values())
    assert all(model.format == "torchscript" for model in models.values())


# A graph in torch's own words, which has numbers and containers beside the tensors.
NUMBERS = {"size", "Int", "NumToTensor", "dim", "len", "ScalarImplicit", "floor_divide", "mul_"}


def edges_of_torch(path: Path) -> list[tuple[str, set[int | str]]]:
    """The operators of a straight graph on tensors, each with the indices of what it reads."""
    graph = torch.jit.load(str(path)).inlined_graph
    made: dict[str, Any] = {value.debugName(): "input" for value in graph.inputs()}
    found: list[tuple[str, set[int | str]]] = []
    for node in graph.nodes():
        name = node.kind().partition("::")[2]
        inputs = [made.get(value.debugName()) for value in node.inputs()]
        outputs = [value.debugName() for value in node.outputs()]
        if node.kind() in ("prim::ListConstruct", "prim::TupleConstruct"):
            made[outputs[0]] = inputs
        elif node.kind() == "prim::TupleUnpack":
            made.update(zip(outputs, inputs[0], strict=True))
        elif node.kind() == "prim::ListUnpack":
            made.update(dict.fromkeys(outputs, inputs[0]))
        elif node.kind().startswith("aten::") and name not in NUMBERS and "Tensor" in str(node):
            found.append((name.rstrip("_"), set(_flat(inputs))))
            made.update(dict.fromkeys(outputs, len(found) - 1))
    return found


def _flat(items: Iterable[Any]) -> Iterator[int | str]:
    for item in items:
        if isinstance(item, list):
            yield from _flat(item)
        elif item is not None:
            yield item


def edges_of(model: Model) -> list[tuple[str, set[int | str]]]:
    """The same of our graph."""
    graph = model.facts["graph"]
    assert isinstance(graph, Graph)
    nodes = [node for node in graph.nodes if node.kind is not NodeKind.SHAPE]
    made: dict[str, int | str] = dict.fromkeys(graph.inputs, "input")
    made |= {name: i for i, node in enumerate(nodes) for name in node.outputs}
    return [
        (n.op.removeprefix("aten."), {made[name] for name in n.inputs if name in made})
        for n in nodes
    ]


@pytest.mark.parametrize("name", ["residual", "kinds", "dense", "functional", "recurrent"])
def test_a_traced_graph_is_torchs_own(name: str, tmp_path: Path) -> None:
    make, shape = NETS[name]
    path = saved(traced(make().eval(), shape), tmp_path)
    assert edges_of(read(path)[0]) == edges_of_torch(path)


@pytest.mark.parametrize("name", ["residual", "shared", "dense"])
def test_a_scripted_graph_is_that_of_the_trace(name: str, tmp_path: Path) -> None:
    make, shape = NETS[name]
    net = make().eval()
    (script,) = read(saved(scripted(net, shape), tmp_path))
    (trace,) = read(saved(traced(net, shape), tmp_path))
    same = {"_convolution": "conv2d"}
    assert edges_of(script) == [(same.get(op, op), reads) for op, reads in edges_of(trace)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_read_as_torch_has_them(name: str, tmp_path: Path) -> None:
    models = pytest.importorskip("pytorchcv.model_provider")
    net = trained(models.get_model(name, pretrained=False)).eval()
    path = saved(traced(net, (1, 3, 224, 224)), tmp_path)
    (model,) = read(path)
    norms = norms_of(net)
    assert [layer.name for layer in model.layers] == [*norms]
    for layer in model.layers:
        assert_tensors_are_those_of(layer, norms[layer.name])
        assert_flags_are_those_of(layer, norms[layer.name], is_scripted=False)
        assert len(layer.calls) == 1
    assert edges_of(model) == edges_of_torch(path)


def test_a_transformer_is_read_as_torch_has_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        return_dict=False,
    )
    net = trained(transformers.BertModel(config)).eval()
    ids = torch.randint(0, 50, (2, 7))
    script = torch.jit.trace(net, (ids, torch.ones_like(ids)), check_trace=False, strict=False)
    (model,) = read(saved(script, tmp_path))
    norms = norms_of(net)
    assert {layer.name for layer in model.layers} == {*norms}
    for layer in model.layers:
        assert_tensors_are_those_of(layer, norms[layer.name])
        assert [call.kind for call in layer.calls] == [NodeKind.LAYER_NORM]


def test_the_archive_for_mobile_is_read_too(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    path = tmp_path / "net.ptl"
    torch.jit.script(net)._save_for_lite_interpreter(str(path))
    (model,) = read(path)
    assert [(layer.name, layer.training) for layer in model.layers] == [("1", False)]


def test_halves_and_extra_files_are_read(tmp_path: Path) -> None:
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).half().eval()
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.script(net), str(path), _extra_files={"notes.txt": b"hello"})
    (layer,) = read(path)[0].layers
    assert_tensors_are_those_of(layer, net[1])
