"""Normalization layers of ONNX graphs: what they are called, and what is known of them."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.facts import Evidence, Unknown
from bncheck.graph import NodeKind
from bncheck.model import BatchSize, Model, NormLayer
from bncheck.readers.onnx import read
from bncheck.readers.source import BytesSource
from bncheck.tensor import Tensor

onnx = pytest.importorskip("onnx")

NEWEST = onnx.defs.onnx_opset_version()
PARAMETERS = """
<float[3] bn_weight = {1, 2, 3}, float[3] bn_bias = {4, 5, 6},
 float[3] bn_mean = {7, 8, 9}, float[3] bn_var = {10, 11, 12}>
"""


def model(body: str, opset: int = NEWEST, constants: str = PARAMETERS, inputs: str = "") -> Model:
    """A graph in ONNX's text format, whose "bn_" reads "bn." in the file as exporters have it."""
    inputs = inputs or "float[2, 3, 8, 8] x"
    text = f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    proto = onnx.parser.parse_model(f"{text} g ({inputs}) => (y) {constants} {{ {body} }}")
    (found,) = read(BytesSource(proto.SerializeToString().replace(b"bn_", b"bn.")))
    return found


def layer(body: str, opset: int = NEWEST, **more: str) -> NormLayer:
    """The only normalization layer of a graph."""
    (found,) = model(body, opset, **more).layers
    return found


BATCH_NORM = "y = BatchNormalization{attributes}(x, bn_weight, bn_bias, bn_mean, bn_var)"


def batch_norm(attributes: str = "", outputs: str = "y", opset: int = NEWEST) -> NormLayer:
    text = BATCH_NORM.format(attributes=attributes and f"<{attributes}>")
    return layer(text.replace("y =", f"{outputs} ="), opset)


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 15, 17, 20, 21, NEWEST])
def test_a_batch_norm_at_inference_reads_alike_in_every_opset(opset: int) -> None:
    found = batch_norm("epsilon = 1e-3, momentum = 0.99", opset=opset)
    assert (found.name, found.kind) == ("bn", "batch")
    assert found.class_path == "ai.onnx.BatchNormalization"
    assert (found.eps, found.momentum, found.num_features) == (1e-3, 0.01, 3)
    assert (found.training, found.has_running_stats, found.affine) == (False, True, True)
    tensors = (found.weight, found.bias, found.running_mean, found.running_var)
    assert [list(t.values) for t in tensors if t] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]


def test_defaults_are_those_of_the_specification() -> None:
    found = batch_norm()
    assert (found.eps, found.momentum, found.training) == (1e-5, 0.1, False)


@pytest.mark.parametrize(
    ("attributes", "outputs", "opset", "training"),
    [
        ("is_test = 1, consumed_inputs = [0, 0, 0, 1, 1]", "y", 1, False),
        ("is_test = 0, consumed_inputs = [0, 0, 0, 1, 1]", "y", 1, True),
        ("", "y", 6, True),
        ("is_test = 1", "y", 6, False),
        ("", "y", 7, False),
        ("", "y, m, v, sm, sv", 7, True),
        ("", "y, m, v, sm, sv", 13, True),
        ("", "y", 13, False),
        ("training_mode = 1", "y, m, v", 14, True),
        ("training_mode = 1", "y", 15, True),
        ("training_mode = 0", "y, m, v", NEWEST, False),
    ],
)
def test_training_is_told_as_each_opset_tells_it(
    attributes: str, outputs: str, opset: int, training: bool
) -> None:
    assert batch_norm(attributes, outputs, opset).training is training


def test_outputs_that_nobody_names_are_no_sign_of_training() -> None:
    node = onnx.helper.make_node("BatchNormalization", list("xsbmv"), ["y", "", "", "", ""])
    values = [onnx.helper.make_tensor(name, 1, [1], [1.0]) for name in "sbmv"]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "g", [info("x", 1, [1, 1])], [info("y", 1, None)], values
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 9)])
    (found,) = read(BytesSource(proto.SerializeToString()))
    assert found.layers[0].training is False


