"""Tables: the normalization layers of a model, and the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate

from bncheck.catalogue import Rule
from bncheck.facts import Evidence, UnknownFact
from bncheck.model import Model, NormLayer
from bncheck.reports.layout import WIDTH, layer_name, printable
from bncheck.tensor import Tensor

Cell = Callable[[NormLayer], object]
NOT_KNOWN = "?"
NONE = "-"
NARROWEST = 20
STABLE = "stable"
HEAD_PADDING = 2  # tabulate.MIN_PADDING
LETTERS = {
    Evidence.TENSORS: "T",
    Evidence.FLAGS: "F",
    Evidence.GRAPH: "G",
    Evidence.METADATA: "M",
    Evidence.DATA: "D",
    Evidence.SECOND_FILE: "2",
}
LEGEND = "T tensors, F module flags, G graph, M metadata. More: bncheck explain BN101\n"


def layers(model: Model) -> str:
    """A row for each layer; a column that is known of no layer is left out.

    Raises UnreadableModel where the file breaks off within a batch counter.
    """
    rows = [[cell(read, layer) for read in COLUMNS.values()] for layer in model.layers]
    kept = [i for i, column in enumerate(zip(*rows, strict=True)) if set(column) != {NOT_KNOWN}]
    heads = [list(COLUMNS)[i] for i in kept]
    return _table([[row[i] for i in kept] for row in rows], heads)


def _table(rows: Sequence[Sequence[str]], heads: Sequence[str], last: int | None = None) -> str:
    widths = None if last is None else [*[None] * (len(heads) - 1), last]
    text = tabulate(rows, heads, tablefmt="simple", disable_numparse=True, maxcolwidths=widths)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def cell(read: Cell, layer: NormLayer) -> str:
    """What a column says of a layer; NOT_KNOWN and NONE are words of their own."""
    try:
        value = read(layer)
    except UnknownFact:
        return NOT_KNOWN
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(f"{value:g}" if isinstance(value, float) else str(value))


def _mode(layer: NormLayer) -> str:
    return "train" if layer.training else "eval"


def _statistics(layer: NormLayer) -> bool:
    if layer.knows(NormLayer.has_running_stats):
        return layer.has_running_stats
    return layer.running_mean is not None


def _dtype(layer: NormLayer) -> str | None:
    """Of all tensors but the counter."""
    roles = (NormLayer.weight, NormLayer.bias, NormLayer.running_mean, NormLayer.running_var)
    none: Tensor | None = None
    tensors = [layer.get(role, none) for role in roles if layer.knows(role)]
    dtypes = dict.fromkeys(tensor.dtype for tensor in tensors if tensor is not None)
    return ", ".join(dtypes) if dtypes else None if tensors else NOT_KNOWN


COLUMNS: dict[str, Cell] = {
    "name": lambda layer: layer_name(layer.name),
    "kind": lambda layer: layer.kind or NOT_KNOWN,
    "features": lambda layer: layer.num_features,
    "eps": lambda layer: layer.eps,
    "momentum": lambda layer: layer.momentum,
    "mode": _mode,
    "affine": lambda layer: layer.affine,
    "stats": _statistics,
    "dtype": _dtype,
    "batches": lambda layer: layer.counter,
}


def rules(catalogue: Iterable[Rule], width: int = WIDTH) -> str:
    """A row for each rule; what it finds is wrapped to the width, in columns."""
    heads = ["id", "name", "level", "evidence", "what"]
    rows = [
        [rule.id, rule.name, _level(rule), evidence_letters(rule), _headline(rule)]
        for rule in catalogue
    ]
    taken = sum(_width(head, [row[i] for row in rows]) for i, head in enumerate(heads[:-1]))
    return _table(rows, heads, max(width - taken, NARROWEST)) + LEGEND


def _width(head: str, column: Sequence[str]) -> int:
    """What tabulate gives a column: heads are padded, columns stand two spaces apart."""
    return max(len(head) + HEAD_PADDING, *map(len, column)) + 2


def _level(rule: Rule) -> str:
    return f"{rule.level.value}, {rule.status}" if rule.status != STABLE else rule.level.value


def _headline(rule: Rule) -> str:
    return rule.headline.replace("`", "")


def evidence_letters(rule: Rule) -> str:
    """What a rule needs to see, a letter each; LEGEND tells their meaning."""
    return " ".join(LETTERS[each] for each in Evidence if each in rule.evidence)
