"""What MLflow says of the modules in its folders.

Its model folder holds ``MLmodel``, a YAML file, and the module itself as ``data/model.pth``. Where
its python_function flavor loads that, each prediction calls eval() first (mlflow/pytorch,
_PyTorchWrapper). The file is scanned line by line for the few plain keys that say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bncheck.errors import UnreadableModel
from bncheck.readers.source import FileSource

NAME = "MLmodel"
FOLDER = "data"  # below that of MLmodel; MLflow gives it no other name
MAX_BYTES = 2**16  # flavors come first
_FLAVOR = "flavors.python_function."
_LINE = re.compile(r"( *)([A-Za-z_]\w{0,99}): *(.{0,200})")


def loader_calls_eval(source: FileSource) -> str | None:
    """Who switches a module file to eval mode, where it lies in a model folder of MLflow."""
    if source.path.absolute().parent.name != FOLDER:
        return None
    try:
        file = source.above(NAME)
        held = scan(file.read(0, min(file.size, MAX_BYTES))) if file else {}
    except UnreadableModel:  # there is none, or the module is sound without it
        return None
    flavor = (held.get(_FLAVOR + "loader_module"), held.get(_FLAVOR + "data"))
    return "MLflow's pyfunc flavor" if flavor == ("mlflow.pytorch", FOLDER) else None


def scan(text: bytes) -> Mapping[str, str]:
    """The plain ``key: value`` lines of a YAML file, by the dotted path that indentation gives.

    Anything else is passed over; a path that comes twice has no value.
    """
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in text.decode("utf-8", "replace").splitlines():
        plain = _LINE.fullmatch(line.rstrip())
        if plain:
            indent, key, value = len(plain[1]), plain[2], plain[3]
            while above and above[-1][0] >= indent:
                above.pop()
            prefix = above[-1][1] if above else ""
            path = f"{prefix}{key}"
            found[path] = "" if path in found else value.strip("'\"")
            above.append((indent, f"{path}."))
    return found
