"""Every rule against its fixtures; the pack must be installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import bncheck

FIXTURES = Path(__file__).parents[1] / "fixtures"
FILES = sorted(FIXTURES.glob("AC*/*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_rule_judges_its_fixture(path: Path) -> None:
    rule = path.parent.name.partition("-")[0]
    report = bncheck.check(path, select=[rule])
    assert rule in {each for model in report.models for each in model.assessment.assessed}
    levels = {finding.level.value for finding in report.findings}
    assert levels == ({path.stem} - {"good"})


def test_the_limit_is_an_option() -> None:
    (path,) = FIXTURES.glob("AC101-*/warning.*")
    report = bncheck.check(path, select=["AC101"], options={"AC101": {"limit": 128}})
    assert not report.findings
