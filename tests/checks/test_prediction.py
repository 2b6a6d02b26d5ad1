"""What weights predict about running means, step by step, and the two rules that rest on it."""

from __future__ import annotations

from collections.abc import Sequence
from math import erf, exp, inf, pi, prod, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bncheck.checks.prediction import folded_twice, statistics_do_not_fit_weights
from bncheck.facts import Unknown, UnknownFact
from bncheck.graph import Graph, Node, NodeKind
from bncheck.model import Model
from bncheck.moments.follow import Prediction, predictions

ROLES = ("weight", "bias", "running_mean", "running_var")
GAMMA, BETA = [0.5, -1.0, 2.0, 1.0], [0.3, -0.2, 1.0, 0.0]
IMAGE = {"shapes": {"x": (1, 4, 8, 8)}}


def norm(make: Any, data: str, output: str, *tensors: Sequence[float]) -> Node:
    """A BatchNorm with weight, bias, mean and variance; trained ones where not given."""
    given = dict(zip(ROLES, map(list, tensors), strict=False))
    trained = {"running_mean": [0.1] * 4, "running_var": [2.0] * 4}
    held = {"weight": GAMMA, "bias": BETA, **trained, **given}
    return make.node("batch-norm", data, output, held, eps=0.0, training=False)


def conv(make: Any, data: str, output: str, weight: Any, **attributes: object) -> Node:
    values = np.asarray(weight, float)
    held: dict[str, object] = {"weight": make.tensor(values.ravel(), values.shape)}
    if "bias" in attributes:
        held["bias"] = attributes.pop("bias")
    return make.node("conv", data, output, held, **attributes)


def graph_of(make: Any, *between: Node, data: str, **fields: Any) -> Graph:
    """x, normalized; what is in between; and the BatchNorm whose input is to be predicted."""
    return make.graph(norm(make, "x", "n"), *between, norm(make, data, "y"), **fields)


def predicted(graph: Graph) -> list[float]:
    """The mean of the last BatchNorm's input."""
    found = predictions(graph)[graph.nodes[-1]]
    assert isinstance(found, Prediction), found
    return [float(value) for value in found.mean]


def open_end(graph: Graph) -> str:
    """Why the last BatchNorm's input is not predicted."""
    found = predictions(graph)[graph.nodes[-1]]
    assert isinstance(found, Unknown)
    return found.why


def relu(mean: float, deviation: float) -> float:
    """The mean of a rectified normal variable: Nagel et al., arXiv:1906.04721."""
    z = mean / abs(deviation)
    below = 0.5 * (1 + erf(z / sqrt(2)))
    return mean * below + abs(deviation) * exp(-z * z / 2) / sqrt(2 * pi)


RECTIFIED = [relu(b, g) for b, g in zip(BETA, GAMMA, strict=True)]


def sampled(function: Any) -> list[float]:
    """The mean of a function of each channel, from a hundred thousand quantiles."""
    from statistics import NormalDist

    points = [NormalDist().inv_cdf((i + 0.5) / 1e5) for i in range(100_000)]
    z = np.array(points)
    return [float(np.mean(function(b + g * z))) for b, g in zip(BETA, GAMMA, strict=True)]


def test_a_batch_norm_gives_its_bias(make: Any) -> None:
    assert predicted(graph_of(make, data="n")) == pytest.approx(BETA)


def test_relu_in_closed_form(make: Any) -> None:
    node = make.node("relu", "n", "r")
    assert predicted(graph_of(make, node, data="r")) == pytest.approx(RECTIFIED, abs=1e-3)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("op", "attributes", "function"),
    [
        ("aten.silu", {}, lambda x: x * sigmoid(x)),
        ("Sigmoid", {}, sigmoid),
        ("Tanh", {}, np.tanh),
        ("HardSwish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("aten.leaky_relu", {"negative_slope": 0.1}, lambda x: np.where(x > 0, x, 0.1 * x)),
        ("Elu", {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0)))),
        ("Clip", {"min": 0.0, "max": 1.0}, lambda x: np.clip(x, 0, 1)),
        ("aten.hardtanh", {"min": 0.0, "max": inf}, lambda x: np.maximum(x, 0)),
        ("ReLU6", {}, lambda x: np.clip(x, 0, 6)),
        ("Softplus", {"beta": 2.0}, lambda x: np.log1p(np.exp(2 * x)) / 2),
        ("Mish", {}, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("Abs", {}, np.abs),
    ],
)
def test_activations(make: Any, op: str, attributes: Any, function: Any) -> None:
    node = make.node("activation", "n", "a", op=op, **attributes)
    assert predicted(graph_of(make, node, data="a")) == pytest.approx(sampled(function), abs=2e-3)


