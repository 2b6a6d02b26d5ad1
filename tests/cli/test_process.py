"""The command as a process: what it imports, pipes, encodings and colours."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import bncheck

HEAVY = {"numpy", "onnx", "torch", "tabulate", "pickle"}
MODULES = """
import sys
from bncheck.cli import main
code = main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, env=env(**environment), check=False
    )


def env(**more: str) -> dict[str, str]:
    package = str(Path(bncheck.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": package, **more}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A safetensors file of one BatchNorm under a name that is not ASCII."""
    names = ("weight", "bias", "running_mean", "running_var")
    header = {
        f"層.übergang.{name}": {
            "dtype": "F32",
            "shape": [2],
            "data_offsets": [8 * i, 8 * i + 8],
        }
        for i, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    values = struct.pack("<8f", 1.1, 0.9, 0.1, 0.2, 0.3, 0.4, -0.1, 0.6)
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)
    return path


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["check", "--help"], set()),
        (["explain", "BN101"], set()),
        (["rules"], {"tabulate"}),
        (["rules", "--format", "json"], set()),
        (["--select", "BN999", "x.pt"], set()),
        (["missing.pt"], set()),
    ],
)
def test_nothing_heavy_is_imported(arguments: list[str], allowed: set[str]) -> None:
    imported = set(run("-c", MODULES, *arguments).stderr.split(b"\n")[-2].decode().split())
    assert "bncheck.cli" in imported
    assert imported & HEAVY <= allowed


def test_nothing_heavy_is_imported_for_a_check(weights: Path) -> None:
    ran = run("-c", MODULES, str(weights))
    assert ran.returncode == 1
    assert not set(ran.stderr.decode().split()) & HEAVY


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("latin-1", b"  \\u5c64.\xfcbergang\n"),
        ("utf-8", "  層.übergang\n".encode()),
    ],
)
def test_a_name_that_the_encoding_lacks_is_escaped(
    weights: Path, encoding: str, shown: bytes
) -> None:
    ran = run("-m", "bncheck", str(weights), PYTHONIOENCODING=encoding)
    assert ran.returncode == 1
    assert shown in ran.stdout.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("command", [["check"], ["inspect"], ["explain", "BN101"], ["--help"]])
@posix
def test_a_reader_that_leaves_is_no_error(weights: Path, command: list[str]) -> None:
    arguments = [*command, str(weights)] if command[0] in ("check", "inspect") else command
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "bncheck", *arguments],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=env(),
            check=False,
        )
    finally:
        os.close(writing)
    assert ran.stderr == b""
    assert ran.returncode in {"check": {1}, "--help": {0, 2}}.get(command[0], {0})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_exit_2(weights: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "bncheck", str(weights)],
            stdout=full,
            stderr=subprocess.PIPE,
            env=env(),
            check=False,
        )
    assert ran.returncode == 2
    assert ran.stderr == b"bncheck: cannot write to standard output: no space left on device\n"


@posix
@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals(
    weights: Path, environment: dict[str, str], coloured: bool
) -> None:
    assert (b"\x1b[" in on_a_terminal(str(weights), **environment)) is coloured
    assert b"\x1b[" not in run("-m", "bncheck", str(weights), **environment).stdout


@posix
def test_a_report_in_a_file_has_no_colour(weights: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    on_a_terminal(str(weights), "--output", str(report), TERM="xterm")
    assert "negative-variance" in report.read_text("utf-8")
    assert "\x1b" not in report.read_text("utf-8")


def on_a_terminal(*arguments: str, **environment: str) -> bytes:
    import pty

    ours, theirs = pty.openpty()
    plain = {name: value for name, value in env().items() if name != "NO_COLOR"}
    subprocess.run(
        [sys.executable, "-m", "bncheck", *arguments],
        stdout=theirs,
        env={**plain, **environment},
        check=False,
    )
    os.close(theirs)
    try:
        return os.read(ours, 100_000)
    except OSError:  # Linux: nothing was written, and the other side is closed
        return b""
    finally:
        os.close(ours)
