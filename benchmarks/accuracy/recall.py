"""Plants defects in networks, writes the files, and asks whether bncheck finds what was planted."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import torch

import bncheck
from bncheck import BncheckError, Report

from .defects import DEFECTS, RULES, Defect
from .exports import REUSED, Exports
from .formats import FORMATS, Format, TooSlow, write
from .outcomes import Outcome
from .patients import NETWORKS, Patient, patient

FORMATS_OF_BROKEN = (
    "state_dict",
    "checkpoint",
    "safetensors",
    "module",
    "live",
    "live, traced",
    "TorchScript traced",
    "TorchScript scripted",
    "pt2",
    "ONNX kept",
    "ONNX dynamo plain",
)
LIVE = {"live": False, "live, traced": True}  # a module in memory; whether with inputs
MANY = 4  # layers, where a defect is in several
EXTENTS = {"one": 1, "many": MANY}


def outcomes(
    network: str,
    defects: Iterable[Defect] = DEFECTS,
    formats: Sequence[str] = FORMATS_OF_BROKEN,
    extents: Sequence[str] = tuple(EXTENTS),
) -> Iterator[Outcome]:
    """Defects in a network, at one layer and at many, in every format.

    One that must be exported anew is at one layer in every other network, at many in the rest.
    """
    warnings.filterwarnings("ignore")
    for defect in defects:
        turn = (NETWORKS.index(network) + DEFECTS.index(defect)) % len(extents)
        for extent in extents if defect.is_value else extents[turn : turn + 1]:
            torch.manual_seed(len(defect.name))
            yield from _of(defect, network, extent, formats)


def _of(defect: Defect, network: str, extent: str, formats: Sequence[str]) -> Iterator[Outcome]:
    broken = patient(network)
    names = chosen(broken.norms(), EXTENTS[extent])
    try:
        with torch.no_grad():
            wanted = list(defect.inject(broken, names))
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"[:200]
        yield Outcome(defect.rule, defect.name, network, extent, "", failure)
        return
    if not wanted:
        return
    files = defect.files(wanted)
    if files.get("module") is FORMATS["module"]:
        files = {**files, **dict.fromkeys(LIVE, FORMATS["module"])}
    for name, format in files.items():
        if name in formats and name not in defect.erased:
            key = (defect.rule, defect.name, network, extent, name)
            report = partial(_report, defect, broken, name, format)
            yield _judged(key, report, wanted, defect.is_value)


def chosen(norms: Sequence[str], count: int) -> list[str]:
    """So many layers, evenly from the second to the last: the first has no layer before it."""
    later = norms[1:] or norms
    count = min(count, len(later))
    places = [(index + 1) * len(later) // (count + 1) for index in range(count)]
    return [later[place] for place in dict.fromkeys(places)]


def _report(defect: Defect, broken: Patient, name: str, format: Format) -> Report:
    if name in LIVE:
        return _checked(broken.module, broken.inputs if LIVE[name] else None)
    with tempfile.TemporaryDirectory() as folder:
        return _checked(_written(defect, broken, name, format, Path(folder)))


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


def _checked(target: object, inputs: object | None = None) -> Report:
    return bncheck.check(target, inputs=inputs, select=["ALL"], preview=True)


@cache
def _healthy(network: str, format: str, is_reused: bool) -> dict[str, set[str | None]]:
    """What is said of the network before it is broken, in a file that is made the same way."""
    whole = patient(network)
    as_it_is = Defect("", "", lambda patient, names: (), is_value=is_reused)
    try:
        report = _report(as_it_is, whole, format, FORMATS.get(format, FORMATS["module"]))
    except (Exception, TooSlow):
        return {}
    found: dict[str, set[str | None]] = {}
    for each in report.findings:
        found.setdefault(each.rule, set()).add(each.layer)
    return found


def _judged(
    key: tuple[str, str, str, str, str],
    check: Callable[[], Report],
    wanted: list[str | None],
    is_reused: bool,
) -> Outcome:
    rule, _, network, _, format = key
    try:
        report = check()
    except (Exception, TooSlow) as error:
        kind = "unreadable" if isinstance(error, BncheckError) else type(error).__name__
        return Outcome(*key, failure=f"{kind}: {error}"[:200])
    seen = {each.layer for each in report.findings if each.rule == rule}
    unknown = {each.layer: each.reason for each in report.not_assessed if each.rule == rule}
    causes = _causes(rule)
    named = {each.layer for each in report.findings if each.rule in causes}
    found = [layer for layer in wanted if any(_names(each, layer) for each in seen)]
    rest = [layer for layer in wanted if layer not in found]
    open_ = [n for n in rest if None in unknown or any(_names(each, n) for each in unknown)]
    silenced = [n for n in rest if n not in open_ and (n in named or None in named)]
    strange = {n for n in seen if not any(_names(n, layer) for layer in wanted)}
    usual = _healthy(network, format, is_reused).get(rule, set()) if strange else set()
    elsewhere = strange - usual
    if format.startswith("ONNX") and len(elsewhere) <= _further_calls(network, wanted):
        elsewhere = set()  # each call of a module is a node of its own there
    return Outcome(
        *key,
        wanted=wanted,
        found=found,
        open=open_,
        silenced=silenced,
        missed=[n for n in rest if n not in open_ and n not in silenced],
        misplaced=sorted(map(str, elsewhere)),
        reason=next(iter(unknown.values()), ""),
    )


def _names(found: str | None, layer: str | None) -> bool:
    """Whether a name is that of a layer, or of a node of ONNX in the layer's scope."""
    if found is None or layer is None:
        return found is layer
    *_, scope, _ = ("", *found.split("/"))
    is_scope = found.startswith("/") and scope != ""
    return any(
        found == each or (is_scope and f".{each}".endswith(f".{scope}"))
        for each in layer.split(" or ")
    )


def _further_calls(network: str, names: Iterable[str | None]) -> int:
    """How often some modules of a network are called again."""
    return sum(_calls(network)[name] - 1 for name in names if name in _calls(network))


@cache
def _calls(network: str) -> Counter[str]:
    return Counter(call.name for call in patient(network).calls())


@cache
def _causes(rule: str) -> frozenset[str]:
    from bncheck.catalogue import load

    return load()[rule].silenced_by


def main() -> None:
    """Write the outcomes of a network, a file of JSON lines for each rule."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.recall")
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--rules", nargs="+", default=RULES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    for rule in asked.rules:
        planted = [each for each in DEFECTS if each.rule == rule]
        lines = [json.dumps(asdict(each)) for each in outcomes(asked.network, planted)]
        part = asked.into / f"{rule}.part"
        part.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        part.replace(asked.into / f"{rule}.jsonl")


if __name__ == "__main__":
    main()