def test_gelu(make: Any) -> None:
    node = make.node("activation", "n", "a", op="aten.gelu")
    wanted = sampled(lambda x: x * np.vectorize(lambda v: 0.5 * (1 + erf(v / sqrt(2))))(x))
    assert predicted(graph_of(make, node, data="a")) == pytest.approx(wanted, abs=1e-3)


def test_prelu_has_a_slope_for_each_channel(make: Any) -> None:
    slopes = [0.1, 0.2, 0.3, 0.4]
    node = make.node("activation", "n", "a", {"weight": slopes}, op="PRelu")
    wanted = [r - s * relu(-b, g) for r, s, b, g in zip(RECTIFIED, slopes, BETA, GAMMA)]  # noqa: B905
    assert predicted(graph_of(make, node, data="a")) == pytest.approx(wanted, abs=1e-3)


def test_an_activation_in_parts(make: Any) -> None:
    """SiLU as exporters write it: both factors depend on the same value."""
    parts = (
        make.node("activation", "n", "s", op="Sigmoid"),
        make.node("mul", "n s", "a"),
    )
    wanted = sampled(lambda x: x * sigmoid(x))
    assert predicted(graph_of(make, *parts, data="a")) == pytest.approx(wanted, abs=1e-3)


def test_gelu_in_parts_with_constants(make: Any) -> None:
    def number(value: float) -> Any:
        return {"weight": make.tensor([value], ())}

    parts = (
        make.node("mul", "n", "scaled", number(sqrt(2)), divide=True),
        make.node("activation", "scaled", "e", op="Erf"),
        make.node("add", "e", "e1", {"bias": make.tensor([1.0], ())}),
        make.node("mul", "n e1", "product"),
        make.node("mul", "product", "a", number(0.5)),
    )
    whole = graph_of(make, make.node("activation", "n", "a", op="Gelu"), data="a")
    graph = graph_of(make, *parts, data="a")
    assert predicted(graph) == pytest.approx(predicted(whole), abs=1e-6)


POINTWISE = np.arange(16.0).reshape(4, 4, 1, 1) / 10


def test_a_pointwise_convolution_is_a_product(make: Any) -> None:
    node = conv(make, "n", "c", POINTWISE, kernel_size=(1, 1), padding=(0, 0), bias=[1.0] * 4)
    wanted = POINTWISE[:, :, 0, 0] @ BETA + 1
    assert predicted(graph_of(make, node, data="c", **IMAGE)) == pytest.approx(wanted)


