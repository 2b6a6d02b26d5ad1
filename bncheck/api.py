"""The library's face: the checks as plain functions on a path or a live object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bncheck import packs, readers
from bncheck.configuration.settings import ProfileChoice, Settings, plan
from bncheck.configuration.values import rule_levels, rule_options
from bncheck.engine import assess
from bncheck.errors import naming
from bncheck.finding import Level
from bncheck.model import Model
from bncheck.report import ModelReport, Notes, Report
from bncheck.running.outcome import Checked
from bncheck.running.runner import pick


def check(
    target: object,
    *,
    inputs: object | None = None,
    profile: ProfileChoice = "auto",
    select: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    preview: bool = False,
    levels: Mapping[str, Level | str] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    assume_eval: bool = False,
    key: str | None = None,
) -> Report:
    """Check a path, an nn.Module, an ExportedProgram, a state_dict or an onnx.ModelProto.

    ``inputs`` are the arguments of a call of an nn.Module (a tensor, a tuple, or a mapping by
    name), with which it is traced for shapes, and where it cannot be traced without.
    ``select`` and ``ignore`` take rule ids, names or prefixes ("BN2"); ``preview`` adds the rules
    that are tried out. ``levels`` and ``options`` are keyed by rule id or name. ``assume_eval``:
    whoever loads the model calls eval(). ``key`` picks one model of a file with several. No
    configuration file is read.

    Raises UnreadableModel where there is no model to check, ConfigurationError for
    unknown rules, levels and options.
    """
    settings = Settings(
        select=None if select is None else tuple(select),
        ignore=tuple(ignore),
        profile=profile,
        preview=preview,
        levels=rule_levels(dict(levels or {})),
        options=rule_options({rule: dict(each) for rule, each in (options or {}).items()}),
    )
    entries = judged(target, (settings,), inputs, key, assume_eval)
    return Report(tuple(entry.report for entry in entries), notes=Notes(packs.loaded()))


def judged(
    target: object,
    layers: Sequence[Settings],
    inputs: object | None = None,
    key: str | None = None,
    assume_eval: bool = False,
) -> tuple[Checked, ...]:
    """The models of a target under layers of settings; the rest as in ``check``."""
    decided = plan(*layers)
    with naming(target):
        models = pick(readers.read(target, inputs), key)
    if assume_eval:
        models = tuple(replace(m, loader_calls_eval="the caller (assume_eval)") for m in models)
    assessed = ((model, assess(model, decided.rules, decided.policy)) for model in models)
    path = name_of(target)
    return tuple(Checked(ModelReport(path, model, found), decided) for model, found in assessed)


def inspect(target: object, *, inputs: object | None = None) -> tuple[Model, ...]:
    """The facts of every model in a file or live object, unjudged; ``inputs`` as in ``check``.

    Raises UnreadableModel where there is none.
    """
    with naming(target):
        return readers.read(target, inputs)


def name_of(target: object) -> str:
    """A target as a report calls it: its path, or what it is."""
    if isinstance(target, str | os.PathLike):
        return os.fspath(target)
    return f"<{type(target).__name__}>"
