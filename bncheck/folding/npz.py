"""Arrays that a user gives as the inputs of a model: an .npz, by the names of inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bncheck.errors import CannotFold


def arrays(path: Path) -> Mapping[str, Any]:
    """All arrays of a file. Raises CannotFold where it is none, or holds pickled objects."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, AttributeError, EOFError) as error:
        raise CannotFold(f"{path}: no .npz of arrays by the names of inputs") from error


def require_names(
    path: Path, given: Mapping[str, Any], wanted: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """Raise CannotFold where an array is missing, or is one too many."""
    takes = f"the model takes {', '.join((*wanted, *optional))}"
    lacking = next((name for name in wanted if name not in given), None)
    if lacking is not None:
        raise CannotFold(f"{path}: lacks an array {lacking!r}: {takes}")
    unknown = next((name for name in given if name not in (*wanted, *optional)), None)
    if unknown is not None:
        raise CannotFold(f"{path}: holds an array {unknown!r}: {takes}")
