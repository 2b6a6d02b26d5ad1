from __future__ import annotations

import pytest

from bncheck.facts import UnknownFact
from bncheck.readers import limits
from bncheck.readers.limits import MAX_ELEMENTS, ElementBudget, all_values


def test_one_tensor_may_have_so_many_elements() -> None:
    ElementBudget().decode(MAX_ELEMENTS)
    with pytest.raises(UnknownFact, match="are not read"):
        ElementBudget().decode(MAX_ELEMENTS + 1)


@pytest.mark.parametrize(("contiguous", "times"), [(True, 10), (False, 1)])
def test_all_of_a_file_are_counted(
    contiguous: bool, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_ALL_ELEMENTS", 100)
    budget = ElementBudget()
    for _ in range(times):
        budget.decode(10, contiguous)
    with pytest.raises(UnknownFact, match="were read already"):
        budget.decode(10, contiguous)


def test_who_needs_all_of_them_is_given_them() -> None:
    budget = ElementBudget()
    with all_values():
        budget.decode(100 * MAX_ELEMENTS)
    with pytest.raises(UnknownFact):
        budget.decode(100 * MAX_ELEMENTS)
