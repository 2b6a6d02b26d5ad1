"""``python -m benchmarks.pipeline.models COUNT FOLDER`` writes so many small, healthy models.

Half are state_dicts and half pickled modules, of 18 convolutions with a BatchNorm each. It is a
process of its own, so that the one that measures stays small.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import torch
from torch import nn

from benchmarks.reading.model_files import train

BLOCKS, CHANNELS = 18, 16


def small() -> nn.Module:
    """In eval mode with plausible statistics."""
    torch.manual_seed(0)
    net = nn.Sequential()
    for block in range(BLOCKS):
        net.append(nn.Conv2d(CHANNELS if block else 3, CHANNELS, 3, bias=False))
        net.append(nn.BatchNorm2d(CHANNELS))
        net.append(nn.ReLU())
        train(net[-2])
    return net.eval()


def _saved(held: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(held, buffer)
    return buffer.getvalue()


def main(count: int, folder: Path) -> None:
    """Write the files; the same content again and again, each a file of its own."""
    net = small()
    contents = (_saved(net.state_dict()), _saved(net))
    for number in range(count):
        (folder / f"model{number:05}.pt").write_bytes(contents[number % len(contents)])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
