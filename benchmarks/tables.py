"""Markdown tables, and where they are put."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from tabulate import tabulate

README = Path(__file__).with_name("README.md")
MIB = 1 << 20
PACKAGES = (
    "torch",
    "onnx",
    "onnx-ir",
    "safetensors",
    "polygraphy",
    "picklescan",
    "modelscan",
    "click",
)


class Goal(NamedTuple):
    """What was aimed at, the case that comes worst, and whether it is good enough."""

    text: str
    worst: str
    is_met: bool


def table(rows: Iterable[Sequence[str]], headers: Sequence[str], words: int = 1) -> str:
    """A table whose first columns hold words and whose others hold figures."""
    aligned = ["left"] * words + ["right"] * (len(headers) - words)
    return tabulate(list(rows), headers, tablefmt="github", colalign=aligned, disable_numparse=True)


def goals(held: Iterable[Goal]) -> str:
    """What of it is met."""
    rows = [(goal.text, goal.worst, "yes" if goal.is_met else "**no**") for goal in held]
    return table(rows, ("goal", "worst case", "met"), words=3)


def geometric_mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return math.exp(mean(map(math.log, values))) if values else math.nan


def size(amount: int) -> str:
    """Bytes in decimal units, as file sizes are told."""
    return f"{amount / 1e9:,.3g} GB" if amount >= 10**9 else f"{amount / 1e6:,.0f} MB"


def machine() -> str:
    """What it was measured on, and with."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(map(_version, PACKAGES))}."
    )


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


def write(parts: Mapping[str, str]) -> None:
    """Put each part between its markers in the README, in place of what was there."""
    text = README.read_text("utf-8")
    for name, part in parts.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{part}\n{end}{after}"
    README.write_text(text, "utf-8")
