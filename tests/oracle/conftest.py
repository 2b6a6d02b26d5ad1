"""Real architectures, small, with random statistics; each is built once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

PYTORCHCV = (
    "resnet10",
    "preresnet18_wd4",
    "seresnet10",
    "mobilenetv2_wd4",
    "shufflenetv2_wd2",
    "sqnxt23_w1",
    "densenet121",
    "efficientnet_b0",
    "bninception",
    "mixnet_s",
    "ibn_resnet50",
    "shufflenet_g1_wd4",
)
TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
DECODER = {**TRANSFORMER, "vocab_size": 32, "num_key_value_heads": 1, "head_dim": 8}
IMAGE = {**TRANSFORMER, "image_size": 16, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", {**TRANSFORMER, "vocab_size": 32}),
    "gpt2": (
        "GPT2Config",
        "GPT2Model",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32},
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", DECODER),
    "gemma": ("GemmaConfig", "GemmaModel", DECODER),
    "qwen3": ("Qwen3Config", "Qwen3Model", DECODER),
    "t5": (
        "T5Config",
        "T5Model",
        {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 32},
    ),
    "vit": ("ViTConfig", "ViTModel", IMAGE),
    "resnet": ("ResNetConfig", "ResNetModel", {"embedding_size": 8, **STAGES}),
    "mobilenet_v2": ("MobileNetV2Config", "MobileNetV2Model", {"depth_multiplier": 0.35}),
    "convnext": ("ConvNextConfig", "ConvNextModel", {"num_stages": 2, **STAGES}),
    "wav2vec2": (
        "Wav2Vec2Config",
        "Wav2Vec2Model",
        {
            **TRANSFORMER,
            "conv_dim": [8, 8],
            "conv_kernel": [3, 3],
            "conv_stride": [2, 2],
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 2,
        },
    ),
    "levit": (
        "LevitConfig",
        "LevitModel",
        {
            "image_size": 32,
            "hidden_sizes": [16, 16, 16],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
    ),
}


def of_pytorchcv(name: str) -> Any:
    return pytest.importorskip("pytorchcv.model_provider").get_model(name, pretrained=False)


def of_transformers(name: str) -> Any:
    transformers = pytest.importorskip("transformers")
    config, model, options = TRANSFORMERS[name]
    module = getattr(transformers, model)(getattr(transformers, config)(**options))
    remove_parametrizations(module)
    return module


def remove_parametrizations(module: Any) -> None:
    """torch saves no module as a whole that has some."""
    from torch.nn.utils import parametrize

    for part in filter(parametrize.is_parametrized, [*module.modules()]):
        for name in [*part.parametrizations]:
            parametrize.remove_parametrizations(part, name)
        part._load_state_dict_pre_hooks.clear()


def kinds() -> Any:
    """One layer of each kind, and of most of its options."""
    from torch import nn

    return nn.ModuleDict(
        {
            "one": nn.BatchNorm1d(3, eps=1e-3),
            "cumulative": nn.BatchNorm2d(4, momentum=None),
            "plain": nn.BatchNorm3d(5, affine=False),
            "untracked": nn.BatchNorm2d(4, track_running_stats=False),
            "frozen": nn.BatchNorm2d(6).eval().requires_grad_(False),
            "sync": nn.SyncBatchNorm(6),
            "in_double": nn.BatchNorm2d(3).double(),
            "in_half": nn.BatchNorm2d(3).half(),
            "instance": nn.InstanceNorm2d(4),
            "instance_affine": nn.InstanceNorm1d(4, affine=True),
            "instance_tracked": nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
            "group": nn.GroupNorm(2, 4),
            "group_plain": nn.GroupNorm(2, 4, affine=False),
            "layer": nn.LayerNorm((3, 4)),
            "layer_norm_without_bias": nn.LayerNorm(4, bias=False),
            "rms_norm": nn.RMSNorm(4),
            "response": nn.LocalResponseNorm(3),
            "block": nn.Sequential(
                nn.Conv2d(3, 4, 1), nn.PReLU(4), nn.Linear(1, 4), nn.Embedding(3, 4)
            ),
        }
    )


def diffusion() -> Any:
    """A residual block as those of diffusion models: GroupNorm, SiLU, time embedding, attention."""
    from torch import nn

    def residual(channels: int) -> Any:
        return nn.ModuleDict(
            {
                "norm1": nn.GroupNorm(4, channels, eps=1e-6),
                "conv1": nn.Conv2d(channels, channels, 3, padding=1),
                "time_emb_proj": nn.Linear(8, channels),
                "norm2": nn.GroupNorm(4, channels, eps=1e-6),
                "attention": nn.MultiheadAttention(channels, 2),
            }
        )

    return nn.ModuleList([residual(8), residual(16)])


OTHERS: dict[str, Callable[[], Any]] = {"kinds": kinds, "diffusion": diffusion}
NAMES = (
    *(f"pytorchcv {name}" for name in PYTORCHCV),
    *(f"transformers {name}" for name in TRANSFORMERS),
    *(f"torch {name}" for name in OTHERS),
)


def build(name: str) -> Any:
    library, _, short = name.partition(" ")
    if library == "pytorchcv":
        return of_pytorchcv(short)
    return of_transformers(short) if library == "transformers" else OTHERS[short]()


def randomize(module: Any) -> None:
    """Statistics, scales and flags that no two layers share."""
    import torch

    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for index, part in enumerate(module.modules()):
            if getattr(part, "running_var", None) is not None:
                part.running_mean.copy_(torch.randn(part.running_mean.shape, generator=chance))
                part.running_var.copy_(torch.rand(part.running_var.shape, generator=chance) + 0.5)
                if part.num_batches_tracked is not None:
                    part.num_batches_tracked.fill_(index)
            if "norm" in type(part).__name__.lower():
                for held in part.parameters(recurse=False):
                    held.add_(torch.randn(held.shape, generator=chance) / 10)
                part.train(index % 3 == 0)
                part.requires_grad_(index % 4 != 0)


@dataclass(eq=False)
class Architecture:
    """A module, and the files that it is saved in."""

    name: str
    module: Any
    folder: Path

    @cached_property
    def state_dict(self) -> dict[str, Any]:
        return self.module.state_dict()

    def save(self, form: str) -> Path:
        """The file of a form, written on first use."""
        path = self.folder / f"{form}.bin"
        if not path.exists():
            self._write(form, path)
        return path

    def _write(self, form: str, path: Path) -> None:
        import torch

        state_dict = self.state_dict
        if form == "safetensors":
            save_file = pytest.importorskip("safetensors.torch").save_file
            return save_file({name: t.clone() for name, t in state_dict.items()}, path)
        wrapped = {f"module.{name}": value for name, value in state_dict.items()}
        values = {
            "module": self.module,
            "state_dict": state_dict,
            "plain state_dict": dict(state_dict),
            "checkpoint": {"epoch": 3, "model": wrapped},
            "old module": self.module,
            "old state_dict": state_dict,
        }
        return torch.save(values[form], path, _use_new_zipfile_serialization="old" not in form)


@pytest.fixture(scope="session", params=NAMES)
def architecture(request, tmp_path_factory) -> Iterator[Architecture]:
    pytest.importorskip("torch").manual_seed(0)
    module = build(request.param)
    randomize(module)
    folder = tmp_path_factory.mktemp("architecture")
    yield Architecture(request.param, module, folder)
    for path in folder.iterdir():
        path.unlink()
