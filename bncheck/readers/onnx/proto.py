"""ONNX's messages, as far as bncheck needs them, from onnx.proto.

Bodies of control flow stay spans: whoever needs one reads it with ``read_graph``, so that nothing
here recurses on what a file nests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bncheck.errors import UnreadableModel
from bncheck.graph import Shape
from bncheck.readers.onnx.attribute import Attribute, read_attribute
from bncheck.readers.onnx.protobuf import INTEGER, PAYLOAD, Span, Walker, quoted, signed
from bncheck.readers.onnx.tensor import (
    COST,
    ENTRY,
    KEY,
    VALUE,
    TensorProto,
    read_sparse_tensor,
    read_tensor,
)

FIRST_IR_WITH_OPSETS = 3
COST_OF_NODE = 30  # as COST


@dataclass(slots=True)
class NodeProto:
    """One node; ``rewrites`` names the rules of onnxscript's rewriter that made it.

    ``scopes``: of a normalization, the modules it was exported from, outermost first, as
    torch.onnx writes them. ``span`` is where its message lies, in a file of protobuf.
    """

    op: str = ""
    domain: str = ""
    overload: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    scopes: str = ""
    span: Span | None = None

    def __str__(self) -> str:
        kind = f"{quoted(self.op)} node"
        return f"{kind} {quoted(self.name)}" if self.name else kind


@dataclass(slots=True)
class GraphProto:
    """One graph or body. ``inputs`` may list initializers too."""

    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)


@dataclass(slots=True)
class FunctionProto:
    """A local function: a body with formal inputs, outputs and attributes."""

    name: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    defaults: dict[str, Attribute] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class ModelProto:
    """A whole model; ``opsets`` gives the version of each domain, "" being ONNX's own."""

    graph: GraphProto
    opsets: dict[str, int]
    functions: list[FunctionProto]
    ir_version: int


_MODEL = {1: INTEGER, 7: PAYLOAD, 8: PAYLOAD, 25: PAYLOAD}
_OPSET = {1: PAYLOAD, 2: INTEGER}
_GRAPH = dict.fromkeys((1, 5, 11, 12, 13, 15), PAYLOAD)
_FUNCTION = dict.fromkeys((1, 4, 5, 7, 9, 10, 11, 12, 13), PAYLOAD)
_NODE = dict.fromkeys((1, 2, 3, 4, 5, 7, 8, 9), PAYLOAD)
_NAMED_AND_TYPED = dict.fromkeys((1, 2), PAYLOAD)
_TENSOR_TYPE, _TENSOR_SHAPE, _DIMENSION = {1: PAYLOAD}, {2: PAYLOAD}, {1: PAYLOAD}
_DIMENSION_VALUE = {1: INTEGER}


def read_model(walker: Walker) -> ModelProto:
    """The model that a source holds; raises UnreadableModel where it is not exactly one."""
    version = 0
    graphs: list[Span] = []
    opsets: dict[str, int] = {}
    functions: list[FunctionProto] = []
    for number, value, end in walker.fields((0, walker.source.size), _MODEL):
        if number == 1:
            version = value
        elif number == 7:
            graphs.append(Span(value, end))
        elif number == 8:
            _add_opset(opsets, walker, Span(value, end))
        else:
            functions.append(_read_function(walker, Span(value, end)))
    if len(graphs) != 1:  # protobuf merges two into one
        raise UnreadableModel(f"holds {len(graphs) or 'no'} graphs; a model has one")
    if not opsets and version < FIRST_IR_WITH_OPSETS:
        opsets[""] = 1
    return ModelProto(read_graph(walker, graphs[0]), opsets, functions, version)


def read_graph(walker: Walker, span: Span) -> GraphProto:
    """A GraphProto: the main graph, or the body of a node."""
    graph = GraphProto()
    for number, value, end in walker.fields(span, _GRAPH):
        at = Span(value, end)
        if number == 1:
            graph.nodes.append(_read_node(walker, at))
        elif number == 5:
            graph.initializers.append(read_tensor(walker, at))
        elif number == 15:
            graph.initializers.append(read_sparse_tensor(walker, at))
        else:
            name = _read_value_info(walker, at, graph.shapes)
            if number != 13:
                (graph.inputs if number == 11 else graph.outputs).append(name)
    return graph