def test_per_activation_normalization_of_old_opsets_is_marked() -> None:
    assert batch_norm("spatial = 0", opset=8).calls[0].attributes["spatial"] is False
    assert "spatial" not in batch_norm("spatial = 1", opset=8).calls[0].attributes


@pytest.mark.parametrize(
    ("attributes", "opset", "outdated"),
    [
        ("is_test = 1, consumed_inputs = [0, 0, 0, 1, 1]", 1, ("is_test", "consumed_inputs")),
        ("spatial = 1", 8, ("spatial",)),
        ("spatial = 1", 17, ("spatial",)),
        ("epsilon = 1e-3", 17, None),
    ],
)
def test_attributes_of_old_versions_are_noted(
    attributes: str, opset: int, outdated: tuple[str, ...] | None
) -> None:
    found = batch_norm(attributes, opset=opset).calls[0].attributes
    assert (found.get("outdated"), found["version"]) == (outdated, opset)


@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.9997, 0.1, 0.0, 1.0, 0.999])
def test_momentum_is_free_of_float32_noise(momentum: float) -> None:
    assert batch_norm(f"momentum = {momentum:f}").momentum == round(1 - momentum, 9)


OTHERS = [
    ("InstanceNormalization(x, bn_weight, bn_bias)", 6, "instance", 1e-5),
    ("GroupNormalization<num_groups = 1>(x, bn_weight, bn_bias)", 21, "group", 1e-5),
    ("LayerNormalization<epsilon = 1e-12>(x, bn_weight, bn_bias)", 17, "layer", 1e-12),
    ("LayerNormalization(x, bn_weight)", 17, "layer", 1e-5),
    ("RMSNormalization<epsilon = 1e-6>(x, bn_weight)", 23, "rms", 1e-6),
    ("SimplifiedLayerNormalization(x, bn_weight)", 17, "rms", 1e-5),
    ("com.microsoft.SkipLayerNormalization(x, x, bn_weight, bn_bias)", 17, "layer", 1e-12),
    ("com.microsoft.SkipLayerNormalization(x, x, bn_weight)", 17, "layer", 1e-12),
    ("com.microsoft.SkipSimplifiedLayerNormalization(x, x, bn_weight)", 17, "rms", 1e-12),
    ("com.microsoft.GroupNorm<groups = 1>(x, bn_weight, bn_bias)", 17, "group", 1e-5),
    ("com.microsoft.SkipGroupNorm<groups = 1>(x, bn_weight, bn_bias, x)", 17, "group", 1e-5),
    (
        "com.microsoft.EmbedLayerNormalization(x, x, bn_var, bn_var, bn_var, bn_weight, bn_bias)",
        17,
        "layer",
        1e-12,
    ),
]


@pytest.mark.parametrize(("call", "opset", "kind", "eps"), OTHERS)
def test_other_normalizations_have_their_kind_and_eps(
    call: str, opset: int, kind: str, eps: float
) -> None:
    found = layer(f"y = {call}", opset)
    domain, _, op = call.partition("(")[0].partition("<")[0].rpartition(".")
    assert (found.name, found.kind, found.eps) == ("bn", kind, eps)
    assert found.class_path == f"{domain or 'ai.onnx'}.{op}"
    assert found.weight is not None
    assert list(found.weight.values) == [1, 2, 3]
    assert found.num_features == 3
    if "bn_bias" in call:
        assert found.bias is not None
        assert list(found.bias.values) == [4, 5, 6]
    else:
        assert found.bias is None
    assert not any(map(found.knows, (NormLayer.training, NormLayer.momentum)))


