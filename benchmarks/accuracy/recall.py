"""Plants defects in networks, writes the files, and asks whether bncheck finds what was planted."""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import torch

import bncheck
from bncheck import BncheckError, Report

from .defects import DEFECTS, Defect
from .exports import REUSED, Exports
from .formats import FORMATS, Format, TooSlow, write
from .patients import NETWORKS, Patient, patient

FORMATS_OF_BROKEN = (
    "state_dict",
    "checkpoint",
    "safetensors",
    "module",
    "TorchScript traced",
    "TorchScript scripted",
    "pt2",
    "ONNX kept",
    "ONNX dynamo plain",
)
MANY = 4  # layers, where a defect is in several
EXTENTS = {"one": 1, "many": MANY}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One broken file, and what was said of the layers that were broken.

    A None among the names is the model as a whole. ``silenced``: a root cause was named there
    instead. ``misplaced``: findings of the rule elsewhere that the healthy network has not.
    """

    rule: str
    defect: str
    network: str
    extent: str
    format: str
    failure: str = ""
    wanted: list[str | None] = field(default_factory=list)
    found: list[str | None] = field(default_factory=list)
    open: list[str | None] = field(default_factory=list)
    silenced: list[str | None] = field(default_factory=list)
    missed: list[str | None] = field(default_factory=list)
    misplaced: list[str | None] = field(default_factory=list)
    reason: str = ""

    @property
    def verdict(self) -> str:
        """In a word; "partly" where some layers are found and others not assessed."""
        if self.failure:
            return "no file"
        if self.missed:
            return "missed"
        if self.found or self.silenced:
            return "partly" if self.open else "finds"
        return "not assessed"


def outcomes(
    network: str,
    defects: Sequence[Defect] = DEFECTS,
    extents: Sequence[str] = tuple(EXTENTS),
    formats: Sequence[str] = FORMATS_OF_BROKEN,
) -> Iterator[Outcome]:
    """Every defect in a network, at one layer and at many, in every format."""
    warnings.filterwarnings("ignore")
    for defect in defects:
        for extent in extents:
            torch.manual_seed(len(defect.name))
            yield from _of(defect, network, extent, formats)


def _of(defect: Defect, network: str, extent: str, formats: Sequence[str]) -> Iterator[Outcome]:
    broken = patient(network)
    chosen = _chosen(broken.norms(), EXTENTS[extent])
    try:
        with torch.no_grad():
            wanted = list(defect.inject(broken, chosen))
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"[:200]
        yield Outcome(defect.rule, defect.name, network, extent, "", failure)
        return
    if not wanted:
        return
    for name, format in defect.files(wanted).items():
        if name in formats and name not in defect.erased:
            yield _in_file(defect, broken, extent, name, format, wanted)


def _chosen(norms: Sequence[str], count: int) -> list[str]:
    """So many layers, evenly from the second to the last: the first has no layer before it."""
    later = norms[1:] or norms
    count = min(count, len(later))
    places = [(index + 1) * len(later) // (count + 1) for index in range(count)]
    return [later[place] for place in dict.fromkeys(places)]


def _in_file(
    defect: Defect,
    broken: Patient,
    extent: str,
    name: str,
    format: Format,
    wanted: list[str | None],
) -> Outcome:
    key = (defect.rule, defect.name, broken.name, extent, name)
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = _checked(_written(defect, broken, name, format, Path(folder)))
        except (Exception, TooSlow) as error:
            kind = "unreadable" if isinstance(error, BncheckError) else type(error).__name__
            return Outcome(*key, failure=f"{kind}: {error}"[:200])
    return _judged(key, report, wanted, _healthy(broken.name, name))


def _written(defect: Defect, broken: Patient, name: str, format: Format, folder: Path) -> Path:
    if not (defect.is_value and name in REUSED):
        return write(format, broken.module, broken.inputs, folder)
    path = folder / f"model{format[0]}"
    _exports(broken.name).write(name, broken.module, path)
    return path


@cache
def _exports(network: str) -> Exports:
    healthy = patient(network)
    return Exports(healthy.module, healthy.inputs)


def _checked(path: Path) -> Report:
    return bncheck.check(path, select=["ALL"], preview=True)


@cache
def _healthy(network: str, format: str) -> frozenset[tuple[str, str | None]]:
    """What is said of the network before it is broken."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{FORMATS[format][0]}"
        whole = patient(network)
        try:
            if format in REUSED:
                _exports(network).write(format, whole.module, path)
            else:
                path = write(FORMATS[format], whole.module, whole.inputs, Path(folder))
            return frozenset((each.rule, each.layer) for each in _checked(path).findings)
        except (Exception, TooSlow):
            return frozenset()


def _judged(
    key: tuple[str, str, str, str, str],
    report: Report,
    wanted: list[str | None],
    healthy: frozenset[tuple[str, str | None]],
) -> Outcome:
    rule = key[0]
    seen = {each.layer for each in report.findings if each.rule == rule}
    unknown = {each.layer: each.reason for each in report.not_assessed if each.rule == rule}
    causes = _causes(rule)
    named = {each.layer for each in report.findings if each.rule in causes}
    found = [layer for layer in wanted if any(_names(each, layer) for each in seen)]
    rest = [layer for layer in wanted if layer not in found]
    open_ = [layer for layer in rest if layer in unknown or None in unknown]
    silenced = [n for n in rest if n not in open_ and (n in named or None in named)]
    return Outcome(
        *key,
        wanted=wanted,
        found=found,
        open=open_,
        silenced=silenced,
        missed=[n for n in rest if n not in open_ and n not in silenced],
        misplaced=sorted(
            (n for n in seen if (rule, n) not in healthy and not any(_names(n, w) for w in wanted)),
            key=str,
        ),
        reason=next(iter(unknown.values()), ""),
    )


def _names(found: str | None, layer: str | None) -> bool:
    """Whether a name is that of a layer, or of a node of ONNX in the layer's scope."""
    if found == layer or found is None or layer is None:
        return found == layer
    *_, scope, _ = ("", *found.split("/"))
    return found.startswith("/") and f".{layer}".endswith(f".{scope}") and bool(scope)


@cache
def _causes(rule: str) -> frozenset[str]:
    from bncheck.catalogue import load

    return load()[rule].silenced_by


def main() -> None:
    """Print the outcomes of a network as JSON."""
    parser = argparse.ArgumentParser(prog="python -m accuracy.recall")
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--rules", nargs="+")
    parser.add_argument("--formats", nargs="+", default=FORMATS_OF_BROKEN)
    parser.add_argument("--extents", nargs="+", default=tuple(EXTENTS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [each for each in DEFECTS if not asked.rules or each.rule in asked.rules]
    for each in outcomes(asked.network, chosen, asked.extents, asked.formats):
        print(json.dumps(asdict(each)), flush=True)


if __name__ == "__main__":
    main()
