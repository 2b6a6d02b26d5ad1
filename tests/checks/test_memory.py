"""What is found of a model is found once, and forgotten with it."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

from bncheck.checks.memory import once_per_model
from bncheck.model import Model


def test_each_model_is_looked_at_once(make: Any) -> None:
    seen: list[Model] = []

    @once_per_model
    def layers(model: Model) -> int:
        seen.append(model)
        return len(model.layers)

    one, two = make.model(), make.model(make.layer())
    assert [layers(one), layers(two), layers(one), layers(two)] == [0, 1, 0, 1]
    assert seen == [one, two]


def test_a_model_is_not_kept_for_what_was_found_of_it(make: Any) -> None:
    name = once_per_model(lambda model: model.format)
    model = make.model()
    assert name(model) == "torch-zip"
    known = ref(model)
    del model
    gc.collect()
    assert known() is None