def _read_function(walker: Walker, span: Span) -> FunctionProto:
    function = FunctionProto()
    texts: dict[int, str] = {}
    for number, value, end in walker.fields(span, _FUNCTION):
        at = Span(value, end)
        if number == 7:
            function.nodes.append(_read_node(walker, at))
        elif number == 9:
            _add_opset(function.opsets, walker, at)
        elif number == 11:
            add_attribute(function.defaults, read_attribute(walker, at))
        elif number == 12:
            _read_value_info(walker, at, function.shapes)
        elif number == 4:
            function.inputs.append(walker.text(at))
        elif number == 5:
            function.outputs.append(walker.text(at))
        else:
            texts[number] = walker.text(at)
    function.name, function.overload = texts.get(1, ""), texts.get(13, "")
    function.domain = canonical(texts.get(10, ""))
    return function


def _read_node(walker: Walker, span: Span) -> NodeProto:
    node = NodeProto(span=span)
    walker.charge(COST_OF_NODE)
    for number, value, end in walker.fields(span, _NODE):
        if number == 1:
            node.inputs.append(walker.text((value, end)))
        elif number == 2:
            node.outputs.append(walker.text((value, end)))
        elif number == 5:
            add_attribute(node.attributes, read_attribute(walker, Span(value, end)))
        elif number == 4:
            node.op = walker.word((value, end))
        elif number == 3:
            node.name = walker.text((value, end))
        elif number == 7:
            node.domain = canonical(walker.word((value, end)))
        elif number == 8:
            node.overload = walker.text((value, end))
        else:
            _add_metadata(node, walker, Span(value, end))
    return node


def canonical(domain: str) -> str:
    """ONNX's own domain has two names."""
    return "" if domain == "ai.onnx" else domain


def _add_metadata(node: NodeProto, walker: Walker, span: Span) -> None:
    """An entry of a node's metadata; the values of others are not even read."""
    entry = {number: Span(value, end) for number, value, end in walker.fields(span, ENTRY)}
    if KEY not in entry or VALUE not in entry:
        return
    key = walker.text(entry[KEY])
    if key.endswith("rewriter.rule_name"):
        names = walker.text(entry[VALUE])
        node.rewrites = tuple(name.strip() for name in names.split(","))
    elif key.endswith("onnx.name_scopes") and "Norm" in node.op:
        node.scopes = walker.text(entry[VALUE])


def add_attribute(attributes: dict[str, Attribute], attribute: Attribute) -> None:
    """Add to the attributes of a node; raises UnreadableModel where the name is taken."""
    if attributes.setdefault(attribute.name, attribute) is not attribute:
        raise UnreadableModel(f"gives one node two attributes {quoted(attribute.name)}")


def _add_opset(opsets: dict[str, int], walker: Walker, span: Span) -> None:
    """Of several versions of a domain the highest counts, says onnx.proto."""
    domain, version = "", 0
    for number, value, end in walker.fields(span, _OPSET):
        if number == 1:
            domain = canonical(walker.word((value, end)))
        else:
            version = signed(value)
    if version < 1:
        raise UnreadableModel(
            f"imports version {version} of {quoted(domain or 'ai.onnx')}; there is none"
        )
    opsets[domain] = max(version, opsets.get(domain, 0))


def _read_value_info(walker: Walker, span: Span, shapes: dict[str, Shape]) -> str:
    """The name of a value, whose shape is noted where it is given."""
    walker.charge(COST)
    name, shape = "", None
    for number, value, end in walker.fields(span, _NAMED_AND_TYPED):
        if number == 1:
            name = walker.text((value, end))
        else:
            shape = _read_shape(walker, Span(value, end))
    if shape is not None:
        shapes[name] = shape
    return name


def _read_shape(walker: Walker, type_: Span) -> Shape | None:
    """The shape in a TypeProto, where it is a tensor's."""
    for _, *tensor in walker.fields(type_, _TENSOR_TYPE):
        for _, *shape in walker.fields(Span(*tensor), _TENSOR_SHAPE):
            dimensions = walker.fields(Span(*shape), _DIMENSION)
            return tuple(_read_dimension(walker, Span(*each)) for _, *each in dimensions)
    return None


def _read_dimension(walker: Walker, span: Span) -> int | None:
    for _, value, _ in walker.fields(span, _DIMENSION_VALUE):
        return value if 0 < value < 1 << 63 else None
    return None
