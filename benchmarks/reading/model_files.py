"""Builds the model files that are measured: a healthy resnet50 of 53 BatchNorm layers.

``python -m benchmarks.reading.model_files FORMAT BYTES FILE`` writes one file, and what belongs
beside it. A larger one has the same norm layers and a deeper classifier. It is a process of its
own, so that the one that measures stays small.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pytorchcv.model_provider import get_model  # type: ignore[import-untyped]
from torch import Tensor, nn

FEATURES = 2048
CLASSES = 1000
BLOCK_BYTES = 128 << 20  # of the two matrices of a classifier's block, together
SHARDS = 4


def resnet50(size: int) -> nn.Module:
    """In eval mode with plausible statistics, and about ``size`` bytes large (at least its own)."""
    torch.manual_seed(0)
    model: nn.Module = get_model("resnet50", pretrained=False)
    missing = size - sum(p.nbytes for p in model.parameters())
    if missing > 0:
        model.output = nn.Sequential(*_blocks(missing), nn.Linear(FEATURES, CLASSES))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            train(module)
    return model.eval()


def _blocks(size: int) -> list[nn.Module]:
    count = math.ceil(size / BLOCK_BYTES)
    width = size // (count * 2 * FEATURES * torch.float32.itemsize)
    shapes = [(FEATURES, width), (width, FEATURES)] * count
    layers = [_filled(*shape, 1e-3 * (1 + place)) for place, shape in enumerate(shapes)]
    return [each for layer in layers for each in (layer, nn.ReLU())]


@torch.no_grad()
def _filled(features: int, width: int, value: float) -> nn.Module:
    """A linear layer without the wait for random numbers.

    No zeros, which a disk may leave out; no two alike, which an exporter would store once.
    """
    layer = nn.utils.skip_init(nn.Linear, features, width)
    for parameter in layer.parameters():
        parameter.fill_(value)
    return layer


@torch.no_grad()
def train(norm: nn.Module) -> None:
    """Make a BatchNorm look like one after training."""
    parameters, statistics = dict(norm.named_parameters()), dict(norm.named_buffers())
    parameters["weight"].uniform_(0.5, 1.5)
    parameters["bias"].normal_()
    statistics["running_mean"].normal_()
    statistics["running_var"].uniform_(0.5, 2.0)
    statistics["num_batches_tracked"].fill_(10_000)


def _image() -> Tensor:
    return torch.zeros(1, 3, 224, 224)


def _state_dict(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path)


def _module(model: nn.Module, path: Path) -> None:
    torch.save(model, path)


def _legacy(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)


def _torchscript(model: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(model, _image(), check_trace=False), path)


def _exported(model: nn.Module, path: Path) -> None:
    torch.export.save(torch.export.export(model, (_image(),)), path)


def _safetensors(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(model.state_dict(), path)


def _safetensors_shards(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    _shards(model, path, "model-{:05d}-of-{:05d}.safetensors", save_file)


def _bin_shards(model: nn.Module, path: Path) -> None:
    _shards(model, path, "pytorch_model-{:05d}-of-{:05d}.bin", torch.save)


def _shards(
    model: nn.Module, index: Path, names: str, save: Callable[[dict[str, Tensor], Path], object]
) -> None:
    """Files of about the same size, and the index that says what lies in which."""
    state = model.state_dict()
    whole = sum(tensor.nbytes for tensor in state.values())
    shards: list[dict[str, Tensor]] = [{} for _ in range(SHARDS)]
    before = 0
    for name, tensor in state.items():
        shards[before * SHARDS // whole][name] = tensor
        before += tensor.nbytes
    files = {names.format(number, SHARDS): shard for number, shard in enumerate(shards, 1)}
    for file, shard in files.items():
        save(shard, index.with_name(file))
    places = {name: file for file, shard in files.items() for name in shard}
    index.write_text(json.dumps({"metadata": {"total_size": whole}, "weight_map": places}))


def _package(model: nn.Module, path: Path) -> None:
    from torch.package import PackageExporter

    with PackageExporter(path) as exporter:
        exporter.extern(["torch.**", "pytorchcv.**"])
        exporter.save_pickle("model", "model.pkl", model)


def _distributed(model: nn.Module, path: Path) -> None:
    from torch.distributed import checkpoint

    checkpoint.save(model.state_dict(), checkpoint_id=path, no_dist=True)


def _onnx(model: nn.Module, path: Path) -> None:
    """By the TorchScript exporter: what BatchNorm is left as, and weights inline up to 2 GB."""
    preserve = torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(model, (_image(),), str(path), dynamo=False, training=preserve)


def _onnx_external(model: nn.Module, path: Path) -> None:
    import onnx

    _onnx(model, path)
    proto = onnx.load(path)
    for file in path.parent.iterdir():
        file.unlink()  # over 2 GB the exporter writes a file for each tensor
    onnx.save(proto, path, save_as_external_data=True, location=f"{path.name}.data")


def _ort(model: nn.Module, path: Path) -> None:
    import onnxruntime as ort

    source = path.with_suffix(".onnx")
    _onnx(model, source)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    source.unlink()


WRITERS: Mapping[str, Callable[[nn.Module, Path], None]] = {
    "state-dict": _state_dict,
    "module": _module,
    "legacy": _legacy,
    "torchscript": _torchscript,
    "exported": _exported,
    "safetensors": _safetensors,
    "shards": _safetensors_shards,
    "bin-shards": _bin_shards,
    "package": _package,
    "distributed": _distributed,
    "onnx": _onnx,
    "onnx-external": _onnx_external,
    "ort": _ort,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the TorchScript exporter says that it is deprecated
    form, size, file = sys.argv[1:]
    WRITERS[form](resnet50(int(size)), Path(file))
