"""How fast a model file is checked, against loading it with torch, safetensors or onnx.

    pip install -e . -r benchmarks/requirements.txt
    python benchmarks/reading.py [--sizes 100MB 1GB] [--formats ...] [--runs N] [--write]

Whole processes, side by side: on every file all contenders run in turns, after one round that warms
up caches; the figures are medians. The files lie in a temporary folder and are removed. It needs
Linux or macOS, and about five times the largest size as memory and twice as disk.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contenders import FORMATS, Measured, commands
from processes import ProcessFailed, interleaved, own_peak

HERE = Path(__file__).parent
UNITS = {"MB": 10**6, "GB": 10**9}


def main() -> None:
    """Measure, print the tables, and write them where asked."""
    asked = _arguments()
    try:
        results = list(_results(asked))
    except (ProcessFailed, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    floor = own_peak()
    import tables  # only now, so that the floor is low

    text = tables.render(results, asked.runs, floor)
    print(text)
    if asked.write:
        tables.write(HERE / "README.md", text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", type=_size, default=[10**8, 10**9], metavar="SIZE")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    return parser.parse_args()


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)(MB|GB)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 100MB or 1GB")
    return int(match[1]) * UNITS[match[2]]


def _results(asked: argparse.Namespace) -> Iterator[Measured]:
    for name in asked.formats:
        for size in sorted(asked.sizes):
            print(f"{name}, {size:,} bytes", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                yield _measured(name, size, asked.runs, Path(folder))


def _measured(name: str, size: int, runs: int, folder: Path) -> Measured:
    form = FORMATS[name]
    path = folder / f"model{form.suffix}"
    builder = (sys.executable, str(HERE / "model_files.py"))
    subprocess.run((*builder, name, str(size), str(path)), check=True)
    costs = interleaved(commands(form, path), runs, folder)
    written = sum(file.stat().st_size for file in folder.iterdir())
    return Measured(form, size, written, costs)


if __name__ == "__main__":
    main()
