"""Local functions and bodies of control flow become part of one flat graph."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bncheck.errors import UnreadableModel
from bncheck.graph import Graph, NodeKind
from bncheck.model import Model
from bncheck.readers.onnx import inline, read
from bncheck.readers.source import BytesSource

onnx = pytest.importorskip("onnx")

HEADER = '<ir_version: 10, opset_import: ["" : 18, "local" : 1]>'
FUNCTION = '<domain: "local", opset_import: ["" : 18, "local" : 1]>'
PARAMETERS = """
<float[2] bn_weight = {1, 2}, float[2] bn_bias = {3, 4},
 float[2] bn_mean = {5, 6}, float[2] bn_var = {7, 8}>
"""
CALL = "BatchNormalization(x, bn_weight, bn_bias, bn_mean, bn_var)"


def parse(text: str) -> Model:
    """A model in ONNX's text format, whose "bn_" reads "bn." in the file."""
    proto = onnx.parser.parse_model(f"{HEADER} {text}")
    (found,) = read(BytesSource(proto.SerializeToString().replace(b"bn_", b"bn.")))
    return found


def wiring(graph: Graph) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(node.op, node.inputs, node.outputs) for node in graph.nodes]


def test_a_function_is_replaced_by_its_body() -> None:
    found = parse(
        f"g (float[1, 2] x) => (y) {PARAMETERS}"
        "{ h = local.norm<eps = 0.01>(x, bn_weight, bn_bias, bn_mean, bn_var) y = Relu(h) }"
        f"{FUNCTION} norm<eps>(a, b, c, d, e) => (r)"
        "{ t = Neg(a) r = BatchNormalization<epsilon : float = @eps>(t, b, c, d, e) }"
    )
    assert wiring(found.graph) == [
        ("Neg", ("x",), ("t",)),
        ("BatchNormalization", ("t",), ("h",)),
        ("Relu", ("h",), ("y",)),
    ]
    (layer,) = found.layers
    assert (layer.name, layer.eps) == ("bn", 0.01)
    assert layer.running_var is not None
    assert list(layer.running_var.values) == [7, 8]


def test_each_call_has_values_of_its_own() -> None:
    found = parse(
        f"g (float[1, 2] x) => (y) {PARAMETERS} {{ h = local.f(x, bn_var) y = local.f(h, bn_var) }}"
        f"{FUNCTION} f(x, v) => (r) {{ m = Constant<value = float[2] {{1, 2}}>()"
        "t = BatchNormalization(x, m, m, m, v) r = Relu(t) }"
    )
    assert wiring(found.graph) == [
        ("BatchNormalization", ("x",), ("t",)),
        ("Relu", ("t",), ("h",)),
        ("BatchNormalization", ("h",), ("t#2",)),
        ("Relu", ("t#2",), ("y",)),
    ]
    assert [layer.running_mean.values.tolist() for layer in found.layers if layer.running_mean] == [
        [1, 2],
        [1, 2],
    ]


@pytest.mark.parametrize(
    ("call", "eps"),
    [("local.outer<e = 0.5>(x)", 0.5), ("local.outer(x)", 0.25), ("local.inner(x)", 1e-5)],
)
def test_attributes_reach_nested_functions_or_fall_back(call: str, eps: float) -> None:
    found = parse(
        f"g (float[1, 2] x) => (y) {{ y = {call} }}"
        f"{FUNCTION} outer<e : float = 0.25>(x) => (y) {{ y = local.inner<given : float = @e>(x) }}"
        f"{FUNCTION} inner<given>(x) => (y) {{ y = local.last<given : float = @given>(x) }}"
        f"{FUNCTION} last<given>(x) => (y) {{ c = Constant<value = float[2] {{1, 1}}>()"
        "y = InstanceNormalization<epsilon : float = @given>(x, c, c) }"
    )
    assert found.layers[0].eps == eps


def test_a_function_may_hand_an_input_through_or_ignore_one() -> None:
    found = parse(
        "g (float[2] x, float[2] z) => (y) { a, b, c = local.f(x, z) t = Add(a, b) y = Add(t, c) }"
        f"{FUNCTION} f(p, q, absent) => (p, s, s) {{ s = Sum(p, absent) }}"
    )
    graph = found.graph
    assert ("Sum", ("x", ""), ("c",)) in wiring(graph)
    assert ("Identity", ("x",), ("a",)) in wiring(graph)
    assert ("Identity", ("c",), ("b",)) in wiring(graph)


