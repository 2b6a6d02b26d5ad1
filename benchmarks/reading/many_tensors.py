"""Builds files of very many small tensors: ``python many_tensors.py KIND FORMAT TENSORS FILE``.

``batch-norm``: a convolution and a BatchNorm in turns, 6 tensors for each pair. ``experts``: a
mixture of experts, one RMSNorm for 99 matrices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

CHANNELS = 16
MATRICES = 99
Named = dict[str, Tensor]


def _batch_norms() -> Iterator[tuple[str, Tensor]]:
    number = 0
    while True:
        yield f"layers.{number}.conv.weight", torch.randn(CHANNELS, CHANNELS, 1, 1)
        yield f"layers.{number}.bn.weight", torch.rand(CHANNELS) + 0.5
        yield f"layers.{number}.bn.bias", torch.randn(CHANNELS)
        yield f"layers.{number}.bn.running_mean", torch.randn(CHANNELS)
        yield f"layers.{number}.bn.running_var", torch.rand(CHANNELS) + 0.5
        yield f"layers.{number}.bn.num_batches_tracked", torch.tensor(10_000)
        number += 1


def _experts() -> Iterator[tuple[str, Tensor]]:
    number = 0
    while True:
        yield f"layers.{number}.norm.weight", torch.rand(CHANNELS) + 0.5
        for expert in range(MATRICES):
            name = f"layers.{number}.experts.{expert}.projection.weight"
            yield name, torch.randn(CHANNELS, CHANNELS)
        number += 1


def _torch_zip(tensors: Named, path: Path) -> None:
    torch.save(tensors, path)


def _safetensors(tensors: Named, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path)


def _onnx(tensors: Named, path: Path) -> None:
    """One node for each weight, one behind the other."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    stored = {name: held for name, held in tensors.items() if held.dim()}
    nodes = [
        helper.make_node(op, [f"v{number}", *operands], [f"v{number + 1}"])
        for number, (op, operands) in enumerate(_operations(stored))
    ]
    initializers = [numpy_helper.from_array(held.numpy(), name) for name, held in stored.items()]
    first = helper.make_tensor_value_info("v0", TensorProto.FLOAT, [1, CHANNELS] * 2)
    last = helper.make_tensor_value_info(f"v{len(nodes)}", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "many", [first], [last], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def _operations(tensors: Named) -> Iterator[tuple[str, list[str]]]:
    for name in tensors:
        layer, _, leaf = name.rpartition(".")
        if leaf == "running_var":
            roles = ("weight", "bias", "running_mean", "running_var")
            yield "BatchNormalization", [f"{layer}.{role}" for role in roles]
        elif layer.endswith("conv"):
            yield "Conv", [name]
        elif layer.endswith("projection"):
            yield "MatMul", [name]
        elif layer.endswith("norm"):
            yield "LayerNormalization", [name]


KINDS: Mapping[str, Callable[[], Iterator[tuple[str, Tensor]]]] = {
    "batch-norm": _batch_norms,
    "experts": _experts,
}
WRITERS: Mapping[str, Callable[[Named, Path], None]] = {
    "state-dict": _torch_zip,
    "safetensors": _safetensors,
    "onnx": _onnx,
}

if __name__ == "__main__":
    kind, form, count, file = sys.argv[1:]
    WRITERS[form](dict(islice(KINDS[kind](), int(count))), Path(file))
