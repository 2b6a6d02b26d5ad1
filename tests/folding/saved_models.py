"""Models saved as files of torch.export and TorchScript, and how far two such files are apart."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch_nets import randomised


@dataclass
class Settings:
    """What people keep beside weights: an object that its class does not make without arguments."""

    rate: float
    names: tuple[str, ...]


BATCH = torch.export.Dim("batch", min=1, max=64)


def prepared(module: Any) -> Any:
    """The module in float64 and eval mode, with statistics: what rounding does not blur."""
    torch.manual_seed(0)
    return randomised(module).double()


def data(shape: tuple[int, ...], seed: int = 0, factor: float = 1.0) -> Any:
    random = torch.Generator().manual_seed(seed)
    return factor * torch.randn(shape, dtype=torch.float64, generator=random)


def export(
    module: Any,
    shape: tuple[int, ...],
    path: Path,
    dynamic: bool = False,
    decomposed: bool = False,
) -> Path:
    """Save a module with torch.export."""
    shapes = ({0: BATCH},) if dynamic else None
    program = torch.export.export(module, (data(shape),), dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return path


def export_as_before_2_8(module: Any, shape: tuple[int, ...], path: Path) -> Path:
    """The layout of older releases: one file of torch.save for all weights."""
    program = torch.export.export(module, (data(shape),))
    new = export(module, shape, path.with_suffix(".new"))
    with zipfile.ZipFile(new) as held, zipfile.ZipFile(path, "w") as old:
        (document,) = (name for name in held.namelist() if name.endswith("models/model.json"))
        old.writestr("version", "8.8")
        old.writestr("serialized_exported_program.json", held.read(document))
        old.writestr("serialized_state_dict.pt", _saved(dict(program.state_dict)))
        old.writestr("serialized_constants.pt", _saved(dict(program.constants)))
        old.writestr("serialized_example_inputs.pt", _saved(program.example_inputs))
    return path


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def script(module: Any, shape: tuple[int, ...], path: Path, how: str) -> Path:
    """Save a module as TorchScript: "trace", "script", or frozen after one of the two."""
    with torch.no_grad():
        example = data(shape).to(next(iter(module.state_dict().values())).dtype)
        is_traced = how.endswith("trace")
        made = torch.jit.trace(module, example, check_trace=False) if is_traced else None
        made = made or torch.jit.script(module)
        if how.startswith("frozen"):
            made = torch.jit.freeze(made, optimize_numerics=False)
    torch.jit.save(made, path)
    return path


def load(path: Path) -> Any:
    """What torch makes of a file."""
    return torch.export.load(path).module() if path.suffix == ".pt2" else torch.jit.load(path)


def flat(made: Any) -> list[Any]:
    if isinstance(made, dict):
        made = [*made.values()]
    if isinstance(made, list | tuple):
        return [tensor for each in made for tensor in flat(each)]
    return [made]


def largest_error(original: Path, folded: Path, shape: tuple[int, ...]) -> float:
    """Of all outputs on three inputs, relative to the largest value of the original."""
    before, after = load(original), load(folded)
    errors = [0.0]
    for seed, factor in enumerate((1.0, 10.0, 0.0), 1):
        given = data(shape, seed, factor)
        with torch.no_grad():
            pairs = zip(flat(before(given.clone())), flat(after(given.clone())), strict=True)
            for expected, found in pairs:
                assert expected.shape == found.shape
                scale = expected.abs().max().item() or 1.0
                errors.append((expected - found).abs().max().item() / scale)
    return max(errors)
