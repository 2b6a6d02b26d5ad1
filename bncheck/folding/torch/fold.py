"""Folds what lives in this process: modules, and programs that torch.export made of them."""

from __future__ import annotations

import sys
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.result import FoldResult


def fold_object(
    target: object,
    inputs: object | None = None,
    *,
    inplace: bool = False,
    verify: bool = True,
    tolerance: float | None = None,
) -> FoldResult:
    """Fold an nn.Module, or an ExportedProgram; raises CannotFold for anything else."""
    if _is_exported_program(target):
        if inplace:
            raise CannotFold("an ExportedProgram is folded into a new one, not in place")
        from bncheck.folding.program.fold import fold_program

        return fold_program(target, inputs, verify=verify, tolerance=tolerance)
    if "torch" not in sys.modules:
        raise CannotFold(
            f"a value of type {type(target).__name__} cannot be folded: give a path or an nn.Module"
        )
    from bncheck.folding.torch.live import fold_module

    return fold_module(target, inputs, inplace=inplace, verify=verify, tolerance=tolerance)


def _is_exported_program(target: object) -> bool:
    export: Any = sys.modules.get("torch.export.exported_program")
    return bool(export) and isinstance(target, export.ExportedProgram)
