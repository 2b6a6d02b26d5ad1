"""Seeds in the formats of torch and safetensors, written by the libraries themselves."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from seed import Seed, in_folder


def network() -> Any:
    from torch import nn

    trained = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.GroupNorm(2, 4)
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 2))
    network = nn.Sequential(trained, head).eval()
    nn.init.uniform_(network[0][1].running_var, 0.5, 2.0)
    return network


def example() -> tuple[Any, ...]:
    import torch

    return (torch.randn(2, 3, 8, 8),)


def torch_zips() -> Iterator[Seed]:
    for name, value in _saved().items():
        yield Seed("torch-zip", name, {"model": saved(value)})
    for protocol in (3, 4, 5):
        name = f"module, protocol {protocol}"
        yield Seed("torch-zip", name, {"model": saved(network(), pickle_protocol=protocol)})


def saved(value: object, **options: object) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _saved() -> dict[str, object]:
    import torch

    state, net = network().state_dict(), network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    net(*example()).sum().backward()
    optimizer.step()
    return {
        "state_dict": state,
        "module": net,
        "in bfloat16": {name: tensor.bfloat16() for name, tensor in state.items()},
        "odd tensors": {
            "bn.running_mean": torch.zeros(4).to_sparse(),
            "bn.running_var": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
            "bn.weight": torch.empty(4, device="meta"),
            "bn.bias": torch.ones(8).float()[::2],
            "ln.weight": torch.ones(4).to(torch.float8_e4m3fn),
        },
        "checkpoint": {
            "epoch": 3,
            "model": net,
            "ema": network().half(),
            "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
            "optimizer": optimizer.state_dict(),
            "hyper_parameters": {"batch_size": 2},
            "train_args": {"batch": 16, "device": "0"},
        },
    }


def legacy() -> Iterator[Seed]:
    for name, value in _saved().items():
        data = saved(value, _use_new_zipfile_serialization=False)
        yield Seed("torch-legacy", name, {"model": data})
    for protocol in (4, 5):
        data = saved(network(), _use_new_zipfile_serialization=False, pickle_protocol=protocol)
        yield Seed("torch-legacy", f"module, protocol {protocol}", {"model": data})


def packages() -> Iterator[Seed]:
    from torch.package import PackageExporter

    buffer = io.BytesIO()
    with PackageExporter(buffer) as exporter:
        exporter.extern("**")
        exporter.save_pickle("net", "net.pkl", network())
        exporter.save_text("net", "notes.txt", "nothing")
    yield Seed("torch-package", "module", {"model": buffer.getvalue()})


def distributed() -> Iterator[Seed]:
    from torch.distributed import checkpoint

    for name, state in (("state_dict", network().state_dict()), ("nested", _nested())):
        files = in_folder(lambda folder, held=state: checkpoint.save(held, checkpoint_id=folder))
        yield Seed("torch-distributed", name, files, "")


def _nested() -> dict[str, Any]:
    import torch
    from torch.distributed.checkpoint.state_dict import get_state_dict

    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    model, state = get_state_dict(net, optimizer)
    return {"model": model, "optimizer": state, "epoch": 3}


def torchscripts() -> Iterator[Seed]:
    import torch

    scripted = torch.jit.script(network())
    traced = torch.jit.trace(network(), example())
    for name, module in (
        ("scripted", scripted),
        ("scripted, training", torch.jit.script(network().train())),
        ("traced", traced),
        ("frozen", torch.jit.freeze(scripted)),
    ):
        buffer = io.BytesIO()
        torch.jit.save(module, buffer)
        yield Seed("torchscript", name, {"model": buffer.getvalue()})


def exported() -> Iterator[Seed]:
    from torch.export import Dim, export, save

    net = network()
    program = export(net, example(), dynamic_shapes={"input": {0: Dim("batch", min=2)}})
    for name, held in (
        ("exported", program),
        ("decomposed", program.run_decompositions()),
        ("training", export(network().train(), example())),
    ):
        buffer = io.BytesIO()
        save(held, buffer)
        yield Seed("torch-export", name, {"model": buffer.getvalue()})
    with zipfile.ZipFile(buffer) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("models/model.json"))
        document = archive.read(name)
    old = {
        "serialized_exported_program.json": document,
        "serialized_state_dict.pt": saved(net.state_dict()),
        "serialized_constants.pt": saved({}),
        "version": b"8.2",
    }
    yield Seed("torch-export", "older layout", {"model": zipped(old)})


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A plain archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def safetensors() -> Iterator[Seed]:
    from safetensors.torch import save

    state = network().state_dict()
    yield Seed("safetensors", "state_dict", {"model": save(state, {"format": "pt"})})
    half = {name: tensor.half() for name, tensor in state.items()}
    yield Seed("safetensors", "in float16", {"model": save(half)})


def folders() -> Iterator[Seed]:
    """Models with files beside them that are read too."""
    from argparse import Namespace

    from safetensors.torch import save

    state = network().state_dict()
    names = [*state]
    halves = [{name: state[name] for name in part} for part in (names[:5], names[5:])]
    for suffix, write, index in (
        ("safetensors", save, "model.safetensors.index.json"),
        ("bin", saved, "pytorch_model.bin.index.json"),
    ):
        where = {name: f"{i}.{suffix}" for i, half in enumerate(halves) for name in half}
        document = {"metadata": {"total_size": 1}, "weight_map": where}
        files = {f"{i}.{suffix}": write(half) for i, half in enumerate(halves)}
        files[index] = json.dumps(document).encode()
        yield Seed("folder", f"shards of {suffix}", files, index)
    config = {
        "model_type": "efficientnet",
        "architectures": ["EfficientNetForImageClassification"],
        "batch_norm_eps": 1e-3,
    }
    transformers = {
        "pytorch_model.bin": saved(state),
        "config.json": json.dumps(config).encode(),
        "training_args.bin": saved(Namespace(per_device_train_batch_size=2)),
    }
    yield Seed("folder", "transformers", transformers, "pytorch_model.bin")
    mlmodel = b"flavors:\n  python_function:\n    data: data\n    loader_module: mlflow.pytorch\n"
    mlflow = {"MLmodel": mlmodel, "data/model.pth": saved(network().train())}
    yield Seed("folder", "mlflow", mlflow, "data/model.pth")