def test_operand_positions_agree_with_onnxruntime() -> None:
    runtime = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    names = {"weight": {"gamma", "scale"}, "bias": {"beta", "bias"}}
    for schema in runtime.get_all_operator_schema():
        calls = [call for call, *_ in OTHERS if call.startswith(f"com.microsoft.{schema.name}(")]
        for call in calls:
            operands = call.partition("(")[2].rstrip(")").split(", ")
            for role, allowed in names.items():
                if f"bn_{role}" in operands:
                    assert schema.inputs[operands.index(f"bn_{role}")].name in allowed


def test_the_number_of_groups_is_that_of_the_operator() -> None:
    found = layer("y = GroupNormalization<num_groups = 3>(x, bn_weight, bn_bias)", 21)
    assert found.num_groups == 3


def test_a_scale_per_group_says_nothing_of_the_number_of_features() -> None:
    found = layer("y = GroupNormalization<num_groups = 3>(x, bn_weight, bn_bias)", 18)
    assert not found.knows(NormLayer.num_features)


def test_local_response_normalization_has_no_parameters() -> None:
    found = layer("y = LRN<size = 5, bias = 2.0>(x)")
    assert (found.kind, found.weight, found.bias, found.affine) == (
        "local-response",
        None,
        None,
        False,
    )
    attributes = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}
    assert found.calls[0].attributes == attributes


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("a.weight a.bias a.running_mean a.running_var", "a"),
        ("shared.weight shared.bias a.b.running_mean x", "a.b"),
        ("shared.weight shared.bias x a.running_var", "a"),
        ("a.weight b.bias x1 x2", "a"),
        ("x1 a.bias x2 x3", "a"),
        ("a.gamma a.beta a.mean a.var", "the node"),
        (".weight .bias .running_mean .running_var", "the node"),
    ],
)
def test_layers_are_named_after_their_parameters(parameters: str, name: str) -> None:
    assert _single(parameters.split(), "the node").layers[0].name == name


def test_without_names_the_output_names_a_layer() -> None:
    assert _single(list("sbmv"), "").layers[0].name == "out"


def _single(parameters: list[str], node: str) -> Model:
    helper = onnx.helper
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["in", *parameters], ["out"], name=node)],
        "g",
        [info("in", 1, ["N", 2])],
        [info("out", 1, None)],
        [helper.make_tensor(each, 1, [2], [1.0, 1.0]) for each in parameters],
    )
    (found,) = read(BytesSource(helper.make_model(graph).SerializeToString()))
    return found


def test_nodes_that_read_the_same_parameters_are_calls_of_one_layer() -> None:
    call = BATCH_NORM.format(attributes="")
    body = " ".join(call.replace("y =", f"y{i} =").replace("(x", f"(y{i - 1}") for i in (1, 2, 3))
    found = model(body.replace("y0", "x").replace("y3", "y"))
    (shared,) = found.layers
    assert shared.name == "bn"
    assert [call.outputs for call in shared.calls] == [("y1",), ("y2",), ("y",)]


@pytest.mark.parametrize(("second", "layers"), [("{1, 1, 1}", 1), ("{1, 2, 1}", 2)])
def test_a_weight_written_anew_for_each_call_is_the_same(second: str, layers: int) -> None:
    """As exporters write affine=False."""
    constants = PARAMETERS.replace(">", f", float[3] one = {{1, 1, 1}}, float[3] two = {second}>")
    call = "BatchNormalization({0}, {1}, bn_bias, bn_mean, bn_var)"
    body = f"y1 = {call.format('x', 'one')} y = {call.format('y1', 'two')}"
    assert len(model(body, constants=constants).layers) == layers


