"""The networks that are folded: real architectures with random weights and random statistics."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

IMAGE = (1, 3, 224, 224)
SIZES = {"xception": 299, "inceptionv3": 299, "inceptionv4": 299}
TRANSFORMERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "hf_resnet": ("ResNet", {"depths": [1, 1, 1, 1]}),
    "hf_regnet": ("RegNet", {"depths": [1, 1, 2, 1]}),
    "hf_mobilenetv1": ("MobileNetV1", {}),
    "hf_mobilenetv2": ("MobileNetV2", {}),
    "hf_levit": ("Levit", {}),
    "hf_efficientnet": ("EfficientNet", {}),
    "hf_mobilevit": ("MobileViT", {}),
    "hf_mobilevitv2": ("MobileViTV2", {}),
    "hf_cvt": ("Cvt", {"depth": [1, 1, 2]}),
}


class RepVggBlock(nn.Module):
    """Ding et al., arXiv:2101.03697: two convolutions and an identity, each normalized."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.narrow = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        wide, narrow = self.norms[0](self.wide(x)), self.norms[1](self.narrow(x))
        return torch.relu(wide + narrow + self.norms[2](x))


class UNet(nn.Module):
    """Ronneberger et al., arXiv:1505.04597, with transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = _block(3, 16), _block(16, 32)
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2), nn.BatchNorm2d(16))
        self.last = _block(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(nn.functional.max_pool2d(a, 2))
        return self.last(torch.cat([a, self.up(b)], 1))


class PointNet(nn.Module):
    """Qi et al., arXiv:1612.00593, without its transforms."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 64, 64, 128, 256)
        pairs = pairwise(sizes)
        layers = [(nn.Conv1d(i, o, 1), nn.BatchNorm1d(o), nn.ReLU()) for i, o in pairs]
        self.points = nn.Sequential(*(each for layer in layers for each in layer))
        self.head = nn.Sequential(nn.Linear(256, 64), nn.BatchNorm1d(64), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.points(x).amax(2))


class ConformerConvolution(nn.Module):
    """Gulati et al., arXiv:2005.08100, section 2.2: the convolution module."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, 31, padding=15, groups=width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.leave = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.glu(self.enter(self.norm(x).transpose(1, 2)), 1)
        return x + self.leave(nn.functional.silu(self.batch_norm(self.depthwise(y)))).transpose(
            1, 2
        )


def _block(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _dcgan() -> nn.Module:
    sizes = ((64, 128, 1, 0), (128, 64, 2, 1), (64, 32, 2, 1))
    layers: list[nn.Module] = []
    for inputs, outputs, stride, padding in sizes:
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh())


def _volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 8, 3), nn.BatchNorm3d(8)
    )


def _pooled() -> nn.Module:
    """Normalized after pooling and flattening, as in metric learning."""
    return nn.Sequential(
        *_block(3, 16),
        nn.Conv2d(16, 32, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(32),
        nn.Linear(32, 16),
        nn.BatchNorm1d(16),
    )


CUSTOM: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "repvgg": (
        lambda: nn.Sequential(nn.Conv2d(3, 16, 3), RepVggBlock(16), RepVggBlock(16, 4)),
        IMAGE,
    ),
    "mobileone": (
        lambda: nn.Sequential(nn.Conv2d(3, 16, 3), *(RepVggBlock(16, 16) for _ in range(4))),
        IMAGE,
    ),
    "unet": (UNet, (1, 3, 64, 64)),
    "pointnet": (PointNet, (2, 3, 256)),
    "conformer": (lambda: nn.Sequential(*(ConformerConvolution() for _ in range(4))), (1, 50, 64)),
    "dcgan": (_dcgan, (1, 64, 1, 1)),
    "conv3d": (_volumes, (1, 1, 16, 16, 16)),
    "metric": (_pooled, (2, 3, 64, 64)),
}


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A network in eval mode with one input; equal names, equal numbers."""
    torch.manual_seed(0)
    made, shape = _made(name)
    _randomize(made)
    return made.eval(), torch.randn(shape)


def _made(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    if name in CUSTOM:
        build, shape = CUSTOM[name]
        return build(), shape
    if name in TRANSFORMERS:
        family, options = TRANSFORMERS[name]
        library = importlib.import_module("transformers")
        config = getattr(library, f"{family}Config")(**options)
        return _Tensors(getattr(library, f"{family}Model")(config)), IMAGE
    provider = importlib.import_module("pytorchcv.model_provider")
    size = SIZES.get(name, 224)
    return provider.get_model(name, pretrained=False), (1, 3, size, size)


class _Tensors(nn.Module):
    """A model of transformers that gives a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, return_dict=False)[0]


@torch.no_grad()
def _randomize(model: nn.Module) -> None:
    """Statistics as training leaves them, gains of both signs, that keep activations in range."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                module.weight.uniform_(0.5, 1.5)
                module.weight[torch.rand_like(module.weight) < 0.1] *= -1
                module.bias.normal_(0, 0.2)
