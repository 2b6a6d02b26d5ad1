"""Networks whose training went wrong by itself: what they still tell right, and what is said.

``python -m benchmarks.accuracy.broken_training NAME`` trains one and prints JSON.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

import bncheck
from bncheck import BncheckError, Level

from .digits import BATCH, CLASSES, TRAINING, data
from .formats import FORMATS, TooSlow, write
from .settle import batch_norms

EPOCHS = 6
FILES = ("state_dict", "checkpoint", "module", "pt2", "ONNX kept")
Make = Callable[[], nn.Module]


class Case(NamedTuple):
    """What went wrong, and what it came to: in the place of a healthy network a broken one.

    ``rules``: those that are about it, of which an info counts too.
    """

    text: str
    healthy: Make
    broken: Make
    rules: tuple[str, ...]
    hyper_parameters: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Result:
    """Shares of the test images told right, as deployed, and findings by file."""

    name: str
    text: str
    healthy: float
    broken: float
    said: dict[str, list[str]] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)


def network(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Module:
    """Three convolutions with a norm each."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), norm(outputs), nn.ReLU()]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))
    return nn.Sequential(*layers, *head)


def trained(
    module: nn.Module,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    rate: float = 0.1,
    after_step: Callable[[nn.Module], object] = lambda module: None,
    falls: bool = True,
) -> nn.Module:
    """Trained by SGD with momentum, in training mode; the rate falls to 0, or stays."""
    images, labels = data()[0]
    dtype = next(module.parameters()).dtype
    total = epochs * (TRAINING // batch)
    optimizer = torch.optim.SGD(module.parameters(), rate, 0.9, weight_decay=1e-4)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for place in _batches(total, batch):
        optimizer.zero_grad()
        functional.cross_entropy(module(images[place].to(dtype)).float(), labels[place]).backward()
        optimizer.step()
        if falls:
            plan.step()
        after_step(module)
    return module


def _batches(steps: int, batch: int) -> Iterator[Tensor]:
    order = torch.randperm(0)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(TRAINING)
        yield order[:batch]
        order = order[batch:]


def healthy() -> nn.Module:
    return trained(network()).eval()


def with_norm(**options: Any) -> Make:
    """With other arguments of BatchNorm."""
    return lambda: trained(network(lambda width: nn.BatchNorm2d(width, **options))).eval()


def tiny_batches() -> nn.Module:
    return trained(network(), epochs=2, batch=2, rate=0.01).eval()


def swa() -> nn.Module:
    """arXiv:1803.05407: weights at a high rate are averaged; update_bn is forgotten."""
    module = trained(network())
    average = AveragedModel(module)
    trained(module, rate=0.5, after_step=average.update_parameters, falls=False)
    return average.module.eval()


def ema_of_parameters() -> nn.Module:
    """The usual few lines, which forget the buffers."""
    module = network()
    average = copy.deepcopy(module)

    def follow(module: nn.Module) -> None:
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), module.parameters(), strict=True):
                mine.lerp_(theirs, 0.05)

    trained(module, after_step=follow)
    return average.eval()


def in_training_mode() -> nn.Module:
    return trained(network())


def dropout_behind() -> nn.Module:
    return trained(_with_dropout(nn.ReLU)).eval()


def _with_dropout(kind: type[nn.Module]) -> nn.Module:
    """Dropout behind every layer of a kind."""
    given = network().children()
    layers = [[each, nn.Dropout(0.5)] if isinstance(each, kind) else [each] for each in given]
    return nn.Sequential(*(layer for pair in layers for layer in pair))


def dropout_before() -> nn.Module:
    return trained(_with_dropout(nn.Conv2d)).eval()


def reset() -> nn.Module:
    module = healthy()
    for _, norm in batch_norms(module):
        norm.reset_running_stats()
    return module


def bfloat16() -> nn.Module:
    return trained(network().to(torch.bfloat16)).eval()


def never_tracked() -> nn.Module:
    return with_norm(track_running_stats=False)()


def never_in_training_mode() -> nn.Module:
    """A validation loop called eval() once, and nobody called train() again."""
    return trained(network().eval())


def few_steps() -> nn.Module:
    """A moving average too slow for so few batches."""
    module = network(lambda width: nn.BatchNorm2d(width, momentum=0.001))
    return trained(module).eval()


def diverged() -> nn.Module:
    return trained(network(), epochs=1, rate=1e12).eval()


def renamed() -> nn.Module:
    """Loaded with strict=False under other names: only what is called alike arrives."""
    source = healthy().state_dict()
    module = network().eval()
    fit = {key: value for key, value in source.items() if "running" not in key}
    module.load_state_dict(fit, strict=False)
    return module


