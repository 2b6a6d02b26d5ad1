"""Archives that torch.export.save writes (.pt2), read without torch.

``<root>/models/<name>.json`` is the program, ``data/weights`` and ``data/constants`` hold its
tensors: raw storages listed in ``<name>_weights_config.json``, or one ``<name>.pt`` of torch.save.
Before torch 2.8 the archive had no folders: ``serialized_exported_program.json`` and
``serialized_state_dict.pt``. torch.export.load would unpickle records of the file; this does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.readers import graph_model
from bncheck.readers.exported.document import MOST_BYTES, parse
from bncheck.readers.exported.flatten import flatten
from bncheck.readers.exported.program import Program
from bncheck.readers.exported.schema import read_program
from bncheck.readers.exported.weights import Tensors, listed, saved
from bncheck.readers.ziparchive import ZipArchive

OLD_PROGRAM = "serialized_exported_program.json"
OLD_TENSORS = ("serialized_state_dict", "serialized_constants")
FORMAT_NOTE = "archive_format"
MODELS, WEIGHTS, CONSTANTS = "models/", "data/weights/", "data/constants/"
COMPILED = {
    "data/aotinductor/": "an AOTInductor package",
    "data/executorch/": "a package of ExecuTorch programs",
}


def is_exported(archive: ZipArchive) -> bool:
    """Whether an archive is one of torch.export's, compiled ones included."""
    return (
        archive.has(OLD_PROGRAM)
        or archive.has(_root(archive) + FORMAT_NOTE)
        or _compiled(archive) is not None
    )


def read(archive: ZipArchive) -> tuple[Model, ...]:
    """The models of an archive. Raises UnreadableModel where it holds none that can be read."""
    if archive.has(OLD_PROGRAM):
        return (model(_old_program(archive)),)
    root = _root(archive)
    _require_one_reading(archive, root)
    names = [*_programs(archive, root + MODELS)]
    if not names:
        raise UnreadableModel(_without_program(archive))
    found = {name: model(_program(archive, root, name)) for name in names}
    return tuple(
        replace(each, member=name if found.keys() - {name} else None)
        for name, each in found.items()
    )


def model(program: Program) -> Model:
    """The facts of an exported program."""
    graph, layers = flatten(program)
    return Model(
        format="torch-export",
        content="graph",
        layers=layers,
        evidence=graph_model.evidence(layers),
        holds=graph_model.holds(graph, layers),
        statistics_gone=graph_model.statistics_gone(layers),
        facts={
            "graph": graph,
            "order": graph,
            "batch_size": graph_model.batch_size(graph, layers),
        },
    )


def _root(archive: ZipArchive) -> str:
    """The top folder, with its slash; PyTorch takes that of the first entry."""
    first = next(iter(archive.entries), "")
    return first[: first.find("/") + 1]


def _require_one_reading(archive: ZipArchive, root: str) -> None:
    if archive.has(f"{root}data.pkl"):
        raise UnreadableModel("holds both an exported program and a pickle: two readings")
    if not all(name.startswith(root) for name in archive.entries):
        raise UnreadableModel("zip archive holds more than one top folder; PyTorch writes one")


def _programs(archive: ZipArchive, folder: str) -> Iterator[str]:
    for name in archive.entries:
        if name.startswith(folder) and name.endswith(".json"):
            yield name.removeprefix(folder).removesuffix(".json")


def _compiled(archive: ZipArchive) -> str | None:
    """What an archive of compiled programs is."""
    for folder, what in COMPILED.items():
        if any(f"/{folder}" in f"/{name}" for name in archive.entries):
            return what
    return None


def _without_program(archive: ZipArchive) -> str:
    compiled = _compiled(archive)
    if compiled is None:
        return "is a torch.export archive without a program in it: damaged, or saved in part"
    return (
        f"is {compiled}, which cannot be checked: the weights are compiled in; "
        "check the .pt2 or .onnx it was built from"
    )


def _program(archive: ZipArchive, root: str, name: str) -> Program:
    document = parse(archive.read(f"{root}{MODELS}{name}.json", MOST_BYTES), "program")
    tensors = _tensors(archive, root + WEIGHTS, name, f"{name}_weights_config.json")
    constants = _tensors(archive, root + CONSTANTS, name, f"{name}_constants_config.json")
    return read_program(document, {**constants, **tensors})


def _tensors(archive: ZipArchive, folder: str, name: str, table: str) -> Tensors:
    """Tensors as torch looks for them: one file of torch.save, else a table of storages."""
    if archive.has(f"{folder}{name}.pt"):
        return saved(archive, f"{folder}{name}.pt")
    if archive.has(folder + table):
        return listed(archive, folder, table)
    raise UnreadableModel(f"lacks {table!r}, the table of its tensors: damaged, or saved in part")


def _old_program(archive: ZipArchive) -> Program:
    document = parse(archive.read(OLD_PROGRAM, MOST_BYTES), "program")
    tensors: Tensors = {}
    for name in OLD_TENSORS:
        for suffix in (".pt", ".json"):  # torch 2.1 called it .json, and wrote no JSON
            if archive.has(name + suffix):
                tensors |= saved(archive, name + suffix)
    return read_program(document, tensors)
