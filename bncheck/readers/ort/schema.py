"""ORT's graphs, as the records that ONNX's messages are read into.

The fields are those of onnxruntime/core/flatbuffers/schema/ort.fbs, versions 1 to 6: nothing that
bncheck reads has changed in between. Of what the format adds nothing changes what a graph computes:
edges say again what the names of values say, and records of optimizations are for later.
"""

from __future__ import annotations

from bncheck.errors import UnreadableModel
from bncheck.graph import Shape
from bncheck.readers.onnx.proto import GraphProto, ModelProto, NodeProto, add_attribute, canonical
from bncheck.readers.onnx.protobuf import Span, quoted
from bncheck.readers.ort.budget import RECORD
from bncheck.readers.ort.flatbuffer import INT8, INT64, Buffer, Table
from bncheck.readers.ort.order import in_execution_order
from bncheck.readers.ort.tensor import read_attribute, read_sparse_tensor, read_tensor

KNOWN_VERSIONS = frozenset("123456")

# Where fields are in their tables
_ORT_VERSION, _MODEL = 0, 1
_IR_VERSION, _OPSET_IMPORT, _GRAPH = 0, 1, 7
_OPSET_DOMAIN, _OPSET_VERSION = 0, 1
_INITIALIZERS, _NODE_ARGS, _NODES, _INPUTS, _OUTPUTS, _SPARSE_INITIALIZERS = 0, 1, 2, 5, 6, 7
_NAME, _DOMAIN, _OP_TYPE, _READS, _MAKES, _ATTRIBUTES, _CAPTURED = 0, 2, 5, 8, 9, 10, 12
_VALUE_TYPE, _TYPE_IS, _TYPE, _TENSOR_SHAPE, _DIMENSIONS = 2, 1, 2, 1, 0
_DIMENSION, _DIMENSION_IS, _DIMENSION_VALUE = 0, 0, 1

_IS_TENSOR, _IS_NUMBER = 1, 1  # of TypeInfoValue and of DimensionValueType


def has_known_version(buffer: Buffer) -> bool:
    """Whether a source has the outermost table of an ORT file."""
    try:
        return buffer.root().text(_ORT_VERSION) in KNOWN_VERSIONS
    except UnreadableModel:
        return False


def read_model(buffer: Buffer) -> ModelProto:
    """The model that a source holds; raises UnreadableModel where there is none."""
    session = buffer.root()
    version = session.text(_ORT_VERSION)
    if version not in KNOWN_VERSIONS:
        raise UnreadableModel(
            f"is in version {quoted(version)} of the ORT format; bncheck reads 1 to 6: "
            "check the .onnx that it was converted from"
        )
    model = session.table(_MODEL)
    graph = model.table(_GRAPH) if model else None
    if model is None or graph is None:
        raise UnreadableModel("holds no graph: check the .onnx that it was converted from")
    opsets = dict(map(_read_opset, model.tables(_OPSET_IMPORT)))
    ir_version = model.integer(_IR_VERSION, INT64)
    return ModelProto(_read_graph(graph), opsets, functions=[], ir_version=ir_version)


def read_body(buffer: Buffer, span: Span) -> GraphProto:
    """The body of a node."""
    return _read_graph(buffer.table(span.begin))


def _read_opset(table: Table) -> tuple[str, int]:
    domain, version = canonical(table.text(_OPSET_DOMAIN)), table.integer(_OPSET_VERSION, INT64)
    if version < 1:
        raise UnreadableModel(
            f"imports version {version} of {quoted(domain or 'ai.onnx')}; there is none"
        )
    return domain, version


def _read_graph(table: Table) -> GraphProto:
    graph = GraphProto(
        initializers=[*map(read_tensor, table.tables(_INITIALIZERS))],
        inputs=table.texts(_INPUTS),
        outputs=table.texts(_OUTPUTS),
    )
    graph.initializers += map(read_sparse_tensor, table.tables(_SPARSE_INITIALIZERS))
    for value in table.tables(_NODE_ARGS):
        shape = _read_shape(value)
        if shape is not None:
            graph.shapes[value.text(_NAME)] = shape
    graph.nodes = in_execution_order([*map(_read_node, table.tables(_NODES))])
    return graph


def _read_node(table: Table) -> tuple[NodeProto, list[str]]:
    """A node, and the names of the values that its bodies read."""
    table.budget.keep(RECORD)
    node = NodeProto(
        op=table.text(_OP_TYPE),
        domain=canonical(table.text(_DOMAIN)),
        name=table.text(_NAME),
        inputs=table.texts(_READS),
        outputs=table.texts(_MAKES),
    )
    for attribute in map(read_attribute, table.tables(_ATTRIBUTES)):
        add_attribute(node.attributes, attribute)
    return node, table.texts(_CAPTURED)


def _read_shape(value: Table) -> Shape | None:
    """The shape in a ValueInfo, where it is a tensor's."""
    kind = value.table(_VALUE_TYPE)
    if kind is None or kind.integer(_TYPE_IS, INT8) != _IS_TENSOR:
        return None
    tensor = kind.table(_TYPE)
    shape = tensor.table(_TENSOR_SHAPE) if tensor else None
    if shape is None or shape.reference(_DIMENSIONS) is None:
        return None
    return tuple(map(_read_dimension, shape.tables(_DIMENSIONS)))


def _read_dimension(dimension: Table) -> int | None:
    value = dimension.table(_DIMENSION)
    if value is None or value.integer(_DIMENSION_IS, INT8) != _IS_NUMBER:
        return None
    size = value.integer(_DIMENSION_VALUE, INT64)
    return size if size > 0 else None