def test_an_output_that_is_not_asked_for_is_still_made() -> None:
    found = parse(
        "g (float[2] x) => (y) { y = local.f(x) }"
        f"{FUNCTION} f(x) => (a, b) {{ a = Neg(x) b = Exp(x) }}"
    )
    assert wiring(found.graph) == [("Neg", ("x",), ("y",)), ("Exp", ("x",), ("b",))]


def test_functions_bring_the_opset_of_their_body() -> None:
    found = parse(
        "g (float[1, 2] x) => (y) { y = local.f(x) }"
        '<domain: "local", opset_import: ["" : 6]> f(x) => (y) { y = Dropout(x) }'
    )
    assert found.graph.nodes[0].attributes["training"] is True


def test_functions_of_one_name_are_told_apart_by_their_overload() -> None:
    proto = onnx.parser.parse_model(
        f"{HEADER} g (float[2] x) => (y) {{ h = local.f(x) y = local.f(h) }}"
        f"{FUNCTION} f(x) => (y) {{ y = Neg(x) }} {FUNCTION} f(x) => (y) {{ y = Exp(x) }}"
    )
    proto.functions[1].overload = proto.graph.node[1].overload = "other"
    (found,) = read(BytesSource(proto.SerializeToString()))
    assert [node.op for node in found.graph.nodes] == ["Neg", "Exp"]


def test_both_branches_of_an_if_are_in_the_graph() -> None:
    found = parse(
        f"g (float[1, 2] x, bool c) => (y) {PARAMETERS} {{ h = Relu(x)"
        " r = If (c) <then_branch = t () => (float[1, 2] o)"
        "   { o = BatchNormalization(h, bn_weight, bn_bias, bn_mean, bn_var) },"
        " else_branch = e () => (float[1, 2] o) <float[2] k = {1, 2}> { o = Mul(h, k) }>"
        " y = Neg(r) }"
    )
    assert wiring(found.graph) == [
        ("Relu", ("x",), ("h",)),
        ("BatchNormalization", ("h",), ("o",)),
        ("Mul", ("h",), ("o#2",)),
        ("If", ("c", "o", "o#2"), ("r",)),
        ("Neg", ("r",), ("y",)),
    ]
    assert found.graph.nodes[3].kind is NodeKind.OPAQUE
    assert found.layers[0].name == "bn"
    assert found.graph.uses("h") == 2


def test_a_branch_may_give_a_value_from_outside() -> None:
    found = parse(
        "g (float[2] x, bool c) => (y) { h = Relu(x)"
        " y = If (c) <then_branch = t () => (float[2] h) {},"
        " else_branch = e () => (float[2] x) {}> }"
    )
    assert wiring(found.graph)[-1] == ("If", ("c", "h", "x"), ("y",))


LOOP = (
    "y, s = Loop (n, c, x) <body = b (int64 i, bool go, float[1, 2] v)"
    " => (bool go2, float[1, 2] w, float[1, 2] w2)"
    " { go2 = Identity(go) w = BatchNormalization(v, k, k, k, k) w2 = Identity(w) }>"
)


def test_a_loop_is_entered_and_left_through_opaque_nodes() -> None:
    found = parse("g (float[1, 2] x, int64 n, bool c) => (y) <float[2] k = {1, 1}> {" + LOOP + "}")
    assert wiring(found.graph) == [
        ("Loop", ("n", "c", "x"), ("i", "go", "v")),
        ("Identity", ("go",), ("go2",)),
        ("BatchNormalization", ("v",), ("w",)),
        ("Identity", ("w",), ("w2",)),
        ("Loop", ("n", "c", "x", "go2", "w", "w2"), ("y", "s")),
    ]
    assert found.graph.depends_on_input("v")


def test_a_loop_over_constants_stays_independent_of_the_data() -> None:
    found = parse(
        "g (float[1, 2] z) => (y) <float[2] k = {1, 1}, int64 n = {3}, bool c = {1},"
        " float[1, 2] x = {1, 1}> {" + LOOP + "}"
    )
    assert not found.graph.depends_on_input("v")


def test_a_scan_is_read_like_a_loop() -> None:
    found = parse(
        "g (float[3, 2] x, float[2] h) => (y) {"
        " y, z = Scan (h, x) <num_scan_inputs = 1, body = b (float[2] state, float[2] each)"
        " => (float[2] next, float[2] out) { next = Add(state, each) out = Relu(next) }> }"
    )
    assert [op for op, *_ in wiring(found.graph)] == ["Scan", "Add", "Relu", "Scan"]


