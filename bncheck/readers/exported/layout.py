"""Where the parts of a program lie in its archive, whichever torch wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bncheck.errors import UnreadableModel
from bncheck.readers.exported.document import MOST_BYTES, parse
from bncheck.readers.exported.program import Program
from bncheck.readers.exported.schema import read_program
from bncheck.readers.exported.weights import Tensors, listed, saved
from bncheck.readers.ziparchive import ZipArchive

OLD_PROGRAM = "serialized_exported_program.json"
OLD_TENSORS = ("serialized_constants", "serialized_state_dict")
FORMAT_NOTE = "archive_format"
MODELS, WEIGHTS, CONSTANTS = "models/", "data/weights/", "data/constants/"


@dataclass(frozen=True, slots=True)
class Held:
    """Where tensors are: in one entry that torch.save wrote, or (``folder``) listed in a table."""

    entry: str
    folder: str | None = None

    def tensors(self, archive: ZipArchive) -> Tensors:
        """The tensors by qualified name."""
        if self.folder is None:
            return saved(archive, self.entry)
        return listed(archive, self.folder, self.entry.removeprefix(self.folder))


@dataclass(frozen=True, slots=True)
class Place:
    """A program: its name, its document, and its tensors, of which those that come later count."""

    name: str
    document: str
    held: tuple[Held, ...]

    def program(self, archive: ZipArchive) -> Program:
        """The program that lies here."""
        document = parse(archive.read(self.document, MOST_BYTES), "program")
        tensors: Tensors = {}
        for each in self.held:
            tensors |= each.tensors(archive)
        return read_program(document, tensors)


def places(archive: ZipArchive) -> list[Place]:
    """The programs of an archive, maybe none. Raises UnreadableModel where there are two readings.

    Before torch 2.8 there was one, and no folders.
    """
    if archive.has(OLD_PROGRAM):
        return [Place("model", OLD_PROGRAM, tuple(_old_tensors(archive)))]
    root = root_of(archive)
    _require_one_reading(archive, root)
    return [_place(archive, root, name) for name in _programs(archive, root + MODELS)]


def root_of(archive: ZipArchive) -> str:
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


def _place(archive: ZipArchive, root: str, name: str) -> Place:
    constants = _held(archive, root + CONSTANTS, name, f"{name}_constants_config.json")
    weights = _held(archive, root + WEIGHTS, name, f"{name}_weights_config.json")
    return Place(name, f"{root}{MODELS}{name}.json", (constants, weights))


def _held(archive: ZipArchive, folder: str, name: str, table: str) -> Held:
    """Tensors as torch looks for them: one file of torch.save, else a table of storages."""
    if archive.has(f"{folder}{name}.pt"):
        return Held(f"{folder}{name}.pt")
    if archive.has(folder + table):
        return Held(folder + table, folder)
    raise UnreadableModel(f"lacks {table!r}, the table of its tensors: damaged, or saved in part")


def _old_tensors(archive: ZipArchive) -> Iterator[Held]:
    for name in OLD_TENSORS:
        for suffix in (".pt", ".json"):  # torch 2.1 called it .json, and wrote no JSON
            if archive.has(name + suffix):
                yield Held(name + suffix)
