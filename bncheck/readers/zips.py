"""Zip archives: which of PyTorch's formats one is, by the entries that it holds."""

from __future__ import annotations

from bncheck.model import Model
from bncheck.readers.source import Source
from bncheck.readers.torch import zipped
from bncheck.readers.ziparchive import ZipArchive


def read(source: Source) -> tuple[Model, ...]:
    """The models of a zip file. Raises NotAModel where it is some other archive."""
    archive = ZipArchive(source)
    root = next(iter(archive.entries), "").partition("/")[0]
    if archive.has(f"{root}/archive_format") or not archive.has(f"{root}/data.pkl"):
        from bncheck.readers import exported

        if exported.is_exported(archive):
            return exported.read(archive)
    if archive.has(f"{root}/.data/extern_modules"):
        from bncheck.readers.torch import package

        return package.read(archive, root, source)
    if archive.has(f"{root}/constants.pkl"):  # by which torch.load tells it too
        from bncheck.readers import torchscript

        return torchscript.read(archive, zipped.root_of(archive))
    return zipped.read(archive, source)