def test_groups_take_their_own_channels(make: Any) -> None:
    weight = np.arange(8.0).reshape(4, 2, 1, 1)
    node = conv(make, "n", "c", weight, kernel_size=(1, 1), padding=(0, 0), groups=2)
    wanted = [weight[i, :, 0, 0] @ BETA[i // 2 * 2 :][:2] for i in range(4)]
    assert predicted(graph_of(make, node, data="c", **IMAGE)) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "padding"),
    [(8, 1, 1, 1), (7, 2, 1, 1), (5, 1, 2, 2), (4, 1, 1, 0), (3, 1, 1, 2), (8, 2, 1, "same")],
)
def test_zeros_around_space_count(
    make: Any, size: int, stride: int, dilation: int, padding: Any
) -> None:
    """Against a convolution of a constant image, computed place by place."""
    weight = np.random.default_rng(0).normal(size=(4, 1, 3, 3))
    both = (padding, padding)
    node = conv(
        make, "n", "c", weight, groups=4, kernel_size=(3, 3), stride=(stride, stride),
        dilation=(dilation, dilation), padding=padding if padding == "same" else both,
    )  # fmt: skip
    graph = graph_of(make, node, data="c", shapes={"x": (1, 4, size, size)})
    before, total = padding, 2 * padding if padding != "same" else 0
    if padding == "same":
        total = max((-(-size // stride) - 1) * stride + 2 * dilation + 1 - size, 0)
        before = total // 2
    image = np.zeros((size + total, size + total))
    image[before : before + size, before : before + size] = 1
    places = range(0, size + total - 2 * dilation, stride)
    seen = [image[y : y + 2 * dilation + 1 : dilation, x : x + 2 * dilation + 1 : dilation]
            for y in places for x in places]  # fmt: skip
    share = np.mean(seen, axis=0)
    wanted = [(weight[i, 0] * share).sum() * BETA[i] for i in range(4)]
    assert predicted(graph) == pytest.approx(wanted, abs=1e-5)


def test_zeros_that_a_pad_adds(make: Any) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 4, 3, 3))
    options = {"kernel_size": (3, 3), "stride": (1, 1), "dilation": (1, 1)}
    inside = graph_of(
        make, conv(make, "n", "c", weight, padding=(1, 1), **options), data="c", **IMAGE
    )
    pad = make.node("pad", "n", "p", mode="constant", value=0.0, axes=(-2, -1), padding=(1,) * 4)
    outside = graph_of(
        make, pad, conv(make, "p", "c", weight, padding=(0, 0), **options), data="c",
        shapes={"x": (1, 4, 8, 8), "n": (1, 4, 8, 8), "p": (None,) * 4},
    )  # fmt: skip
    assert predicted(outside) == pytest.approx(predicted(inside))


@pytest.mark.parametrize(("size", "kernel"), [(4, 3), (7, 3), (14, 3), (2, 3), (3, 5)])
def test_a_size_that_is_not_known_is_found(make: Any, size: int, kernel: int) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 4, kernel, kernel))
    around = {"kernel_size": (kernel,) * 2, "padding": (kernel // 2,) * 2}
    node = conv(make, "n", "c", weight, **around)
    known = predicted(graph_of(make, node, data="c", shapes={"x": (1, 4, size, size)}))
    graph = graph_of(make, node, data="c", shapes={"x": (None, 4, None, None)})
    found = predictions(graph)[graph.nodes[-1]]
    assert isinstance(found, Prediction)
    far = max(abs(found.mean - known))
    assert max(abs(found.misses(np.array(known), np.ones(4)))) < far / 3


def test_zeros_that_matter_more_than_the_size_tells(make: Any) -> None:
    """Of an image of unknown size, whose border is most of it, the mean is not known."""
    fringe = np.array([12.0, -11.0, 9.0, -10.0])
    with pytest.raises(UnknownFact, match="its size is not known"):
        Prediction(np.zeros(4), fringe).misses(0.6 * fringe, np.ones(4))
    small = Prediction(np.zeros(4), fringe / 10)
    assert max(abs(small.misses(0.06 * fringe, np.ones(4)))) < 0.1


def test_a_window_that_sees_mostly_padding_is_open(make: Any) -> None:
    """At each of the four places it sees other taps: what is the mean there is not known."""
    weight = np.ones((4, 4, 5, 5))
    node = conv(make, "n", "c", weight, kernel_size=(5, 5), padding=(2, 2))
    assert "conv" in open_end(graph_of(make, node, data="c", shapes={"x": (1, 4, 2, 2)}))
    assert predicted(graph_of(make, node, data="c", shapes={"x": (1, 4, 4, 4)}))


def test_a_transposed_convolution(make: Any) -> None:
    weight = np.arange(16.0).reshape(4, 4, 1, 1)[..., [0, 0]][..., [0, 0], :]
    node = make.node(
        "conv-transpose", "n", "c", {"weight": make.tensor(weight.ravel(), weight.shape)},
        stride=(2, 2), padding=(0, 0), kernel_size=(2, 2), dilation=(1, 1),
    )  # fmt: skip
    wanted = np.array(BETA) @ weight[:, :, 0, 0]  # each output is made by one tap
    assert predicted(graph_of(make, node, data="c", **IMAGE)) == pytest.approx(wanted)


def test_a_linear_layer_behind_flattened_channels(make: Any) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 16))
    flat = make.node("reshape", "n", "f", start_dim=1, end_dim=-1)
    held = {"weight": make.tensor(weight.ravel(), weight.shape), "bias": [1.0] * 4}
    linear = make.node("linear", "f", "l", held, transA=False, transB=True, alpha=1.0, beta=1.0)
    graph = graph_of(make, flat, linear, data="l", shapes={"n": (1, 4, 2, 2), "f": (1, 16)})
    assert predicted(graph) == pytest.approx(weight @ np.repeat(BETA, 4) + 1, abs=1e-5)


