"""The broken files through the tools that people run on model files: who notices what.

``python -m benchmarks.accuracy.peers`` prints a JSON line for each defect.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

import bncheck

from .defects import DEFECTS, Defect
from .formats import Format, TooSlow, write
from .patients import Patient, patient
from .recall import MANY, chosen

NETWORK = "squeezed"
SECONDS = 120  # that a tool may take for one file
NOT_INSTALLED, NO_FILE, NOTICES, SILENT = "not installed", "no file", "notices", "silent"
Complaints = frozenset[str]


class NotInstalled(Exception):
    """A tool that is neither beside this Python nor on the PATH."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """What each tool made of one defect, in a word, and what it said first."""

    rule: str
    defect: str
    verdicts: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)


def _run(*words: str) -> tuple[int, str]:
    """The exit code of a tool, and all that it prints."""
    beside = shutil.which(words[0], path=str(Path(sys.executable).parent))
    tool = beside or shutil.which(words[0])
    if tool is None:
        raise NotInstalled(words[0])
    done = subprocess.run(
        (tool, *words[1:]), capture_output=True, text=True, check=False, timeout=SECONDS
    )
    return done.returncode, done.stdout + done.stderr


def _onnx_checker(path: Path) -> Complaints:
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        return frozenset({_line(str(error))})
    return frozenset()


def _polygraphy(path: Path) -> Complaints:
    listed = path.with_suffix(".json")
    code, said = _run("polygraphy", "check", "lint", str(path), "-o", str(listed))
    if not listed.exists():
        if "is required but could not be imported" in said:
            raise NotInstalled("what polygraphy needs")
        return frozenset({_line(said) or f"exit code {code}"})
    entries = json.loads(listed.read_text("utf-8"))["lint_entries"]
    return frozenset(f"{each['level']}: {_line(each['message'])}" for each in entries)


def _onnxsim(path: Path) -> Complaints:
    code, said = _run("onnxsim", str(path), str(path.with_suffix(".simple.onnx")))
    return frozenset({_line(said.rpartition("Error")[2]) or "failed"} if code else ())


def _modelscan(path: Path) -> Complaints:
    _, said = _run("modelscan", "-p", str(path), "-r", "json")
    report = json.loads("".join(said[said.index("{") :].splitlines()))
    return frozenset(each["description"] for each in report["issues"])


def _picklescan(path: Path) -> Complaints:
    code, said = _run("picklescan", "-p", str(path))
    return frozenset({_line(said)} if code else ())


def _line(text: str) -> str:
    return next(filter(None, map(str.strip, text.splitlines())), "")[:160]


TOOLS: Mapping[str, tuple[str, Callable[[Path], Complaints]]] = {
    "onnx.checker": (".onnx", _onnx_checker),
    "polygraphy lint": (".onnx", _polygraphy),
    "onnxsim": (".onnx", _onnxsim),
    "modelscan": (".pt", _modelscan),
    "picklescan": (".pt", _picklescan),
}


def rows() -> Iterator[Noticed]:
    """A row for each defect: in ONNX where a file of it can be made, and as a pickled module."""
    with tempfile.TemporaryDirectory() as folder:
        as_it_is = Defect("", "", lambda patient, names: names)
        usual = {tool: _complaints(tool, path) for tool, path in _files(as_it_is, Path(folder))}
    for defect in DEFECTS:
        yield _row(defect, usual)


def _row(defect: Defect, usual: Mapping[str, Complaints | str]) -> Noticed:
    verdicts = dict.fromkeys((*TOOLS, "bncheck"), NO_FILE)
    said: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = dict(_files(defect, Path(folder)))
        for tool, path in files.items():
            heard, before = _complaints(tool, path), usual[tool]
            if isinstance(heard, str) or isinstance(before, str):
                verdicts[tool] = NOT_INSTALLED
            else:
                verdicts[tool] = NOTICES if heard - before else SILENT
                said |= {tool: min(heard - before)} if heard - before else {}
        found = [_findings(path) for path in {*files.values()}]
    if found:
        verdicts["bncheck"] = NOTICES if any(defect.rule in each for each in found) else SILENT
    return Noticed(defect.rule, defect.name, verdicts, said)


def _files(defect: Defect, folder: Path) -> Iterator[tuple[str, Path]]:
    """The file for each tool, where there is one."""
    torch.manual_seed(0)
    broken = patient(NETWORK)
    with torch.no_grad():
        wanted = list(defect.inject(broken, chosen(broken.norms(), MANY)))
    formats = defect.files(wanted)
    graph = next((n for n in ("ONNX kept", "ONNX dynamo plain") if n in _left(defect, formats)), "")
    for kind, suffix in ((graph, ".onnx"), ("module", ".pt")):
        path = _written(broken, formats, kind, folder) if kind in formats else None
        for tool, (takes, _) in TOOLS.items():
            if path and takes == suffix:
                yield tool, path


def _left(defect: Defect, formats: Mapping[str, Format]) -> set[str]:
    return formats.keys() - defect.erased


def _written(
    broken: Patient, formats: Mapping[str, Format], kind: str, folder: Path
) -> Path | None:
    try:
        return write(formats[kind], broken.module, broken.inputs, folder)
    except (Exception, TooSlow):
        return None


def _complaints(tool: str, path: Path) -> Complaints | str:
    try:
        return TOOLS[tool][1](path)
    except NotInstalled:
        return NOT_INSTALLED
    except subprocess.TimeoutExpired:
        return frozenset({f"took over {SECONDS} s"})


def _findings(path: Path) -> set[str]:
    try:
        report = bncheck.check(path, select=["ALL"], preview=True)
    except bncheck.BncheckError:
        return set()
    return {each.rule for each in report.findings}


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    for each in rows():
        print(json.dumps(asdict(each)), flush=True)


if __name__ == "__main__":
    main()
