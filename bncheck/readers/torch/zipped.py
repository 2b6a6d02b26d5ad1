"""PyTorch's zip files: what torch.save writes since 1.6.

``<root>/data.pkl`` is the pickle, ``<root>/data/<key>`` the storages, ``<root>/byteorder`` their
order of bytes. One root: the folder of the archive's first entry.
"""

from __future__ import annotations

from typing import NamedTuple

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.model import Model
from bncheck.readers.source import Source
from bncheck.readers.torch import checkpoint, pickle_machine
from bncheck.readers.torch.pickle_values import Value
from bncheck.readers.torch.storage import Budget, widths
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import ByteOrder

MAX_NOTE = 64  # bytes of an entry such as byteorder


class ZipStorages(NamedTuple):
    """The storages of an archive; see Storages."""

    archive: ZipArchive
    root: str
    byteorder: ByteOrder
    budget: Budget
    folder: str = "data"

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of one storage."""
        name = f"{self.root}/{self.folder}/{key}"
        if not self.archive.has(name):
            raise UnreadableModel(f"lacks the tensor data {name!r}: damaged, or saved in part")
        return self.archive.read_range(name, offset, length)


def read(archive: ZipArchive, source: Source) -> tuple[Model, ...]:
    """The models that torch.save wrote. Raises NotAModel where it is some other archive."""
    value, storages = load_part(archive, root_of(archive), "data")
    return checkpoint.models(value, storages, "torch-zip", source)


def load(source: Source) -> tuple[Value, ZipStorages]:
    """The pickle of an archive as inert values, and its storages."""
    archive = ZipArchive(source)
    return load_part(archive, root_of(archive), "data")


def load_part(archive: ZipArchive, root: str, part: str) -> tuple[Value, ZipStorages]:
    """A pickle beside a folder of the same name, in which its storages lie."""
    loaded = pickle_machine.load(archive.read(f"{root}/{part}.pkl", pickle_machine.MAX_PICKLE))
    widths(loaded.references)  # refuses a storage of two types
    return loaded.value, ZipStorages(archive, root, byteorder(archive, root), Budget(), part)


def root_of(archive: ZipArchive) -> str:
    """The one top folder. Raises NotAModel where it holds no pickle of PyTorch."""
    roots = {name.partition("/")[0] for name in archive.entries}
    root = next(iter(archive.entries), "").partition("/")[0]
    if not archive.has(f"{root}/data.pkl"):
        raise NotAModel("is a zip archive without a PyTorch model in it")
    if len(roots) > 1:
        raise UnreadableModel("zip archive holds more than one top folder; PyTorch writes one")
    return root


def byteorder(archive: ZipArchive, root: str) -> ByteOrder:
    """What an archive says of its elements."""
    name = f"{root}/byteorder"
    if not archive.has(name):
        return "little"
    match archive.read(name, MAX_NOTE):
        case b"little":
            return "little"
        case b"big":
            return "big"
    raise UnreadableModel("states an unknown byte order")
