"""Small networks really trained, on scikit-learn's digits: 1,797 images of 8 x 8 pixels."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, update_bn

from .corpus import Network
from .custom import Skip, Standardized
from .formats import FORMATS, Format, Inputs
from .traps import FrozenBatchNorm2d, replaced

EPOCHS, BATCH = 10, 32
TRAINING = 1400  # images; the rest tests
CLASSES = 10


class Data(NamedTuple):
    """Images (N, 1, 8, 8) of mean 0 and variance 1, and what they show."""

    images: Tensor
    labels: Tensor


class Recipe(NamedTuple):
    """How a network is made and trained; ``rate`` of learning."""

    build: Callable[[], nn.Module]
    optimizer: Callable[..., Optimizer]
    rate: float
    average: str = ""  # of the weights: "EMA" or "SWA"


class Trained(NamedTuple):
    """A network after training, in training mode, its optimizer, and its accuracy in eval mode."""

    module: nn.Module
    optimizer: Optimizer
    inputs: Inputs
    accuracy: float


@cache
def data() -> tuple[Data, Data]:
    """What is trained on, and what is tested on."""
    from sklearn.datasets import load_digits

    held = load_digits()
    images = torch.tensor(held.images, dtype=torch.float32).unsqueeze(1)
    images = (images - images.mean()) / images.std()
    labels = torch.tensor(held.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    first, rest = order[:TRAINING], order[TRAINING:]
    return Data(images[first], labels[first]), Data(images[rest], labels[rest])


def train(module: nn.Module, optimizer: Optimizer, epochs: int = EPOCHS) -> Iterator[int]:
    """Train, giving the number of each epoch when it is over; OneCycle on the rate of learning."""
    images, labels = data()[0]
    steps = len(labels) // BATCH
    rates = [group["lr"] for group in optimizer.param_groups]
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=epochs * steps)
    for epoch in range(epochs):
        module.train()
        for batch in torch.randperm(len(labels))[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(module(images[batch]), labels[batch]).backward()
            optimizer.step()
            plan.step()
        yield epoch


@torch.no_grad()
def accuracy(module: nn.Module) -> float:
    """The share of the images for testing that are told right, in eval mode."""
    images, labels = data()[1]
    was, module = module.training, module.eval()
    right = (module(images).argmax(1) == labels).float().mean()
    module.train(was)
    return float(right)


def trained(name: str) -> Trained:
    """A network of RECIPES, trained; equal names, equal networks on one machine."""
    torch.manual_seed(zlib.crc32(name.encode()))
    recipe = RECIPES[name]
    module = recipe.build()
    optimizer = recipe.optimizer(_groups(module), lr=recipe.rate)
    averaged = _averaged(recipe.average, module)
    for epoch in train(module, optimizer):
        if averaged is not None and (recipe.average == "EMA" or epoch >= EPOCHS // 2):
            averaged.update_parameters(module)
    if averaged is not None:
        if recipe.average == "SWA":
            update_bn(data()[0].images.split(BATCH), averaged)
        module = averaged.module
    return Trained(module, optimizer, (data()[1].images[:1],), accuracy(module))


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    """Weight decay spares norms and biases."""
    learned = [p for p in module.parameters() if p.requires_grad]
    decayed = {"params": [p for p in learned if p.dim() > 1], "weight_decay": 1e-4}
    return [decayed, {"params": [p for p in learned if p.dim() <= 1], "weight_decay": 0.0}]


def _averaged(kind: str, module: nn.Module) -> AveragedModel | None:
    from torch.optim.swa_utils import get_ema_multi_avg_fn

    if kind == "EMA":
        average = get_ema_multi_avg_fn(0.5)  # of epochs
        return AveragedModel(module, multi_avg_fn=average, use_buffers=True)
    return AveragedModel(module) if kind else None


def files(name: str) -> Iterator[tuple[str, Network, Mapping[str, Format]]]:
    """The checkpoint of the training, and all that is deployed of it."""
    made = trained(name)
    network = Network(made.module, made.inputs, made.inputs, made.accuracy)

    def checkpoint(module: nn.Module, inputs: Inputs, path: Path) -> None:
        state = {"epoch": EPOCHS, "optimizer": made.optimizer.state_dict()}
        torch.save({**state, "state_dict": module.state_dict()}, path)

    def whole(module: nn.Module, inputs: Inputs, path: Path) -> None:
        torch.save({"epoch": EPOCHS, "model": module, "optimizer": made.optimizer}, path)

    if not RECIPES[name].average:
        training = {"checkpoint": (".ckpt", checkpoint), "module in checkpoint": (".pt", whole)}
        yield "", network, training
    made.module.eval()
    yield "", network, {kind: each for kind, each in FORMATS.items() if kind != "checkpoint"}


Make = Callable[[int], nn.Module]  # from the number of channels


def _convolutional(
    norm: Make, act: Callable[[], nn.Module] = nn.ReLU, kind: Any = nn.Conv2d
) -> Any:
    """Three convolutions with a norm each."""

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
            layers += [kind(inputs, outputs, 3, stride, 1, bias=False), norm(outputs), act()]
        return nn.Sequential(*layers, *_head(32))

    return build


def _head(width: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)


def _unit(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _residual() -> nn.Module:
    """The last gain of each branch starts at 0."""
    skips = [Skip(*_unit(16, 16), *_unit(16, 16)[:2]) for _ in range(3)]
    for skip in skips:
        nn.init.zeros_(skip.inside[-1].weight)
    return nn.Sequential(*_unit(1, 16), *skips, nn.ReLU(), *_head(16))


def _depthwise() -> nn.Module:
    layers = _unit(1, 32)
    for _ in range(3):
        layers += [nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)]
        layers += [nn.BatchNorm2d(32), nn.ReLU6(), nn.Conv2d(32, 32, 1, bias=False)]
        layers += [nn.BatchNorm2d(32), nn.ReLU6()]
    return nn.Sequential(*layers, *_head(32))


def _dense_layers() -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise((64, 64, 32)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(0.1)]
    return nn.Sequential(*layers, nn.Linear(32, CLASSES))


class Rows(nn.Module):
    """Reads an image row by row: one axis of space."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(8, 32, 3, padding=1), nn.BatchNorm1d(32)
        self.conv2, self.bn2 = nn.Conv1d(32, 32, 3, padding=1), nn.BatchNorm1d(32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x.squeeze(1))))
        x = functional.relu(self.bn2(self.conv2(x)))
        return self.head(x.amax(2))


