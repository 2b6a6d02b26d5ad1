"""Rules over archives that torch writes, from the file to the findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # tracing, and TorchScript itself, warn

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import bncheck  # noqa: E402
from bncheck.finding import Level  # noqa: E402

INPUT = torch.rand(4, 3, 8, 8)


class Standardized(nn.Conv2d):
    """Its weight goes through a batch norm in training mode, in eval mode too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(flat, None, None, training=True, momentum=0.0)
        return functional.conv2d(x, weight.reshape(self.weight.shape), self.bias)


def plain(**options: Any) -> nn.Module:
    """Convolution, BatchNorm and Dropout, trained for some batches."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, bias=False)
    net = nn.Sequential(conv, nn.BatchNorm2d(4, **options), nn.Dropout(0.3))
    with torch.no_grad():
        for _ in range(100):
            net(INPUT + torch.rand_like(INPUT))
        for parameter in net.parameters():
            parameter += 0.1
    return net


def broken() -> nn.Module:
    net = plain()
    net[1].running_var[2] = float("nan")  # type: ignore[index]
    return net


def without_batch_norm() -> nn.Module:
    layers = (Standardized(3, 4, 3), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), nn.ReLU())
    return nn.Sequential(*layers)


def untracked() -> nn.Module:
    return plain(track_running_stats=False)


def traced(net: nn.Module) -> Any:
    return torch.jit.trace(net, INPUT, check_trace=False)


def frozen(net: nn.Module) -> Any:
    return torch.jit.freeze(torch.jit.script(net))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[..., Any], bool, set[str]]] = {
    "healthy, traced": (plain, traced, False, {"BN701"}),
    "healthy, scripted": (plain, torch.jit.script, False, {"BN701"}),
    "healthy, frozen": (plain, frozen, False, set()),
    "in training mode, traced": (plain, traced, True, {"BN101", "BN102"}),
    "in training mode, scripted": (plain, torch.jit.script, True, {"BN101", "BN102"}),
    "broken, traced": (broken, traced, False, {"BN201"}),
    "broken, scripted": (broken, torch.jit.script, False, {"BN201"}),
    "broken, frozen": (broken, frozen, False, {"BN709"}),
    "no statistics, traced": (untracked, traced, False, {"BN104"}),
    "no statistics, scripted": (untracked, torch.jit.script, False, {"BN104"}),
    "no BatchNorm, traced": (without_batch_norm, traced, True, set()),
    "no BatchNorm, scripted": (without_batch_norm, torch.jit.script, True, set()),
}


@pytest.mark.parametrize(("make", "how", "training", "rules"), CASES.values(), ids=CASES.keys())
def test_findings(
    make: Callable[[], nn.Module],
    how: Callable[..., Any],
    training: bool,
    rules: set[str],
    tmp_path: Path,
) -> None:
    report = saved(how(make().train(training)), tmp_path)
    assert {finding.rule for finding in report.findings} == rules
    bad = {f.rule for f in report.findings if f.level is not Level.INFO}
    assert bad == rules - {"BN701"}


def saved(script: Any, folder: Path) -> bncheck.Report:
    path = folder / "net.pt"
    torch.jit.save(script, str(path))
    return bncheck.check(path)


def test_only_of_a_scripted_module_the_mode_can_be_repaired(tmp_path: Path) -> None:
    messages = {}
    for name, how in (("traced", traced), ("scripted", torch.jit.script)):
        findings = saved(how(plain().train()), tmp_path).findings
        messages[name] = next(f for f in findings if f.rule == "BN101").message
    assert "eval() cannot repair" in messages["traced"]
    assert "unless the loader calls eval()" in messages["scripted"]


def test_a_batch_norm_is_folded_into_the_layer_before_it(tmp_path: Path) -> None:
    finding = next(f for f in saved(traced(plain().eval()), tmp_path).findings if f.rule == "BN701")
    assert finding.layer == "1"
    assert finding.evidence["into"] == ["0"]


def test_a_frozen_archive_says_that_statistics_are_gone(tmp_path: Path) -> None:
    report = saved(frozen(plain().eval()), tmp_path)
    assert report.models[0].verdict == "no-batchnorm"
    reasons = [each.reason for each in report.not_assessed if each.rule == "BN201"]
    assert len(reasons) == 1
    assert "folded" in reasons[0]
