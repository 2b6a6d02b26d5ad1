"""bncheck fold on ONNX files: what is printed, written, refused, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
jsonschema = pytest.importorskip("jsonschema")

import onnx_models  # noqa: E402
from fold_schema import SCHEMA  # noqa: E402
from fold_shell import BLOCKED, CONV_BN, SHAPE, WEIGHTS, FoldShell  # noqa: E402

WIDTH, LINES = 80, 10


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> FoldShell:
    monkeypatch.chdir(tmp_path)
    made = FoldShell(tmp_path, capsys.readouterr)
    made.onnx("good.onnx", CONV_BN, **WEIGHTS)
    made.onnx("blocked.onnx", BLOCKED, **WEIGHTS)
    return made


def test_what_is_printed(shell: FoldShell) -> None:
    ran = shell("fold good.onnx -o out.onnx")
    head, saved, output, proof = ran.out.splitlines()
    assert ran.code == 0
    assert ran.err == ""
    assert head == "out.onnx: 1 of 1 BatchNorm folded"
    assert saved.startswith("  saved 1 node, 16 parameters")
    assert output.startswith("  output y: largest error ")
    assert "verified by 3 runs in onnxruntime" in proof
    assert shell.names == {"good.onnx", "blocked.onnx", "out.onnx"}


def test_what_stays_is_said(shell: FoldShell) -> None:
    ran = shell("fold blocked.onnx -o out.onnx --no-verify")
    assert "1 of 2 BatchNorm folded" in ran.out
    assert "kept: " in ran.out
    assert "a non-linear function is in the way" in " ".join(ran.out.split())
    assert ran.out.endswith("  not verified\n")


@pytest.mark.parametrize(
    ("line", "code", "is_written"),
    [
        ("fold good.onnx -o out.onnx", 0, True),
        ("fold good.onnx -o out.onnx --no-verify", 0, True),
        ("fold good.onnx -o out.onnx --require-all", 0, True),
        ("fold blocked.onnx -o out.onnx", 0, True),
        ("fold blocked.onnx -o out.onnx --require-all", 1, True),
        ("fold blocked.onnx --dry-run --require-all", 1, False),
        ("fold good.onnx --dry-run", 0, False),
        ("fold good.onnx -o out.onnx --dry-run", 0, False),
        ("fold good.onnx -o out.onnx --tolerance 1", 0, True),
        ("fold good.onnx -o out.onnx --tolerance 1e-30", 2, False),
        ("fold good.onnx -o out.onnx --tolerance 0", 2, False),
        ("fold good.onnx", 2, False),
        ("fold", 2, False),
    ],
)
def test_exit_codes(shell: FoldShell, line: str, code: int, is_written: bool) -> None:
    assert shell(line).code == code
    assert ("out.onnx" in shell.names) is is_written
    assert shell.names <= {"good.onnx", "blocked.onnx", "out.onnx"}


def test_a_folded_file_has_nothing_more_to_fold(shell: FoldShell) -> None:
    shell("fold good.onnx -o out.onnx")
    ran = shell("fold out.onnx -o again.onnx --require-all")
    assert ran.code == 0
    assert ran.out.startswith("again.onnx: 0 of 0 BatchNorm folded\n")


def test_a_dry_run_writes_nowhere(shell: FoldShell) -> None:
    ran = shell("fold good.onnx --dry-run")
    assert ran.out.startswith("good.onnx: 1 of 1 BatchNorm folded (dry run: nothing was written)")
    assert shell.names == {"good.onnx", "blocked.onnx"}


def test_scale_only(shell: FoldShell) -> None:
    body = "t = Conv(x, w, b)\nu = Relu(t)\ny = BN4(u)"
    onnx.save(onnx_models.model(body, WEIGHTS, positive=True), "relu.onnx")
    assert "0 of 1" in shell("fold relu.onnx -o a.onnx").out
    assert "1 of 1" in shell("fold relu.onnx -o b.onnx --scale-only").out


@pytest.mark.parametrize(
    ("line", "folded", "kept", "output"),
    [
        ("fold good.onnx -o out.onnx", 1, 0, "out.onnx"),
        ("fold blocked.onnx -o out.onnx --no-verify", 1, 1, "out.onnx"),
        ("fold blocked.onnx --dry-run", 1, 1, None),
    ],
)
def test_report(shell: FoldShell, line: str, folded: int, kept: int, output: str | None) -> None:
    assert shell(f"{line} --report report.json").code == 0
    made = json.loads((shell.folder / "report.json").read_text())
    jsonschema.validate(made, SCHEMA)
    assert (len(made["folded"]), len(made["kept"])) == (folded, kept)
    assert made["output"] == output
    assert (made["verification"] is not None) is (line.endswith("out.onnx"))


def test_inputs(shell: FoldShell) -> None:
    shell.npz("inputs.npz", x=np.ones(SHAPE, np.float32))
    ran = shell("fold good.onnx -o out.onnx --inputs inputs.npz")
    assert ran.code == 0
    assert "verified by 1 run in" in ran.out


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("other name", {"z": np.ones(SHAPE, np.float32)}),
        ("wrong rank", {"x": np.ones((2, 3), np.float32)}),
        ("wrong channels", {"x": np.ones((2, 5, 8, 8), np.float32)}),
        ("wrong dtype", {"x": np.ones(SHAPE, np.int64)}),
        ("pickled", {"x": np.array([{}], dtype=object)}),
        ("none", {}),
    ],
)
def test_inputs_that_do_not_fit(shell: FoldShell, name: str, arrays: dict[str, Any]) -> None:
    shell.npz("inputs.npz", **arrays)
    assert shell.fails("fold good.onnx -o out.onnx --inputs inputs.npz").startswith("bncheck: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fold good.onnx -o good.onnx", "good.onnx is the model itself: give another name"),
        ("fold good.onnx -o ./sub/../good.onnx", "is the model itself"),
        ("fold good.onnx -o no/such/out.onnx", "no/such: cannot be written to: no such file"),
        ("fold good.onnx -o sub", "sub: is a folder: give the name of a file"),
        ("fold none.onnx -o out.onnx", "none.onnx: does not exist"),
        ("fold sub -o out.onnx", "sub: is not a regular file"),
        ("fold broken.onnx -o out.onnx", "broken.onnx: "),
        ("fold text.onnx -o out.onnx", "text.onnx: is text, no model"),
        ("fold empty.onnx -o out.onnx", "empty.onnx: "),
        ("fold model.ort -o out.onnx", "model.ort: is in ORT format"),
        ("fold good.onnx -o out.onnx --inputs none.npz", "none.npz: no .npz of arrays"),
        ("fold good.onnx -o out.onnx --inputs text.onnx", "text.onnx: no .npz of arrays"),
        ("fold good.onnx -o out.onnx --arch a:b", "good.onnx: is a graph of its own"),
        ("fold good.onnx -o out.onnx --key a", "good.onnx: is a graph of its own"),
        ("fold good.onnx -o out.onnx --report no/such.json", "no/such.json: the folder for the"),
        ("fold good.onnx -o out.onnx --report good.onnx", "would take the place of a model"),
        ("fold good.onnx -o out.onnx --report out.onnx", "would take the place of a model"),
    ],
)
def test_refused(shell: FoldShell, line: str, said: str) -> None:
    (shell.folder / "sub").mkdir()
    whole = (shell.folder / "good.onnx").read_bytes()
    (shell.folder / "broken.onnx").write_bytes(whole[: len(whole) // 2])
    (shell.folder / "text.onnx").write_text("nothing but words\n")
    (shell.folder / "empty.onnx").write_bytes(b"")
    _ort(shell.folder / "good.onnx", shell.folder / "model.ort")
    assert said in shell.fails(line)


def _ort(source: Path, target: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_is_read_only(shell: FoldShell) -> None:
    (shell.folder / "sub").mkdir(mode=0o555)
    assert "sub: cannot be written to: permission denied" in shell.fails(
        "fold good.onnx -o sub/out.onnx"
    )


def test_a_target_that_cannot_be_replaced(
    shell: FoldShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    assert "out.onnx: cannot be written: permission denied" in shell.fails(
        "fold good.onnx -o out.onnx"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_whatever_ends_a_run_nothing_is_left(
    shell: FoldShell, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def stop(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("bncheck.folding.onnx.fold.verify", stop)
    assert shell("fold good.onnx -o out.onnx").code == 2
    assert shell.names == {"good.onnx", "blocked.onnx"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a word")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_leaves_nothing(shell: FoldShell, name: str) -> None:
    """The process is told to end while the models are compared."""
    code = (
        "import os, signal, bncheck.folding.onnx.fold as fold\n"
        "from bncheck.cli import main\n"
        f"fold.verify = lambda *a, **o: os.kill(os.getpid(), signal.{name})\n"
        "raise SystemExit(main(['fold', 'good.onnx', '-o', 'out.onnx']))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr.strip()) == (2, "bncheck: interrupted")
    assert shell.names == {"good.onnx", "blocked.onnx"}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_progress_is_for_terminals(shell: FoldShell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell("fold good.onnx -o out.onnx").err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert "bncheck: loading both models" in shell("fold good.onnx -o out.onnx").err


def test_the_summary_is_ten_lines_of_eighty_columns(shell: FoldShell) -> None:
    """However many outputs there are, and reasons for what stays."""
    branches = [
        f"a{n} = Conv(x, w, b)\nb{n} = BN4(a{n})\nc{n} = Tanh(b{n})\nd{n} = BN4(c{n})"
        for n in range(4)
    ]
    body = "\n".join([*branches, "e = BN3(x)", "s = Tanh(e)", "r = Add(d0, d1)"])
    outputs = ", ".join(
        f"float[n, c, h, w{n}] {name}"
        for n, name in enumerate(["d0", "d1", "d2", "d3", "e", "s", "r"])
    )
    made = onnx_models.model(body, WEIGHTS, outputs=outputs)
    onnx.save(made, str(shell.folder / "many.onnx"))
    lines = shell("fold many.onnx -o out.onnx").out.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    assert any("more outputs" in line for line in lines)


def test_the_summary_of_long_names() -> None:
    """Whole lines are left out, never cut."""
    from bncheck.folding.result import Deviation, Folded, FoldResult, Kept, Verification
    from bncheck.reports.folding import summary

    path = "features.stage{}.unit7.body.conv3.normalization"
    kept = [Kept(path.format(n), f"reason {n}", "an operator is in the way") for n in range(6)]
    outputs = [Deviation(path.format(n), n * 1e-7, 1e-6, 1.0) for n in range(9)]
    proof = Verification(5, "onnxruntime 1.0", tuple(outputs))
    made = FoldResult((Folded("a", ("b",)),), (*kept, *kept), proof, saved={"nodes": 1})
    lines = summary("folder/of/models/folded.onnx", made, written=True).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    assert "for other reasons (--report)" in "\n".join(lines)
    assert "stage8" in next(line for line in lines if "output" in line)


def test_without_anything_that_runs_it(shell: FoldShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx.reference", None)
    said = shell.fails("fold good.onnx -o out.onnx")
    assert "pip install 'bncheck[onnx]'" in said
    assert "--no-verify" in said
    assert shell("fold good.onnx -o out.onnx --no-verify").code == 0


def test_with_the_reference_evaluator(shell: FoldShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ran = shell("fold good.onnx -o out.onnx")
    assert ran.code == 0
    assert "reference evaluator" in " ".join(ran.out.split())
