"""Files checked in several processes, with the results in the order of the files.

A process is sent files one by one and answers one by one. So a process that dies, killed by the
system for want of memory or by a fault of a library, is an error of the file that it had in hand.
"""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from bncheck import crash, packs
from bncheck.report import ModelReport, Unreadable
from bncheck.running import runner
from bncheck.running.outcome import Checked, Entry, Skipped
from bncheck.running.runner import Job, Way

# Forking is quick, and safe here: a command line has no threads. It is not on macOS.
METHOD = "fork" if sys.platform == "linux" else "spawn"
AHEAD = 2  # files that a process has, so that it never waits for the next one
PATIENCE = 5.0  # seconds for a process to end

Answer = tuple[ModelReport | Unreadable | Skipped, ...]


def run(
    jobs: Sequence[Job], way: Way, processes: int, method: str = METHOD
) -> Iterator[tuple[Entry, ...]]:
    """Like runner.run. The processes end with the iterator, however it ends."""
    crew = _Crew(jobs, way, method)
    try:
        crew.grow(min(processes, len(jobs)))
        for at, job in enumerate(jobs):
            yield _checked(job, crew.answer(at))
    finally:
        crew.dismiss()


def _checked(job: Job, answer: Answer) -> tuple[Entry, ...]:
    return tuple(
        Checked(each, job.plan) if isinstance(each, ModelReport) else each for each in answer
    )


class _Worker(NamedTuple):
    process: BaseProcess
    connection: Connection
    in_hand: deque[int]


class _Crew:
    """Processes at work, what is left for them to do, and what they have answered."""

    def __init__(self, jobs: Sequence[Job], way: Way, method: str) -> None:
        self._jobs = jobs
        self._way = way
        self._context = get_context(method)
        self._left = deque(range(len(jobs)))
        self._answers: dict[int, Answer] = {}
        self._workers: list[_Worker] = []

    def grow(self, processes: int) -> None:
        """Start so many processes."""
        for _ in range(processes):
            self._hire()

    def answer(self, at: int) -> Answer:
        """What came of a job; waits for it."""
        while at not in self._answers:
            ready = wait([worker.connection for worker in self._workers])
            for worker in [each for each in self._workers if each.connection in ready]:
                self._hear(worker)
        return self._answers.pop(at)

    def dismiss(self) -> None:
        """End all processes, whatever they are at."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
            worker.connection.close()
        self._workers.clear()

    def _hire(self) -> None:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._way, packs.folders())
        process = self._context.Process(target=_serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
        with _no_interrupt():
            process.start()
        theirs.close()  # or its end would not be noticed
        worker = _Worker(process, ours, deque())
        self._workers.append(worker)
        self._supply(worker)

    def _supply(self, worker: _Worker) -> None:
        while self._left and len(worker.in_hand) < AHEAD:
            at = self._left.popleft()
            worker.in_hand.append(at)
            with suppress(OSError):  # it has died, which is noticed when it does not answer
                worker.connection.send(self._jobs[at])

    def _hear(self, worker: _Worker) -> None:
        try:
            answer: Answer = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        self._answers[worker.in_hand.popleft()] = answer
        self._supply(worker)

    def _bury(self, worker: _Worker) -> None:
        worker.process.join(PATIENCE)
        worker.connection.close()
        self._workers.remove(worker)
        if worker.in_hand:
            at = worker.in_hand.popleft()
            path = str(self._jobs[at].candidate.path)
            self._answers[at] = (Unreadable(path, _epitaph(worker.process.exitcode)),)
        self._left.extendleft(reversed(worker.in_hand))
        if self._left:
            self._hire()


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ctrl-C comes afterwards: a process must not hear it before it knows to ignore it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _epitaph(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"the process that checked it ended by itself (exit {exit_code})"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = "; is there memory enough for so many --jobs?" if name == "SIGKILL" else ""
    return f"the process that checked it was ended by {name}{hint}"


def _serve(connection: Connection, way: Way, folders: Sequence[str]) -> None:
    """The life of a process: until it is dismissed, or the one that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    for folder in folders:
        packs.use(folder)
    parent = parent_process()
    awaited: list[Any] = [connection, *([parent.sentinel] if parent else [])]
    with suppress(EOFError, OSError):
        while connection in wait(awaited):
            _send(connection, connection.recv(), way)


def _send(connection: Connection, job: Job, way: Way) -> None:
    try:
        connection.send(_answer(job, way))
    except OSError:  # nobody listens any more
        raise
    except Exception as error:  # what a rule of a pack holds may be nothing that can be sent
        connection.send(_failed(job, error))


def _answer(job: Job, way: Way) -> Answer:
    try:
        entries = runner.entries(job, way)
        return tuple(each.report if isinstance(each, Checked) else each for each in entries)
    except Exception as error:
        return _failed(job, error)


def _failed(job: Job, error: Exception) -> Answer:
    crash.show_traceback(error)
    return (Unreadable(str(job.candidate.path), crash.one_line(error)),)