def test_bodies_inside_functions_see_the_call_s_attributes_and_values() -> None:
    found = parse(
        f"g (float[1, 2] x, bool c) => (y) {PARAMETERS}"
        f"{{ y = local.f<eps = 0.125>(x, c, bn_var) }} {FUNCTION} f<eps>(x, c, p) => (y) {{"
        " y = If (c) <then_branch = t () => (float[1, 2] o)"
        " { o = BatchNormalization<epsilon : float = @eps>(x, p, p, p, p) },"
        " else_branch = e () => (float[1, 2] o) { o = Identity(x) }> }"
    )
    assert found.layers[0].eps == 0.125
    assert wiring(found.graph)[0] == ("BatchNormalization", ("x",), ("o",))


def test_a_body_given_as_an_attribute_keeps_the_names_of_where_it_was_written() -> None:
    helper = onnx.helper
    info = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Neg", ["h"], ["o"])], "b", [], [info("o", 1, [2])]
    )
    inside = helper.make_node("If", ["c"], ["r"])
    for name in ("then_branch", "else_branch"):
        inside.attribute.append(
            onnx.AttributeProto(name=name, type=onnx.AttributeProto.GRAPH, ref_attr_name="body")
        )
    shadow = helper.make_node("Exp", ["c"], ["h"])
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "f", ["c"], ["r"], [shadow, inside], opset, ["body"])
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("f", ["c"], ["y"], domain="local", body=branch),
    ]
    graph = helper.make_graph(
        nodes, "g", [info("x", 1, [2]), info("c", 9, [])], [info("y", 1, None)]
    )
    model = helper.make_model(graph, opset_imports=opset, functions=[function])
    (found,) = read(BytesSource(model.SerializeToString()))
    assert wiring(found.graph) == [
        ("Relu", ("x",), ("h",)),
        ("Exp", ("c",), ("h#2",)),
        ("Neg", ("h",), ("o",)),
        ("Neg", ("h",), ("o#2",)),
        ("If", ("c", "o", "o#2"), ("y",)),
    ]


def test_names_of_the_main_graph_are_kept_even_when_a_body_came_first() -> None:
    found = parse(
        "g (float[2] x, bool c) => (o) {"
        " r = If (c) <then_branch = t () => (float[2] o) { o = Neg(x) },"
        " else_branch = e () => (float[2] q) { q = Exp(x) }> o = Relu(r) }"
    )
    assert wiring(found.graph) == [
        ("Neg", ("x",), ("o#2",)),
        ("Exp", ("x",), ("q",)),
        ("If", ("c", "o#2", "q"), ("r",)),
        ("Relu", ("r",), ("o",)),
    ]


def test_shapes_inside_bodies_are_known_under_their_flat_names() -> None:
    found = parse(
        "g (float[2] x, bool c) => (o) {"
        " o = If (c) <then_branch = t () => (float[2] o) { o = Neg(x) },"
        " else_branch = e () => (float[7] o) { o = Exp(x) }> }"
    )
    assert found.graph.shapes["o#2"] == (2,)
    assert found.graph.shapes["o#3"] == (7,)


def test_shapes_inside_functions_are_known_under_their_flat_names() -> None:
    proto = onnx.parser.parse_model(
        f"{HEADER} g (float[2] x) => (y) {{ y = local.f(x) }}"
        f"{FUNCTION} f(x) => (y) {{ t = Neg(x) y = Exp(t) }}"
    )
    info = onnx.helper.make_tensor_value_info("t", 1, [2, 9])
    proto.functions[0].value_info.append(info)
    (found,) = read(BytesSource(proto.SerializeToString()))
    assert found.graph.shapes["t"] == (2, 9)


def test_parameters_inside_a_body_name_the_layer_although_they_were_renamed() -> None:
    branch = f"(float[1, 2] o) {PARAMETERS} {{ o = {CALL} }}"
    found = parse(
        "g (float[1, 2] x, bool c) => (y) {"
        f" y = If (c) <then_branch = t () => {branch}, else_branch = e () => {branch}> }}"
    )
    assert [layer.name for layer in found.layers] == ["bn", "bn#2"]


NESTED = [
    "g (float[2] x) => (y) { a = local.f(x) y = local.g(a) }"
    f"{FUNCTION} f(x) => (y) {{ t = Neg(x) y = local.g(t) }}"
    f"{FUNCTION} g(x) => (y) {{ t = Exp(x) u = Relu(t) y = Add(u, x) }}",
    "g (float[2] x, bool c) => (y) { y = local.f(x, c) }"
    f"{FUNCTION} f(x, c) => (y) {{ y = If (c) <then_branch = t () => (float[2] o)"
    " { o = local.g(x) }, else_branch = e () => (float[2] o) { o = Neg(x) }> }"
    f"{FUNCTION} g(x) => (y) {{ y = Exp(x) }}",
]


