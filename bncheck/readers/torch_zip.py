"""PyTorch's zip files: what torch.save writes since 1.6.

``<root>/data.pkl`` is the pickle, ``<root>/data/<key>`` the storages, ``<root>/byteorder`` their
order of bytes. One root: the folder of the archive's first entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.model import Model
from bncheck.readers import checkpoint, pickle_machine
from bncheck.readers.pickle_machine import Value
from bncheck.readers.source import Source
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import ByteOrder

MAX_NOTE = 64  # bytes of an entry such as byteorder


@dataclass(frozen=True, slots=True)
class ZipStorages:
    """The storages of an archive; see Storages."""

    archive: ZipArchive
    root: str
    byteorder: ByteOrder

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of one storage."""
        name = f"{self.root}/data/{key}"
        if name not in self.archive.entries:
            raise UnreadableModel(f"lacks the tensor data {name!r}: damaged, or saved in part")
        return self.archive.read_range(name, offset, length)


def read(source: Source) -> tuple[Model, ...]:
    """The models of a zip file. Raises NotAModel where it is some other archive."""
    value, storages = load(source)
    return checkpoint.models(value, storages, "torch-zip", source)


def load(source: Source) -> tuple[Value, ZipStorages]:
    """The pickle of an archive as inert values, and its storages."""
    archive = ZipArchive(source)
    root = _root(archive.entries)
    pickled = archive.read(f"{root}/data.pkl", pickle_machine.MAX_PICKLE)
    value = pickle_machine.load(pickled).value
    return value, ZipStorages(archive, root, _byteorder(archive, root))


def _root(entries: Mapping[str, object]) -> str:
    roots = {name.partition("/")[0] for name in entries}
    root = next(iter(entries), "").partition("/")[0]
    if f"{root}/data.pkl" not in entries:
        raise NotAModel("is a zip archive without a PyTorch model in it")
    if len(roots) > 1:
        raise UnreadableModel("zip archive holds more than one top folder; PyTorch writes one")
    if f"{root}/constants.pkl" in entries:
        raise UnreadableModel(
            "is a TorchScript archive, which cannot be checked yet: "
            "check the .onnx exported from the same model, or its state_dict"
        )
    return root


def _byteorder(archive: ZipArchive, root: str) -> ByteOrder:
    name = f"{root}/byteorder"
    if name not in archive.entries:
        return "little"
    match archive.read(name, MAX_NOTE):
        case b"little":
            return "little"
        case b"big":
            return "big"
    raise UnreadableModel("states an unknown byte order")
