"""TorchScript archives made by hand: the code is written out, so that no torch is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from bncheck.model import Model

ROOT = "net"
STORAGE = bytes(64)  # the content of every storage


@pytest.fixture
def archive(make: Any) -> Callable[..., bytes]:
    """An archive whose root is of class ``__torch__.Net``.

    ``code`` is what defines it, or several files by path; ``state`` what it holds; ``keys`` and
    ``constant_keys`` name the storages.
    """

    def build(
        code: str | Mapping[str, str],
        state: Any = None,
        constants: Sequence[Any] = (),
        keys: Sequence[str] = (),
        constant_keys: Sequence[str] = (),
    ) -> bytes:
        files = {"__torch__": code} if isinstance(code, str) else code
        held = {"training": False} if state is None else state
        named = {
            "data.pkl": make.pickle(make.Call("__torch__.Net", (), held, new=True)),
            "constants.pkl": make.pickle(tuple(constants)),
            **{f"code/{path}.py": text.encode() for path, text in files.items()},
            **{f"data/{key}": STORAGE for key in keys},
            **{f"constants/{key}": STORAGE for key in constant_keys},
        }
        entries = (make.Entry(f"{ROOT}/{name}", data, method=8) for name, data in named.items())
        return bytes(make.zip(*entries))

    return build


@pytest.fixture
def follow(
    archive: Callable[..., bytes], read_bytes: Callable[..., tuple[Model, ...]]
) -> Callable[..., Model]:
    """The model of an archive whose forward takes ``x`` and has these lines.

    ``declared`` stands in the class before forward, ``rest`` behind it.
    """

    def read(
        *lines: str,
        parameters: str = "x: Tensor",
        declared: str = "",
        rest: str = "",
        **archived: Any,
    ) -> Model:
        head = f"  def forward(self: __torch__.Net,\n    {parameters}) -> Tensor:\n"
        body = "".join(f"    {line}\n" for line in lines)
        code = f"class Net(Module):\n{declared}{head}{body}{rest}"
        (model,) = read_bytes(archive(code, **archived))
        return model

    return read
