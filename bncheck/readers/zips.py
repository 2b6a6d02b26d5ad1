"""Zip archives: which of PyTorch's formats one is, by the entries that it holds."""

from __future__ import annotations

from bncheck.model import Model
from bncheck.readers.source import Source
from bncheck.readers.torch import zipped
from bncheck.readers.ziparchive import ZipArchive


def read(source: Source) -> tuple[Model, ...]:
    """The models of a zip file. Raises NotAModel where it is some other archive."""
    archive = ZipArchive(source)
    match format_of(archive):
        case "torch-export":
            from bncheck.readers import exported

            return exported.read(archive)
        case "torch-package":
            from bncheck.readers.torch import package

            return package.read(archive, _first_root(archive), source)
        case "torchscript":
            from bncheck.readers import torchscript

            return torchscript.read(archive, zipped.root_of(archive))
    return zipped.read(archive, source)


def format_of(archive: ZipArchive) -> str:
    """The format of an archive; "torch-zip" for one that is of none of the others."""
    root = _first_root(archive)
    if archive.has(f"{root}/archive_format") or not archive.has(f"{root}/data.pkl"):
        from bncheck.readers import exported

        if exported.is_exported(archive):
            return "torch-export"
    if archive.has(f"{root}/.data/extern_modules"):
        return "torch-package"
    if archive.has(f"{root}/constants.pkl"):  # by which torch.load tells it too
        return "torchscript"
    return "torch-zip"


def _first_root(archive: ZipArchive) -> str:
    return next(iter(archive.entries), "").partition("/")[0]
