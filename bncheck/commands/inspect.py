"""bncheck inspect: every normalization layer of a model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bncheck import console, readers
from bncheck.errors import UnreadableModel
from bncheck.model import Model
from bncheck.report import layer_to_dict
from bncheck.reports.contents import contents
from bncheck.reports.layout import fill, listed, model_name
from bncheck.running.outcome import FAILED, OK
from bncheck.running.runner import pick


def inspect(path: Path, form: str, key: str | None) -> int:
    """Print the layers of a model; the exit code."""
    try:
        models = pick(readers.read(path), key)
        shown = _as_json(path, models) if form == "json" else _as_tables(path, models)
    except UnreadableModel as error:
        console.message(f"{path}: {error.reason}")
        return FAILED
    console.write(shown)
    return OK


def _as_tables(path: Path, models: Sequence[Model]) -> str:
    from bncheck.reports.table import layers

    return "\n".join(_head(path, model) + layers(model) for model in models)


def _head(path: Path, model: Model) -> str:
    named = model_name(str(path), model.member)
    return fill([*named, *listed(contents(model), apart=True)], "", "    ", console.paint())


def _as_json(path: Path, models: Sequence[Model]) -> str:
    from bncheck.reports.json import dump

    return dump([_entry(path, model) for model in models])


def _entry(path: Path, model: Model) -> dict[str, object]:
    return {
        "path": str(path),
        "member": model.member,
        "format": model.format,
        "content": model.content,
        "holds": model.holds,
        "evidence": sorted(model.evidence),
        "layers": [layer_to_dict(layer) for layer in model.layers],
    }