@pytest.mark.parametrize("text", NESTED)
def test_functions_are_inlined_as_inlines_them(text: str) -> None:
    proto = onnx.parser.parse_model(f"{HEADER} {text}")
    inlined = pytest.importorskip("onnx.inliner").inline_local_functions(proto)
    assert not inlined.functions
    (ours,) = read(BytesSource(proto.SerializeToString()))
    (theirs,) = read(BytesSource(inlined.SerializeToString()))
    assert _shape_of(ours.graph) == _shape_of(theirs.graph)


def _shape_of(graph: Graph) -> Sequence[tuple[str, tuple[int, ...]]]:
    """Operators and which of them made their inputs, whatever the values are called."""
    makers = {value: i for i, node in enumerate(graph.nodes) for value in node.outputs}
    return [
        (node.op, tuple(makers.get(value, -1) for value in node.inputs)) for node in graph.nodes
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[2] x) => (y) { y = Relu(h) h = Neg(x) }", "reads 'h', which nothing makes"),
        ("g (float[2] x) => (nothing) { y = Relu(x) }", "the graph reads 'nothing'"),
        ("g (float[2] x) => (y) { y = Relu(x) y = Neg(x) }", "makes value 'y' twice"),
        ("g (float[2] x) => (x) { x = Relu(x) }", "makes value 'x' twice"),
        ("g (float[2] x) => (y) <float[1] y = {1}> { y = Relu(x) }", "makes value 'y' twice"),
        ("g (float[2] x, float[2] x) => (y) { y = Relu(x) }", "makes value 'x' twice"),
        (
            "g (float[2] x) => (y) <float[1] k = {1}, float[1] k = {2}> { y = Add(x, k) }",
            "makes value 'k' twice",
        ),
        (
            "g (float[2] x, bool c) => (y) {"
            " y = If (c) <then_branch = t () => (float[2] o) { o = Neg(later) },"
            " else_branch = e () => (float[2] o) { o = Exp(x) }> later = Relu(x) }",
            "reads 'later'",
        ),
        (
            "g (float[2] x) => (y) { h = Neg(x) y = local.f(x) }"
            + FUNCTION
            + "f(x) => (y) { y = Relu(h) }",  # functions do not capture
            "reads 'h'",
        ),
        (
            "g (float[2] x) => (y) { y = local.f(x, x) }" + FUNCTION + "f(x) => (y) {y = Relu(x)}",
            "too many arguments",
        ),
        (
            "g (float[2] x) => (y) { y = local.f(x) }" + FUNCTION + "f(x, x) => (y) {y = Relu(x)}",
            "two inputs of one name",
        ),
        (
            "g (float[2] x) => (y) { y = local.f(x) }"
            + f"{FUNCTION} f(x) => (y) {{ y = Relu(x) }}" * 2,
            "holds function 'f' twice",
        ),
        (
            "g (float[2] x) => (y) { y = local.f(x) }" + FUNCTION + "f(x) => (y) { z = Relu(x) }",
            "reads 'y'",
        ),
        (
            "g (float[2] x) => (y) { y = local.f(x) }" + FUNCTION + "f(x) => (y) {y = local.f(x)}",
            "deep",
        ),
    ],
)
def test_graphs_with_two_readings_or_none_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UnreadableModel, match=reason):
        parse(text)


def test_operators_need_a_version() -> None:
    proto = onnx.parser.parse_model(f"{HEADER} g (float[2] x) => (y) {{ y = Relu(x) }}")
    del proto.opset_import[0]
    with pytest.raises(UnreadableModel, match="which version"):
        read(BytesSource(proto.SerializeToString()))


@pytest.mark.parametrize("leaf", ["y = Relu(x)", "y = Identity(x) z = Neg(x)"])
def test_functions_that_multiply_are_refused_in_time(
    leaf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "MOST_NODES", 10_000)
    calls = "".join(
        f"{FUNCTION} f{i}(x) => (y) {{ a = local.f{i + 1}(x) y = local.f{i + 1}(a) }}"
        for i in range(40)
    )
    with pytest.raises(UnreadableModel, match="too many for a model"):
        parse(
            f"g (float[2] x) => (y) {{ y = local.f0(x) }} {calls}"
            f"{FUNCTION} f40(x) => (y) {{ {leaf} }}"
        )


def test_names_that_multiply_are_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "MOST_NAMES", 10_000)
    calls = " ".join(f"y{i} = local.f(x)" for i in range(100))
    operands = ", ".join("x" * 200)
    with pytest.raises(UnreadableModel, match="too many for a model"):
        parse(
            f"g (float[2] x) => (y0) {{ {calls} }} {FUNCTION} f(x) => (y) {{ y = Sum({operands}) }}"
        )
