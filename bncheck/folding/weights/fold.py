"""A file of weights, or of a pickled module, in; one of its kind out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding import npz
from bncheck.folding.options import Options, Progress, silent
from bncheck.folding.output import Staging, require_apart
from bncheck.folding.result import FoldResult
from bncheck.folding.torch.feeds import GIVE
from bncheck.folding.torch.live import fold_module
from bncheck.folding.weights.architecture import built, needed_torch
from bncheck.folding.weights.pickled import Pickled
from bncheck.folding.weights.state import fill, give_back
from bncheck.folding.weights.stores import open_weights
from bncheck.model import Model
from bncheck.readers import read
from bncheck.readers.source import FileSource
from bncheck.running.runner import pick

BARE = (
    "{path}: holds tensors, and not what is done to them: name the code that builds the module "
    "with --arch package.module:factory"
)
GIVE_NPZ = "give --inputs FILE.npz, or --no-verify to fold without proof"


def fold_file(
    source: Path, target: Path, options: Options, progress: Progress = silent
) -> FoldResult:
    """Fold a state_dict with ``options.arch``, or a pickled module with ``options.trust``.

    Raises CannotFold where that cannot be, or where the result is not the same within its bound;
    UnreadableModel where the file cannot be read. Nothing is written then.
    """
    require_apart(source, target)
    model = _only(source, options.key)
    if model.content == "module":
        if options.arch is not None:
            raise CannotFold(f"{source}: is a pickled module: it takes --trust, and no --arch")
        return _fold_pickled(model, source, target, options, progress)
    if options.arch is None:
        raise CannotFold(BARE.format(path=source))
    return _fold_weights(model, source, target, options, progress)


def _only(source: Path, key: str | None) -> Model:
    models = pick(read(source), key)
    if len(models) > 1:
        names = ", ".join(str(model.member) for model in models)
        raise CannotFold(f"{source}: holds {len(models)} models ({names}): choose one with --key")
    return models[0]


def _fold_weights(
    model: Model, source: Path, target: Path, options: Options, progress: Progress
) -> FoldResult:
    progress(f"importing {options.arch}")
    file = open_weights(FileSource(source), model.format, model.member)
    module = built(options.arch or "")
    prefix = fill(module, file.tensors)
    result = _folded(module, source, options)
    give_back(file, prefix, module, result.model)
    with Staging(target) as staging:
        made = staging.write(target.name, file.written())
        return _done(result, source, made, staging, options)


def _fold_pickled(
    model: Model, source: Path, target: Path, options: Options, progress: Progress
) -> FoldResult:
    progress(f"unpickling {source}")
    pickled = Pickled(source, model, options.trust)
    result = _folded(pickled.module, source, options)
    with Staging(target) as staging:
        made = staging.place(target.name)
        pickled.save(result.model, made)
        return _done(result, source, made, staging, options)


def _folded(module: Any, source: Path, options: Options) -> FoldResult:
    if options.scale_only:
        raise CannotFold("a module has no place for the addition that --scale-only leaves")
    try:
        return fold_module(
            module, _inputs(options.inputs), verify=options.verify, tolerance=options.tolerance
        )
    except CannotFold as error:
        text = str(error).replace(GIVE, GIVE_NPZ).replace("give inputs=...", GIVE_NPZ)
        raise CannotFold(f"{source}: {text}") from error


def _inputs(path: Path | None) -> object | None:
    """The arrays of an .npz as the arguments of a call, by name."""
    if path is None:
        return None
    make = needed_torch().from_numpy
    return {name: make(array) for name, array in npz.arrays(path).items()}


def _done(
    result: FoldResult, source: Path, made: Path, staging: Staging, options: Options
) -> FoldResult:
    saved = source.stat().st_size - made.stat().st_size
    if not options.dry_run:
        staging.publish()
    return replace(result, model=None, saved={**result.saved, "bytes": saved})
