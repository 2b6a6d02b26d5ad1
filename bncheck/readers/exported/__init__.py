"""Archives that torch.export.save writes (.pt2), read without torch.

``<root>/models/<name>.json`` is the program, ``data/weights`` and ``data/constants`` hold its
tensors: raw storages listed in ``<name>_weights_config.json``, or one ``<name>.pt`` of torch.save.
Before torch 2.8 the archive had no folders: ``serialized_exported_program.json`` and
``serialized_state_dict.pt``. torch.export.load would unpickle records of the file; this does not.
"""

from __future__ import annotations

from dataclasses import replace

from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.readers import graph_model
from bncheck.readers.exported.flatten import Observe, flatten, unobserved
from bncheck.readers.exported.layout import FORMAT_NOTE, OLD_PROGRAM, places, root_of
from bncheck.readers.exported.program import Program
from bncheck.readers.ziparchive import ZipArchive

COMPILED = {
    "data/aotinductor/": "an AOTInductor package",
    "data/executorch/": "a package of ExecuTorch programs",
}


def is_exported(archive: ZipArchive) -> bool:
    """Whether an archive is one of torch.export's, compiled ones included."""
    return (
        archive.has(OLD_PROGRAM)
        or archive.has(root_of(archive) + FORMAT_NOTE)
        or _compiled(archive) is not None
    )


def read(archive: ZipArchive) -> tuple[Model, ...]:
    """The models of an archive. Raises UnreadableModel where it holds none that can be read."""
    found = {place.name: model(place.program(archive)) for place in places(archive)}
    if not found:
        raise UnreadableModel(_without_program(archive))
    return tuple(
        replace(each, member=name if found.keys() - {name} else None)
        for name, each in found.items()
    )


def model(program: Program, observe: Observe = unobserved) -> Model:
    """The facts of an exported program; for ``observe`` see flatten."""
    graph, layers = flatten(program, observe)
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
