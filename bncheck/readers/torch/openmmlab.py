"""The batch size in checkpoints of mmcv and mmengine: ``meta`` holds the configuration's text.

The text is Python, as Config.pretty_text prints it, and it is not run: two fixed patterns are
looked for, and a number is believed only where it is the only one.
"""

from __future__ import annotations

import re

from bncheck.facts import Unknown
from bncheck.model import BatchSize

MAX_TEXT = 2**20  # characters
_OLD, _NEW = "samples_per_gpu", "batch_size"
_NAMED = {name: re.compile(rf"\b{name}\b") for name in (_OLD, _NEW)}
_GIVEN = {name: re.compile(rf"\b{name} ?= ?(\d{{1,6}})\s*[,)]") for name in (_OLD, _NEW)}
# The start of a line begins a statement, or closes one.
_TRAIN = re.compile(r"^train_dataloader ?= ?dict\((.*(?:\n(?![A-Za-z_]).*)*)", re.MULTILINE)
_SYNCHRONISED = re.compile(r"\bsync_?bn\b|naivesyncbn|mmsyncbn|syncbatchnorm", re.IGNORECASE)
_FROZEN = re.compile(r"\b(norm_eval|bn_eval|freeze_bn) ?= ?True\b")


def batch_size(text: str) -> BatchSize | Unknown | None:
    """Samples per device; None where the text does not tell, or more than one number."""
    if len(text) > MAX_TEXT:
        return None
    found = _per_device(text)
    if found is None:
        return None
    if _SYNCHRONISED.search(text):
        return Unknown(
            "batch size", "statistics are synchronised over an unknown number of devices"
        )
    if _FROZEN.search(text):
        return Unknown("batch size", "the configuration keeps some BatchNorm from training")
    return found


def _per_device(text: str) -> BatchSize | None:
    old = _only(_OLD, text)
    if old:
        return BatchSize(old, f"meta: {_OLD}")
    loaders = _TRAIN.findall(text)
    new = _only(_NEW, loaders[0]) if len(loaders) == 1 else None
    return BatchSize(new, f"meta: train_dataloader.{_NEW}") if new else None


def _only(name: str, text: str) -> int | None:
    """The number that a name is given, where the name comes once."""
    numbers = _GIVEN[name].findall(text)
    return int(numbers[0]) if len(numbers) == 1 == len(_NAMED[name].findall(text)) else None