class Hourglass(nn.Module):
    """Down, up, and a skip that is concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = nn.Sequential(*_unit(1, 16)), nn.Sequential(*_unit(16, 32))
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.join, self.head = nn.Sequential(*_unit(32, 16)), nn.Sequential(*_head(16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        up = self.up(self.down(functional.max_pool2d(x, 2)))
        return self.head(self.join(torch.cat([x, up], 1)))


def _preactivated() -> nn.Module:
    """BatchNorm before the convolutions, and as the last layer before the head."""
    skips = [
        Skip(
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
        )
        for _ in range(2)
    ]
    last = (nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), *skips, *last, *_head(16))


def _squeezed() -> nn.Module:
    """SiLU, a wide depthwise convolution, and the eps and momentum of EfficientNet."""

    def norm(width: int) -> nn.Module:
        return nn.BatchNorm2d(width, 1e-3, 0.03)

    inside = [nn.Conv2d(16, 64, 1, bias=False), norm(64), nn.SiLU()]
    inside += [nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), norm(64), nn.SiLU()]
    inside += [nn.Conv2d(64, 16, 1, bias=False), norm(16)]
    enter = (nn.Conv2d(1, 16, 3, padding=1, bias=False), norm(16), nn.SiLU())
    return nn.Sequential(*enter, Skip(*inside), *_head(16))


def _fine_tuned() -> nn.Module:
    """A trained backbone with frozen BatchNorms, under a new head."""
    module = _convolutional(nn.BatchNorm2d)()
    for _ in train(module, SGD(module.parameters(), 0.1, 0.9), 3):
        pass
    replaced(module.eval(), FrozenBatchNorm2d)
    module[-1].reset_parameters()
    return module


def _attention() -> nn.Module:
    """Patches of 2 x 2 pixels, and a transformer under LayerNorm."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True)
    patches = (nn.Conv2d(1, 32, 2, 2), nn.Flatten(2), Transposed())
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    last = (nn.LayerNorm(32), nn.Flatten(), nn.Linear(16 * 32, CLASSES))
    return nn.Sequential(*patches, body, *last)


class Transposed(nn.Module):
    """The last two axes swapped."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def _momentum(**options: float) -> Callable[..., Optimizer]:
    def make(groups: Any, lr: float) -> Optimizer:
        return SGD(groups, lr, **{"momentum": 0.9, "nesterov": True, **options})

    return make


SGD_NESTEROV = _momentum()
RECIPES: dict[str, Recipe] = {
    "plain": Recipe(_convolutional(nn.BatchNorm2d), SGD_NESTEROV, 0.1),
    "plain, AdamW": Recipe(_convolutional(nn.BatchNorm2d), AdamW, 3e-3),
    "plain, EMA": Recipe(_convolutional(nn.BatchNorm2d), SGD_NESTEROV, 0.1, "EMA"),
    "plain, SWA": Recipe(_convolutional(nn.BatchNorm2d), SGD_NESTEROV, 0.1, "SWA"),
    "residual": Recipe(_residual, SGD_NESTEROV, 0.1),
    "pre-activation": Recipe(_preactivated, AdamW, 3e-3),
    "depthwise": Recipe(_depthwise, SGD_NESTEROV, 0.1),
    "depthwise, AdamW": Recipe(_depthwise, AdamW, 3e-3),
    "squeezed, SiLU": Recipe(_squeezed, AdamW, 3e-3),
    "GELU": Recipe(_convolutional(nn.BatchNorm2d, nn.GELU), AdamW, 3e-3),
    "GroupNorm": Recipe(_convolutional(lambda width: nn.GroupNorm(4, width)), AdamW, 3e-3),
    "InstanceNorm": Recipe(
        _convolutional(lambda width: nn.InstanceNorm2d(width, affine=True)), AdamW, 3e-3
    ),
    "weight standardization": Recipe(
        _convolutional(lambda width: nn.GroupNorm(4, width), kind=Standardized), SGD_NESTEROV, 0.05
    ),
    "weight standardization, BatchNorm": Recipe(
        _convolutional(nn.BatchNorm2d, kind=Standardized), SGD_NESTEROV, 0.05
    ),
    "frozen BatchNorm": Recipe(_fine_tuned, SGD_NESTEROV, 0.03),
    "dense layers": Recipe(_dense_layers, AdamW, 3e-3),
    "one axis": Recipe(Rows, SGD_NESTEROV, 0.05),
    "U-Net": Recipe(Hourglass, SGD_NESTEROV, 0.1),
    "transformer": Recipe(_attention, AdamW, 3e-3),
}