@pytest.mark.parametrize(
    ("scopes", "name"),
    [
        ("['', 'body', 'body.norm', 'group_norm']", "body.norm"),
        ("['', 'group_norm']", "y"),
        ("?", "y"),
    ],
)
def test_the_scopes_of_torch_name_what_no_parameter_does(scopes: str, name: str) -> None:
    """torch.onnx writes GroupNorm as an InstanceNormalization whose scale is computed."""
    given = "float[2, 3, 8, 8] x, float[3] scale, float[3] shift"
    text = f"""<ir_version: 10, opset_import: ["" : 20]> g ({given}) => (y)
    {{ y = InstanceNormalization(x, scale, shift) }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    (found,) = read(BytesSource(proto.SerializeToString()))
    assert found.layers[0].name == name


def test_layers_of_one_name_are_told_apart() -> None:
    found = model(
        "y1 = InstanceNormalization(x, bn_weight, bn_bias)"
        "[second] y2 = InstanceNormalization(y1, bn_weight, bn_bias)"
        "y = InstanceNormalization(y2, bn_weight, bn_bias)"
    )
    assert [each.name for each in found.layers] == ["bn", "second", "bn#2"]


def test_statistics_of_the_batch_are_no_running_statistics() -> None:
    found = layer(
        "m = ReduceMean<keepdims = 0>(x, axes) v = Mul(m, m)"
        "y = BatchNormalization(x, bn_weight, bn_bias, m, v)",
        constants="<int64[3] axes = {0, 2, 3}, float[3] bn_weight = {1,1,1},"
        " float[3] bn_bias = {0,0,0}>",
    )
    assert found.has_running_stats is False
    assert not found.knows(NormLayer.running_mean)
    assert found.calls[0].inputs == ("x", "m", "v")


def test_statistics_computed_from_constants_are_there_but_unknown() -> None:
    found = layer(
        "m = ConstantOfShape(shape) v = Exp(m) y = BatchNormalization(x, v, m, m, v)",
        constants="<int64[1] shape = {3}>",
    )
    assert found.has_running_stats is True
    reason = Unknown("running_mean", "it is computed in the graph, not stored")
    assert found.facts["running_mean"] == reason
    assert not found.knows(NormLayer.num_features)


def test_statistics_that_the_caller_gives_are_no_running_statistics() -> None:
    found = layer(
        "y = BatchNormalization(x, bn_weight, bn_bias, m, v)",
        inputs="float[2, 3] x, float[3] m, float[3] v",
    )
    assert found.has_running_stats is False


def test_what_normalizes_weights_is_no_layer() -> None:
    found = model(
        "r = Reshape(w, shape) n = BatchNormalization(r, bn_weight, bn_bias, bn_mean, bn_var)"
        "y = Conv(x, n)",
        constants=PARAMETERS.rstrip(">\n")
        + ", float[3, 3, 1, 1] w = {1,2,3,4,5,6,7,8,9}, int64[4] shape = {1, 3, 3, 1}>",
    )
    assert not found.layers
    assert [node.kind for node in found.graph.nodes] == ["batch-norm", "conv"]


def test_what_a_graph_cannot_hold_is_unknown_with_a_hint() -> None:
    found = batch_norm()
    for fact in (
        NormLayer.track_running_stats,
        NormLayer.requires_grad,
        NormLayer.num_batches_tracked,
    ):
        value: Any = found.facts[fact.name]
        assert "an ONNX graph holds none" in value.reason
        assert "checkpoint" in value.instead


TRAIN = BATCH_NORM.format(attributes="<training_mode = 1>").replace("y =", "y, m, v =")


@pytest.mark.parametrize(
    ("inputs", "before", "expected"),
    [
        ("float[2, 3, 8, 6] x", "", (2, 48)),
        ("float[4, 3] x", "", (4, 1)),
        ("float[N, 3, 8, 8] x", "", None),
        ("float[16, 3, H, W] x", "", (16, None)),
        ("float[16, 3, 8, 8] z", "x = Relu(z)", (16, 64)),
        ("float[16, 3, 8, 8] z", "x = NonZero(z)", (16, None)),
        ("float[16, 3, 8, 8] z, float[3] w", "x = Where(z, w, z)", None),
    ],
)
def test_a_training_graph_tells_its_batch_size(
    inputs: str, before: str, expected: tuple[int, int | None] | None
) -> None:
    found = model(f"{before} {TRAIN}", inputs=inputs)
    if expected is None:
        assert not found.knows(Model.batch_size)
    else:
        size = found.batch_size
        assert (size.samples, size.positions) == expected
        assert size.source == "static batch of the training graph"


def test_the_smallest_batch_counts() -> None:
    second = TRAIN.replace("y, m, v", "y, m2, v2").replace("(x", "(p")
    found = model(
        TRAIN.replace("y,", "h,") + " p = GlobalAveragePool(h)" + second,
        inputs="float[8, 3, 8, 8] x",
        constants=PARAMETERS.rstrip(">\n") + ", float[4, 3, 1, 1] p>",
    )
    assert found.batch_size == BatchSize(4, "static batch of the training graph", 1)


def test_an_inference_graph_tells_none() -> None:
    why = model(BATCH_NORM.format(attributes="")).facts["batch_size"]
    assert isinstance(why, Unknown)
    assert why.why == "no batch size in an inference graph"


@pytest.mark.parametrize(
    ("body", "holds", "evidence"),
    [
        (BATCH_NORM.format(attributes=""), "1 BatchNormalization", {"graph", "tensors"}),
        ("y = Relu(x)", "1 Relu", {"graph"}),
        ("h = LRN<size = 3>(x) y = Relu(h)", "1 LRN", {"graph"}),
        ("h = MatMul(x, x) g = MatMul(h, x) y = Relu(g)", "2 MatMul", {"graph"}),
    ],
)
def test_a_model_says_what_it_holds(body: str, holds: str, evidence: set[str]) -> None:
    found = model(body)
    assert (found.format, found.content, found.holds) == ("onnx", "graph", holds)
    assert found.evidence == set(map(Evidence, evidence))


def test_order_is_the_whole_graph() -> None:
    found = model("y = Relu(x)")
    assert found.order is found.graph
    assert found.graph.complete
    assert [node.kind for node in found.graph.nodes] == [NodeKind.RELU]


def test_a_graph_with_batch_norm_has_its_statistics() -> None:
    assert model(BATCH_NORM.format(attributes="")).statistics_gone is None


def test_a_graph_without_batch_norm_says_that_nothing_is_proven() -> None:
    gone = model("y = LayerNormalization(x, bn_weight)").statistics_gone
    assert gone is not None
    assert gone.reason == (
        "statistics: no BatchNorm in this graph: folded by the exporter, or never there; "
        "check the model it was exported from"
    )


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (["FuseBatchNormIntoConv"], "(1 site marked FuseBatchNormIntoConv)"),
        (
            ["FuseBatchNormIntoConv", "Other, FuseBatchNormIntoGemm"],
            "(2 sites marked FuseBatchNormIntoConv, FuseBatchNormIntoGemm)",
        ),
    ],
)
def test_marks_of_the_exporter_prove_a_fold(rules: list[str], said: str) -> None:
    nodes = [onnx.helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(len(rules))]
    for node, rule in zip(nodes, rules, strict=True):
        node.metadata_props.add(key="namespace", value="FuseBatchNormIntoNothing")
        node.metadata_props.add(key="pkg.onnxscript.rewriter.rule_name", value=rule)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [info("v0", 1, [1])], [info(f"v{len(rules)}", 1, [1])]
    )
    (found,) = read(BytesSource(onnx.helper.make_model(graph).SerializeToString()))
    assert found.statistics_gone is not None
    assert f"the exporter folded it {said}" in found.statistics_gone.why


def test_equal_initializers_behind_identity_are_different_storages() -> None:
    found = model(
        "a = Identity(bn_weight)" + BATCH_NORM.format(attributes="").replace("bn_bias", "a")
    ).layers[0]
    assert isinstance(found.weight, Tensor)
    assert isinstance(found.bias, Tensor)
    assert list(found.bias.values) == list(found.weight.values)
    assert found.bias.storage != found.weight.storage
