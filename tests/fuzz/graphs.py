"""ONNX models with one layer, whose weight lies where a test says."""

from __future__ import annotations


def external(location: str) -> bytes:
    """Four numbers in a file beside the model."""
    import onnx

    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value=location)
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("RMSNormalization", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [1, 4])], [value("y", 1, [1, 4])])
    graph.initializer.append(tensor)
    opset = onnx.helper.make_opsetid("", 23)
    return bytes(onnx.helper.make_model(graph, opset_imports=[opset]).SerializeToString())