def test_branches_that_are_added(make: Any) -> None:
    """Independent and normal together: a rectified sum has the variance of both."""
    other = norm(make, "x2", "m", [1.0] * 4, [0.5] * 4)
    parts = (other, make.node("add", "n m", "s"), make.node("relu", "s", "r"))
    wanted = [relu(b + 0.5, sqrt(g * g + 1)) for b, g in zip(BETA, GAMMA, strict=True)]
    assert predicted(graph_of(make, *parts, data="r")) == pytest.approx(wanted, abs=2e-3)


def test_branches_of_one_value_go_up_and_down_together(make: Any) -> None:
    """As in MobileOne: of a depthwise convolution and its input added, only the mean is known."""
    weight = np.ones((4, 1, 1, 1))
    branch = conv(make, "x", "c", weight, groups=4, kernel_size=(1, 1), padding=(0, 0))
    parts = (branch, norm(make, "c", "m", [1.0] * 4, [0.5] * 4), make.node("add", "n m", "s"))
    assert predicted(graph_of(make, *parts, data="s")) == pytest.approx([b + 0.5 for b in BETA])
    assert "relu" in open_end(graph_of(make, *parts, make.node("relu", "s", "r"), data="r"))


def test_a_value_added_to_itself_is_twice_that(make: Any) -> None:
    parts = (make.node("add", "n n", "s"), make.node("relu", "s", "r"))
    wanted = [2 * value for value in RECTIFIED]
    assert predicted(graph_of(make, *parts, data="r")) == pytest.approx(wanted, abs=4e-3)


def test_concatenation_leaves_gaps_for_what_is_not_known(make: Any) -> None:
    pool = make.node("max-pool", "n", "p", kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))
    parts = (pool, make.node("concat", "p n", "j", axis=1))
    graph = graph_of(make, *parts, data="j", shapes=dict.fromkeys("xnp", (1, 4, 8, 8)))
    assert predicted(graph) == pytest.approx([float("nan")] * 4 + BETA, nan_ok=True)


SHAPES = dict.fromkeys("xn", (None, 4, None, None)) | {"a": (None,) * 5, "b": (None,) * 5}


def test_channels_that_are_shuffled(make: Any) -> None:
    parts = (
        make.node("reshape", "n", "a", shape=(-1, 2, 2, 8, 8)),
        make.node("reshape", "a", "b", perm=(0, 2, 1, 3, 4)),
        make.node("reshape", "b", "c", shape=(-1, 4, 8, 8)),
    )
    graph = graph_of(make, *parts, data="c", shapes=SHAPES)
    assert predicted(graph) == pytest.approx([BETA[i] for i in (0, 2, 1, 3)])
    single = graph_of(make, make.node("reshape", "n", "c", groups=2), data="c", shapes=SHAPES)
    assert predicted(single) == predicted(graph)


@pytest.mark.parametrize(
    ("attributes", "channels"),
    [
        ({"axis": 1, "sizes": (1, 3)}, [0]),
        ({"axis": 1, "indices": (3, 1)}, [3, 1]),
        ({"axes": (1,), "starts": (1,), "ends": (3,), "steps": (1,)}, [1, 2]),
        ({"axes": (2, 3), "starts": (1, 1), "ends": (3, 3), "steps": (1, 1)}, [0, 1, 2, 3]),
    ],
)
def test_channels_that_are_parted(make: Any, attributes: Any, channels: list[int]) -> None:
    node = make.node("split", "n", "p", **attributes)
    wanted = [BETA[i] for i in channels]
    assert predicted(graph_of(make, node, data="p", **IMAGE)) == pytest.approx(wanted)


