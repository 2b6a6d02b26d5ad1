"""torch.package archives: pickles among the source code that they need.

``<root>/.data/<id>.storage`` are the storages, ``<root>/.data/extern_modules`` tells the archive
apart; every other entry is what its author put there, pickles under names of their choice. The
code is not read. See torch/package/package_exporter.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.model import Model
from bncheck.readers.source import Source
from bncheck.readers.torch import checkpoint, pickle_machine
from bncheck.readers.torch.pickle_values import Global, PersistentId
from bncheck.readers.torch.storage import Budget, widths
from bncheck.readers.torch.zipped import ZipStorages, byteorder
from bncheck.readers.ziparchive import STORED, Entry, ZipArchive

DATA = ".data"
MARK = f"{DATA}/extern_modules"
MAX_RESOURCES = 10_000
MAX_PICKLES = 100
MAX_ALL_PICKLES = 4 * pickle_machine.MAX_PICKLE  # bytes
PICKLE_STARTS = frozenset(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_OTHERS = ("data.pkl", "constants.pkl")  # by which torch.load takes it for its own


def read(archive: ZipArchive, root: str, source: Source) -> tuple[Model, ...]:
    """The models in the pickles of an archive. Raises NotAModel where they hold none."""
    if any(archive.has(f"{root}/{name}") for name in _OTHERS):
        raise UnreadableModel("can be read as torch.package and as torch.save: damaged, or a trap")
    names = _pickles(archive, root)
    order = byteorder(archive, root)
    storages = ZipStorages(archive, root, order, Budget(), DATA)
    found = [(name, model) for name in names for model in _models(name, storages, source)]
    if not found:
        raise NotAModel("is a torch.package without a model in its pickles")
    if len({name for name, _ in found}) == 1:
        return tuple(model for _, model in found)
    return tuple(replace(model, member=_member(name, root, model)) for name, model in found)


def _pickles(archive: ZipArchive, root: str) -> list[str]:
    """The entries that hold pickles, whatever they are called."""
    prefix = f"{root}/"
    if not all(name.startswith(prefix) for name in archive.entries):
        raise UnreadableModel("zip archive holds more than one top folder; PyTorch writes one")
    resources = [e for e in archive.entries.values() if _may_be_pickle(e, prefix)]
    if len(resources) > MAX_RESOURCES:
        raise UnreadableModel(f"holds over {MAX_RESOURCES} resources beside its code")
    pickles = [e for e in resources if archive.read_range(e.name, 0, 2) in PICKLE_STARTS]
    if len(pickles) > MAX_PICKLES or sum(entry.size for entry in pickles) > MAX_ALL_PICKLES:
        raise UnreadableModel(f"holds over {MAX_PICKLES} pickles, or {MAX_ALL_PICKLES} bytes")
    return [entry.name for entry in pickles]


def _may_be_pickle(entry: Entry, prefix: str) -> bool:
    is_known = entry.name.startswith(f"{prefix}{DATA}/") or entry.name.endswith(".py")
    return entry.size > 2 and entry.method == STORED and not is_known


def _member(name: str, root: str, model: Model) -> str:
    resource = name.removeprefix(f"{root}/")
    return f"{resource}:{model.member}" if model.member else resource


def _models(name: str, storages: ZipStorages, source: Source) -> tuple[Model, ...]:
    data = storages.archive.read(name, pickle_machine.MAX_PICKLE)
    loaded = pickle_machine.load(data)
    widths([*_named_as_elsewhere(loaded.references)])
    try:
        return checkpoint.models(loaded.value, storages, "torch-package", source)
    except NotAModel:
        return ()


def _named_as_elsewhere(references: Iterable[PersistentId]) -> Iterator[PersistentId]:
    """References to storages as torch.save writes them, with the name of the entry as key."""
    for reference in references:
        match reference.value:
            case ("storage", Global() as kind, int() | str() as key, place, size):
                reference.value = ("storage", kind, f"{key}.storage", place, size)
            case ("reduce_package", *_):
                raise UnreadableModel(
                    "holds a module that code of the package rebuilds (torch.fx, TorchScript), "
                    "which is not run: check the .onnx exported from it, or its state_dict"
                )
        yield reference
