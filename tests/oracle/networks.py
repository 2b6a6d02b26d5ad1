"""Small networks of real families, each with an input: a few channels, a block a stage."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

from own_networks import OWN  # noqa: E402  (after the skip)

ONE_BLOCK_EACH = {"channels": [[16], [32]], "init_block_channels": 16, "bottleneck": False}
# module and class of pytorchcv, size of the image, arguments
PYTORCHCV: dict[str, tuple[str, int, dict[str, Any]]] = {
    "resnet": ("ResNet", 56, {**ONE_BLOCK_EACH, "bottleneck": True, "conv1_stride": True}),
    "preresnet": ("PreResNet", 56, {**ONE_BLOCK_EACH, "conv1_stride": True}),
    "seresnet": ("SEResNet", 56, {**ONE_BLOCK_EACH, "conv1_stride": True}),
    "cbamresnet": ("CbamResNet", 56, ONE_BLOCK_EACH),
    "diaresnet": ("DIAResNet", 56, {**ONE_BLOCK_EACH, "conv1_stride": True}),
    "ibnresnet": ("IBNResNet", 56, {"channels": [[16], [32]], "init_block_channels": 8}),
    "densenet": (
        "DenseNet",
        56,
        {"channels": [[12, 16], [12, 16]], "init_block_channels": 8, "dropout_rate": 0.1},
    ),
    "mobilenet": ("MobileNet", 28, {"channels": [[4], [8], [16]], "first_stage_stride": False}),
    "mobilenetv2": (
        "MobileNetV2",
        56,
        {
            "channels": [[4], [8, 8], [8]],
            "init_block_channels": 4,
            "final_block_channels": 16,
            "remove_exp_conv": False,
        },
    ),
    "mobilenetv3": (
        "MobileNetV3",
        56,
        {
            "channels": [[8], [8, 8]],
            "exp_channels": [[8], [16, 16]],
            "init_block_channels": 8,
            "final_block_channels": 16,
            "classifier_mid_channels": 16,
            "kernels3": [[1], [1, 0]],
            "use_relu": [[1], [1, 0]],
            "use_se": [[1], [0, 1]],
            "first_stride": True,
            "final_use_se": False,
        },
    ),
    "shufflenetv2": (
        "ShuffleNetV2",
        112,
        {"channels": [[16, 16], [32]], "init_block_channels": 8, "final_block_channels": 16},
    ),
    "menet": (
        "MENet",
        112,
        {"channels": [[16], [32]], "init_block_channels": 8, "side_channels": 4, "groups": 4},
    ),
    "regnet": (
        "RegNet",
        56,
        {"channels": [[8], [16]], "init_block_channels": 8, "groups": [4, 4], "use_se": True},
    ),
    "efficientnet": (
        "EfficientNet",
        56,
        {
            "channels": [[4], [8, 8], [8]],
            "init_block_channels": 4,
            "final_block_channels": 16,
            "kernel_sizes": [[3], [3, 5], [3]],
            "strides_per_stage": [1, 2, 2],
            "expansion_factors": [[1], [6, 6], [6]],
        },
    ),
    "mixnet": (
        "MixNet",
        56,
        {
            "channels": [[8], [8, 8]],
            "init_block_channels": 8,
            "final_block_channels": 16,
            "exp_kernel_counts": [[1], [2, 1]],
            "conv1_kernel_counts": [[1], [1, 2]],
            "conv2_kernel_counts": [[1], [2, 2]],
            "exp_factors": [[1], [6, 3]],
            "se_factors": [[0], [2, 0]],
        },
    ),
    "darknet53": ("DarkNet53", 28, {"channels": [[8], [16, 16]], "init_block_channels": 4}),
}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
# configuration and model of transformers, arguments
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mobilevit": (
        "MobileViTConfig",
        "MobileViTModel",
        {
            "hidden_sizes": [8, 8, 8],
            "neck_hidden_sizes": [8] * 7,
            "num_attention_heads": 2,
            "image_size": 32,
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
    "convnext": ("ConvNextConfig", "ConvNextModel", {"num_stages": 2, **STAGES}),
    "swin": (
        "SwinConfig",
        "SwinModel",
        {"image_size": 32, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4},
    ),
    "poolformer": (
        "PoolFormerConfig",
        "PoolFormerModel",
        {
            **STAGES,
            "num_encoder_blocks": 2,
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "padding": [2, 1],
        },
    ),
    "bit": (
        "BitConfig",
        "BitModel",
        {"embedding_size": 8, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 2},
    ),
}


class First(nn.Module):
    """What a network of transformers gives first."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)[0]


NAMES = (*PYTORCHCV, *TRANSFORMERS, *OWN)


def network(name: str) -> tuple[Any, Any]:
    """A network in eval mode whose parameters no two layers share, and an input."""
    torch.manual_seed(0)
    module, shape = _made(name)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return module.eval().requires_grad_(False), torch.randn(shape)


def _made(name: str) -> tuple[Any, tuple[int, ...]]:
    if name in OWN:
        make, shape = OWN[name]
        return make(), shape
    if name in TRANSFORMERS:
        return First(_of_transformers(name)), (1, 3, 32, 32)
    pytest.importorskip("pytorchcv")
    kind, size, arguments = PYTORCHCV[name]
    make = getattr(importlib.import_module(f"pytorchcv.models.{name}"), kind)
    return make(**arguments, in_size=(size, size), num_classes=4), (1, 3, size, size)


def _of_transformers(name: str) -> Any:
    transformers = pytest.importorskip("transformers")
    kind, model, arguments = TRANSFORMERS[name]
    config = getattr(transformers, kind)(**arguments)
    config._attn_implementation = "eager"  # in single operators, where torch has one for all
    return getattr(transformers, model)(config)