def test_tokens_keep_their_channels(make: Any) -> None:
    """As in LeViT: space becomes a sequence, and the linear layer's output rows of it."""
    weight = np.random.default_rng(0).normal(size=(4, 4))
    held = {"weight": make.tensor(weight.ravel(), weight.shape)}
    parts = (
        make.node("reshape", "n", "f", start_dim=2, end_dim=-1),
        make.node("reshape", "f", "t", perm=(0, 2, 1)),
        make.node("linear", "t", "l", held, transA=False, transB=True, alpha=1.0, beta=1.0),
        make.node("reshape", "l", "rows", start_dim=0, end_dim=1),
    )
    shapes = {"n": (2, 4, 3, 3), "f": (2, 4, 9), "t": (2, 9, 4), "l": (2, 9, 4), "rows": (18, 4)}
    graph = graph_of(make, *parts, data="rows", shapes=shapes)
    assert predicted(graph) == pytest.approx(weight @ BETA, abs=1e-5)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (("max-pool", "MaxPool", "n"), "it does not follow through MaxPool"),
        (("opaque", "Loop", "n"), "it does not follow through Loop"),
        (("matmul", "MatMul", "n n"), "it does not follow through MatMul"),
        (("layer-norm", "LayerNorm", "n"), "it does not follow through LayerNorm"),
        (("relu", "Relu", "x"), "it is the model's input"),
        (("activation", "Tan", "n"), "it does not follow through Tan"),
        (("activation", "Clip", "n"), "it does not follow through Clip"),  # bounds not known
    ],
)
def test_what_cannot_be_followed_is_open(make: Any, node: Any, why: str) -> None:
    kind, op, data = node
    assert open_end(graph_of(make, make.node(kind, data, "a", op=op), data="a")) == why


def test_pooling_over_all_of_space_is_open(make: Any) -> None:
    """What is left of the variance is so little that any rounding of the mean is far off in it."""
    everything = make.node("average-pool", "n", "p", output_size=1, keepdim=True)
    assert "average-pool" in open_end(graph_of(make, everything, data="p", **IMAGE))
    halves = make.node("average-pool", "n", "p", kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))
    assert predicted(graph_of(make, halves, data="p", **IMAGE)) == pytest.approx(BETA)


def test_a_gate_is_open(make: Any) -> None:
    other = norm(make, "x", "m")
    assert "mul" in open_end(graph_of(make, other, make.node("mul", "n m", "g"), data="g"))


def test_behind_initial_statistics_nothing_is_known(make: Any) -> None:
    """They may be frozen, with all in the affine part: then the bias is not the mean."""
    frozen = norm(make, "x", "n", GAMMA, BETA, [0.0] * 4, [1.0] * 4)
    graph = make.graph(frozen, norm(make, "n", "y"))
    assert open_end(graph) == "the BatchNorm before it has statistics as at the start"


def test_a_batch_norm_that_does_nothing_lets_all_through(make: Any) -> None:
    empty = norm(make, "r", "e", [sqrt(2)] * 4, [0.1] * 4)
    parts = (make.node("relu", "n", "r"), empty)
    assert predicted(graph_of(make, *parts, data="e")) == pytest.approx(RECTIFIED, abs=1e-3)


def test_weights_are_read_once_and_not_kept(make: Any) -> None:
    node = conv(make, "n", "c", POINTWISE, kernel_size=(1, 1))
    graph = graph_of(make, node, data="c", **IMAGE)
    first = predictions(graph)
    assert "values" not in vars(node.parameters["weight"])
    assert predictions(graph) is first


CHANNELS = 16
RANDOM = np.random.default_rng(0)


