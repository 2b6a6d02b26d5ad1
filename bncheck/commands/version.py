"""bncheck --version: the version, and what is there beside it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from bncheck import __version__, console, packs
from bncheck.errors import BncheckError

# By extra: the distributions that it brings, as the first word of a line.
PARTS = {
    "onnx": ("onnx", "onnxruntime"),
    "torch": ("torch",),
    "reports": ("jinja2", "junitparser", "markdown-it-py"),
}


def version() -> int:
    """Print it; 0."""
    lines = [f"bncheck {__version__}", f"  python   {platform.python_version()}"]
    lines += [f"  {extra:8} {_part(extra, names)}" for extra, names in PARTS.items()]
    lines += [f"  {'rules':8} {pack}" for pack in _packs()]
    console.write("".join(f"{line}\n" for line in lines))
    return 0


def _part(extra: str, names: tuple[str, ...]) -> str:
    found = {name: _installed(name) for name in names}
    said = ", ".join(f"{name} {held}" for name, held in found.items() if held)
    if all(found.values()):
        return said
    missing = ", ".join(name for name, held in found.items() if not held)
    hint = f'without {missing}: pip install "bncheck[{extra}]"'
    return f"{said}; {hint}" if said else hint


def _installed(name: str) -> str | None:
    try:
        return version_of(name)
    except PackageNotFoundError:
        return None


def _packs() -> list[str]:
    try:
        return list(map(str, packs.loaded()))
    except BncheckError as error:
        return [str(error)]
