"""The order of arguments that bncheck knows, against the operators themselves."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from bncheck.readers.aten.schemas import SCHEMAS  # noqa: E402
from bncheck.readers.aten.signatures import TABLE  # noqa: E402

# Of torch.nn.functional, or with one schema in place of several of other names.
NO_OPERATOR = {"interpolate", "local_response_norm", "mish"}


def _schemas(name: str) -> list[list[str]]:
    op, _, overload = name.partition(".")
    packet = getattr(torch.ops.aten, op)
    overloads = [overload] if overload else packet.overloads()
    return [[each.name for each in getattr(packet, o)._schema.arguments] for o in overloads]


@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() - NO_OPERATOR))
def test_arguments_are_in_the_order_of_an_overload(name: str) -> None:
    if not hasattr(torch.ops.aten, name.partition(".")[0]):
        pytest.skip("this torch has no such operator")
    ours = SCHEMAS[name]
    assert any(tuple(theirs[: len(ours)]) == ours for theirs in _schemas(name)), _schemas(name)


def test_every_known_operator_has_its_arguments_in_order() -> None:
    named = {op.removeprefix("aten.") for op in TABLE if op.startswith("aten.")}
    assert named <= {name.partition(".")[0] for name in SCHEMAS}