class Chain:
    """A graph of conv and BatchNorm in turn whose statistics fit, until they are changed."""

    def __init__(self, make: Any, depth: int = 5, bias: bool = False) -> None:
        self.make = make
        self.kernels = [RANDOM.normal(size=(CHANNELS, CHANNELS, 1, 1)) / 3 for _ in range(depth)]
        self.biases = [RANDOM.normal(size=CHANNELS) if bias else None for _ in range(depth)]
        shape = (depth + 1, CHANNELS)
        self.weight = RANDOM.uniform(0.5, 1.5, shape) * RANDOM.choice([-1, 1], shape)
        self.bias = RANDOM.normal(size=shape)
        self.var = RANDOM.uniform(0.5, 2.0, shape)
        self.mean = RANDOM.normal(size=shape)
        for i in range(depth):
            self.mean[i + 1] = self.output(i) + 0.03 * RANDOM.normal(size=CHANNELS)

    def output(self, i: int) -> Any:
        before = [relu(b, w) for b, w in zip(self.bias[i], self.weight[i], strict=True)]
        return self.kernels[i][:, :, 0, 0] @ before + (
            0 if self.biases[i] is None else self.biases[i]
        )

    def model(self) -> Model:
        nodes, layers, value = [], [], "x"
        for i in range(len(self.mean)):
            tensors = (self.weight, self.bias, self.mean, self.var)
            held = {name: list(t[i]) for name, t in zip(ROLES, tensors, strict=True)}
            call = self.make.node("batch-norm", value, f"n{i}", held, eps=1e-5, training=False)
            layers.append(
                self.make.layer(name=f"bn{i}", calls=(call,), eps=1e-5, **call.parameters)
            )
            nodes += [call, self.make.node("relu", f"n{i}", f"r{i}")]
            if i < len(self.kernels):
                given = {} if self.biases[i] is None else {"bias": list(self.biases[i])}
                options = {"kernel_size": (1, 1), "padding": (0, 0), **given}
                nodes.append(conv(self.make, f"r{i}", f"c{i}", self.kernels[i], **options))
            value = f"c{i}"
        return self.make.model(*layers, content="graph", graph=self.make.graph(*nodes))

    def fold(self, i: int) -> None:
        """Put BatchNorm i into the convolution before it, and leave it there."""
        scale = self.weight[i] / np.sqrt(self.var[i] + 1e-5)
        bias = 0 if self.biases[i - 1] is None else self.biases[i - 1]
        self.kernels[i - 1] = self.kernels[i - 1] * scale[:, None, None, None]
        self.biases[i - 1] = scale * (bias - self.mean[i]) + self.bias[i]


def found(check: Any, model: Model) -> dict[str, str]:
    """The layers that a check speaks of, with what it says."""
    return {name: text for name, text in judged(check, model).items() if text is not None}


def judged(check: Any, model: Model) -> dict[str, str | None]:
    """The layers that a check speaks of; with None those that it leaves open."""
    said: dict[str, str | None] = {}
    for layer in model.layers:
        try:
            for each in check(layer, model):
                said[layer.name] = each.message
        except UnknownFact:
            said[layer.name] = None
    return said


def test_statistics_that_fit(make: Any) -> None:
    assert judged(statistics_do_not_fit_weights, Chain(make).model()) == {"bn0": None}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        pytest.param(
            lambda c: (c.mean[2].fill(0), c.var[2].fill(1)),
            "it is 0, as a layer starts",
            id="reset",
        ),
        pytest.param(
            lambda c: c.mean.__setitem__(2, RANDOM.permutation(c.mean[2])),
            "nothing in common",
            id="another's",
        ),
        pytest.param(
            lambda c: c.kernels.__setitem__(1, c.kernels[1] * (np.abs(c.kernels[1]) > 0.4)),
            "of those weights are 0: pruned",
            id="pruned",
        ),
        pytest.param(
            lambda c: c.kernels.__setitem__(1, 0.5 * c.kernels[1]), "weights moved", id="averaged"
        ),
    ],
)
def test_the_layer_is_named_and_the_cause(make: Any, change: Any, cause: str) -> None:
    chain = Chain(make)
    change(chain)
    said = found(statistics_do_not_fit_weights, chain.model())
    assert set(said) == {"bn2"}
    assert cause in said["bn2"]


def test_all_layers_at_once(make: Any) -> None:
    chain, other = Chain(make), Chain(make)
    chain.mean[1:] = other.mean[1:]
    assert set(found(statistics_do_not_fit_weights, chain.model())) == {
        f"bn{i}" for i in range(1, 6)
    }


def test_the_limit_is_an_option(make: Any) -> None:
    chain = Chain(make)
    chain.mean[2] += 0.2 * np.sqrt(chain.var[2])
    model = chain.model()
    assert found(statistics_do_not_fit_weights, model) == {}
    sharper = found(lambda layer, m: statistics_do_not_fit_weights(layer, m, limit=0.1), model)
    assert set(sharper) == {"bn2"}


def test_a_few_channels_of_their_own_are_no_misfit(make: Any) -> None:
    chain = Chain(make)
    chain.mean[2, :1] += 50
    assert found(statistics_do_not_fit_weights, chain.model()) == {}


