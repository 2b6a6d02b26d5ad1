"""Several processes: the same results in the same order, whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bncheck
from bncheck import readers
from bncheck.configuration.settings import plan
from bncheck.report import Unreadable
from bncheck.running import workers
from bncheck.running.condensed import Detail
from bncheck.running.discover import Candidate
from bncheck.running.outcome import Checked, Entry, Skipped
from bncheck.running.runner import Job, Way, run

FIXTURES = Path(__file__).parents[2] / "fixtures"
FILES = sorted((FIXTURES / "BN202-negative-variance").iterdir())
forking = pytest.mark.skipif(workers.METHOD != "fork", reason="the reader is replaced by forking")


def jobs(paths: list[Path], named: bool = True) -> list[Job]:
    decided = plan()
    return [Job(Candidate(path, named), decided) for path in paths]


def told(batches: Iterator[tuple[Entry, ...]]) -> list[list[object]]:
    """What a run says, in a form that can be compared."""
    return [[_plain(entry) for entry in batch] for batch in batches]


def _plain(entry: Entry) -> object:
    return entry.report.to_dict() if isinstance(entry, Checked) else entry


@pytest.mark.parametrize("method", sorted({"spawn", workers.METHOD}))
def test_two_processes_say_what_one_says(method: str) -> None:
    paths = [*FILES, FIXTURES / "build.py", FIXTURES / "missing.pt"]
    expected = told(run(jobs(paths), Way()))
    assert isinstance(expected[-1][0], Unreadable)
    assert told(workers.run(jobs(paths), Way(), 2, method)) == expected


@pytest.mark.parametrize("detail", Detail)
def test_what_is_kept_can_be_sent(detail: Detail) -> None:
    (batch,) = workers.run(jobs(FILES[:1]), Way(detail=detail), 1)
    (entry,) = batch
    assert isinstance(entry, Checked)
    (layer,) = entry.report.model.layers
    assert layer.kind == "batch"
    assert bool(layer.facts) is (detail is not Detail.NAMES)
    if detail is Detail.VALUES:
        assert len(layer.running_var.values) == layer.num_features


# what happens to processes


def reader(acts: dict[str, Callable[[], object]]) -> Callable[[Path], Any]:
    """A reader that does what the name of a file says before it reads a healthy one."""

    def read(path: Path) -> Any:
        acts.get(path.stem.partition("-")[0], lambda: None)()
        return real(FILES[-1])

    real = readers.read
    return read


@forking
def test_a_process_that_dies_is_an_error_of_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    acts: dict[str, Callable[[], object]] = {
        "exits": lambda: os._exit(3),
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "crashed": lambda: os.kill(os.getpid(), signal.SIGTERM),
    }
    monkeypatch.setattr("bncheck.readers.read", reader(acts))
    names = ["a", "exits", "b", "killed", "crashed", "c", "d", "killed-again"]
    found = told(workers.run(jobs([tmp_path / name for name in names]), Way(), 2))
    errors = [b[0].error if isinstance(b[0], Unreadable) else "" for b in found]
    assert errors == [
        "",
        "the process that checked it ended by itself (exit 3)",
        "",
        "the process that checked it was ended by SIGKILL; is there memory enough for so many "
        "--jobs?",
        "the process that checked it was ended by SIGTERM",
        "",
        "",
        errors[3],
    ]


@forking
def test_slow_files_do_not_change_the_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bncheck.readers.read", reader({"slow": lambda: time.sleep(0.2)}))
    paths = [tmp_path / name for name in ("slow", "a", "b", "c", "slow-2", "d")]
    batches = workers.run(jobs(paths), Way(), 2)
    assert [batch[0].report.path for batch in batches] == list(map(str, paths))  # type: ignore[union-attr]


@forking
def test_what_cannot_be_sent_is_an_error_of_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bncheck.running.runner.entries", lambda job, way: (lambda: None,))
    ((entry,),) = workers.run(jobs([tmp_path / "a"]), Way(), 1)
    assert isinstance(entry, Unreadable)
    assert "bncheck itself failed" in entry.error


@forking
def test_nothing_is_left_when_a_run_is_broken_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[Any] = []
    hire = workers._Crew._hire
    monkeypatch.setattr(workers._Crew, "_hire", lambda crew: (hire(crew), started.append(crew)))
    monkeypatch.setattr("bncheck.readers.read", reader({"slow": lambda: time.sleep(60)}))
    batches = workers.run(jobs([tmp_path / "a", tmp_path / "slow"]), Way(), 2)
    next(batches)
    processes = [worker.process for worker in started[0]._workers]
    batches.close()  # type: ignore[attr-defined]
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)


def test_a_single_file_needs_no_process() -> None:
    code = (
        "import sys; from bncheck.cli import main; "
        f"main([{str(FILES[0])!r}, '--jobs', '4']); assert 'multiprocessing' not in sys.modules"
    )
    assert script(code).wait() == 0


# as a command


SLOW = """
import sys, time
from bncheck import cli, readers
def read(path):
    print("reading", file=sys.stderr, flush=True)
    time.sleep(0.5)
    raise ValueError
readers.read = read
sys.exit(cli.main(sys.argv[1:]))
"""


def script(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(bncheck.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=sys.platform != "win32",
    )


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
@forking
def test_ctrl_c_stops_all_with_exit_2(processes: str, tmp_path: Path) -> None:
    running = script(SLOW, "--jobs", processes, *(str(tmp_path / f"{i}.pt") for i in range(40)))
    assert running.stderr
    running.stderr.readline()
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=20)  # ends only where no process is left
    assert running.returncode == 2
    assert errors.splitlines()[-1] == b"bncheck: interrupted"
    assert b"Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ctrl_c_waits_until_a_process_has_started() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), workers._no_interrupt():
        signal.raise_signal(signal.SIGINT)  # to this thread, as a command line has no other
        steps.append("started")
    assert steps == ["started"]


@forking
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    running = script(SLOW, "--jobs", "2", *(str(tmp_path / f"{i}.pt") for i in range(40)))
    assert running.stderr
    running.stderr.readline()
    running.kill()
    _, errors = running.communicate(timeout=20)
    assert errors.count(b"reading") <= 5


def test_no_entry_is_lost_between_models_and_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    paths = [tmp_path / "notes.txt", FILES[0], tmp_path / "notes.txt"]
    found = list(workers.run(jobs(paths, named=False), Way(), 2))
    assert [type(batch[0]) for batch in found] == [Skipped, Checked, Skipped]