def positional() -> nn.Module:
    """BatchNorm2d(width, 0.9): the second argument is eps."""
    return trained(network(lambda width: nn.BatchNorm2d(width, 0.9))).eval()


def shared() -> nn.Module:
    """One BatchNorm behind two convolutions, whose outputs differ."""
    module = network()
    assert isinstance(module, nn.Sequential)
    module[7] = module[4]
    return trained(module).eval()


def momentum_of_the_old() -> nn.Module:
    return trained(network(lambda width: nn.BatchNorm2d(width, momentum=0.99))).eval()


CASES: dict[str, Case] = {
    "momentum 0": Case(
        "momentum = 0", healthy, with_norm(momentum=0.0), ("BN502", "BN204", "BN203")
    ),
    "momentum 0.99": Case(
        "momentum = 0.99, meant as what is kept", healthy, momentum_of_the_old, ("BN501",)
    ),
    "momentum 1": Case("momentum = 1", healthy, with_norm(momentum=1.0), ("BN504",)),
    "slow average": Case("momentum = 0.001, 258 batches", healthy, few_steps, ("BN205", "BN211")),
    "batch of 2": Case("batches of 2", healthy, tiny_batches, ("BN301",), {"batch_size": 2}),
    "SWA": Case("SWA without update_bn", healthy, swa, ("BN211",)),
    "EMA": Case("EMA of parameters, not of buffers", healthy, ema_of_parameters, ("BN203",)),
    "eval forgotten": Case("saved without eval()", healthy, in_training_mode, ("BN101",)),
    "train forgotten": Case("trained without train()", healthy, never_in_training_mode, ("BN203",)),
    "dropout before": Case(
        "Dropout 0.5 before BatchNorm", dropout_behind, dropout_before, ("BN602",)
    ),
    "reset": Case("reset_running_stats() after training", healthy, reset, ("BN203",)),
    "bfloat16": Case("trained in bfloat16, statistics too", healthy, bfloat16, ("BN209",)),
    "never tracked": Case("track_running_stats = False", healthy, never_tracked, ("BN104",)),
    "loaded in part": Case("load_state_dict(strict=False)", healthy, renamed, ("BN203",)),
    "diverged": Case("diverged", healthy, diverged, ("BN201", "BN401")),
    "eps 0.9": Case("BatchNorm2d(width, 0.9)", healthy, positional, ("BN506",)),
    "shared": Case("one BatchNorm for two layers", healthy, shared, ("BN605",)),
}


def result(name: str) -> Result:
    """Train both, measure both, and ask about the broken one."""
    case = CASES[name]
    healthy, broken = (_made(make, name) for make in (case.healthy, case.broken))
    said = dict(_said(case, broken))
    return Result(name, case.text, deployed(healthy), deployed(broken), said, list(case.rules))


def _made(make: Make, name: str) -> nn.Module:
    torch.manual_seed(zlib.crc32(name.encode()))
    return make()


@torch.no_grad()
def deployed(module: nn.Module) -> float:
    """What is told right by a server that loads the module as it is, and gets image by image."""
    images, labels = data()[1]
    served = copy.deepcopy(module).float()
    told = torch.cat([served(image[None]).argmax(1) for image in images])
    return float((told == labels).float().mean())


def _said(case: Case, module: nn.Module) -> Iterator[tuple[str, list[str]]]:
    """Errors, warnings, and what is about the case, by file."""
    inputs = (data()[1].images[:1].to(next(module.parameters()).dtype),)
    for kind in FILES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                if kind == "checkpoint":
                    path = _checkpoint(case, module, Path(folder))
                else:
                    path = write(FORMATS[kind], module, inputs, Path(folder))
                report = bncheck.check(path, preview=True)
            except (Exception, TooSlow) as error:
                says = "unreadable" if isinstance(error, BncheckError) else "no file"
                yield kind, [f"{says}: {type(error).__name__}"]
                continue
        heard = [f for f in report.findings if f.level is not Level.INFO or f.rule in case.rules]
        yield kind, sorted({f"{each.rule} {each.level}" for each in heard})


def _checkpoint(case: Case, module: nn.Module, folder: Path) -> Path:
    path = folder / "model.ckpt"
    optimizer = torch.optim.SGD(module.parameters(), 0.1, 0.9).state_dict()
    said = {"hyper_parameters": dict(case.hyper_parameters)} if case.hyper_parameters else {}
    held = {"epoch": EPOCHS, "state_dict": module.state_dict(), "optimizer_states": [optimizer]}
    torch.save(held | said, path)
    return path


def main() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    print(json.dumps(asdict(result(sys.argv[1]))))


if __name__ == "__main__":
    main()