def test_dead_channels_have_no_deviation_to_measure_in(make: Any) -> None:
    chain = Chain(make)
    chain.var[2, :8], chain.mean[2, :8] = 1e-12, 7.0
    assert found(statistics_do_not_fit_weights, chain.model()) == {}


def test_an_identity_may_have_any_statistics(make: Any) -> None:
    chain = Chain(make)
    chain.mean[2] = RANDOM.normal(size=CHANNELS)
    chain.weight[2], chain.bias[2] = np.sqrt(chain.var[2] + 1e-5), chain.mean[2]
    model = chain.model()
    assert "bn2" not in found(statistics_do_not_fit_weights, model)
    assert "bn2" not in found(folded_twice, model)


@pytest.mark.parametrize(
    ("bias", "by"), [(False, "only folding leaves there"), (True, "has the layer in it")]
)
def test_a_layer_that_is_folded_and_still_there(make: Any, bias: bool, by: str) -> None:
    chain = Chain(make, bias=bias)
    assert found(folded_twice, chain.model()) == {}
    chain.fold(3)
    said = found(folded_twice, chain.model())
    assert set(said) == {"bn3"}
    assert by in said["bn3"]
    assert "c2" in said["bn3"]


def test_the_bias_tells_without_a_prediction(make: Any) -> None:
    """A chain of which nothing is known but two neighbours, as a saved Sequential has them."""
    chain = Chain(make)
    chain.fold(3)
    whole = chain.model()
    pair = [n for n in whole.graph.nodes if n.outputs[0] in ("c2", "n3")]
    fragment = make.graph(*pair, inputs="r2", complete=False)
    model = make.model(*whole.layers, order=fragment)
    (seen,) = folded_twice(whole.layers[3], model)
    assert seen.evidence["by"] == "bias"
    with pytest.raises(UnknownFact, match="what comes before"):
        list(folded_twice(whole.layers[2], model))


def test_a_convolution_without_a_bias_is_not_folded(make: Any) -> None:
    assert found(folded_twice, Chain(make).model()) == {}


def test_weights_that_the_file_lacks_leave_it_open(make: Any) -> None:
    from bncheck.tensor import Tensor

    def missing() -> Any:
        raise UnknownFact(Unknown("values", "stored as a sparse tensor"))

    held = {"weight": Tensor((4, 4, 1, 1), "float32", missing)}
    node = make.node("conv", "n", "c", held, op="Conv", kernel_size=(1, 1), padding=(0, 0))
    assert open_end(graph_of(make, node, data="c")) == "it does not follow through Conv"


ANY_NUMBER = st.one_of(st.integers(-3, 5), st.integers(-(2**62), 2**62), st.none(), st.floats())
ANY_VALUE = st.one_of(ANY_NUMBER, st.lists(ANY_NUMBER, max_size=5).map(tuple), st.just("same"))
NAMES = (
    "axis axes sizes index indices starts ends steps keepdim perm squeeze unsqueeze start_dim "
    "end_dim groups shape mode value padding kernel_size stride dilation output_padding "
    "output_size count_include_pad ceil_mode alpha beta divide reversed subtract transA transB eps"
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_graph_is_too_odd(make: Any, data: Any) -> None:
    """Whatever a file says of a node, there is a prediction or a reason."""
    attributes = data.draw(st.dictionaries(st.sampled_from(NAMES.split()), ANY_VALUE, max_size=5))
    shape = data.draw(st.lists(st.integers(0, 5), max_size=5).map(tuple))
    weight = make.tensor([0.5] * prod(shape), shape)
    role = data.draw(st.sampled_from(["weight", "bias"]))
    kind = data.draw(st.sampled_from(list(NodeKind)))
    inputs = data.draw(st.sampled_from(["n", "n n", "n x", "p"]))
    pad = make.node("pad", "n", "p", mode="constant", value=0.0, axes=(-1,), padding=(1, 2))
    odd = make.node(kind, inputs, "odd", {role: weight}, **attributes)
    space = data.draw(st.sampled_from([8, 1, 2**40, None]))
    graph = graph_of(make, pad, odd, data="odd", shapes=dict.fromkeys("xn", (1, 4, space, space)))
    assert isinstance(predictions(graph)[graph.nodes[-1]], Prediction | Unknown)
