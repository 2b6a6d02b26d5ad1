"""The plugin that pytest loads by itself: the fixture ``assert_healthy``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bncheck.report import Report


@pytest.fixture
def assert_healthy(pytestconfig: pytest.Config) -> Callable[..., Report]:
    """bncheck.testing.assert_healthy, under the bncheck configuration of the project's root."""
    from bncheck import testing
    from bncheck.configuration.files import Configurations

    configuration = Configurations().of(pytestconfig.rootpath)

    def healthy(target: object, **options: Any) -> Report:
        __tracebackhide__ = True
        return testing.assert_healthy(target, **{"configuration": configuration, **options})

    return healthy
