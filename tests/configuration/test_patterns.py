"""Path patterns of configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.configuration.patterns import leads_out, matches


@pytest.mark.parametrize(
    ("pattern", "path", "holds"),
    [
        ("*.pt", "a.pt", True),
        ("*.pt", "b/a.pt", False),
        ("**", "b/a.pt", True),
        ("**/*.pt", "a.pt", True),
        ("b/**/a.pt", "b/a.pt", True),
        ("b/**/a.pt", "b/c/d/a.pt", True),
        ("b/**/c", "b/x/c/a.pt", True),  # a folder above it
        ("b/**/c/*.onnx", "b/x/c/a.pt", False),
        ("./b/*.pt", "b/a.pt", True),
        ("b\\*.pt", "b/a.pt", True),
        ("[ab]/?.pt", "b/a.pt", True),
    ],
)
def test_what_a_pattern_means(tmp_path: Path, pattern: str, path: str, holds: bool) -> None:
    assert matches([pattern], tmp_path, tmp_path / path) is holds


def test_many_stars_cost_little(tmp_path: Path) -> None:
    path = tmp_path.joinpath(*["a"] * 60, "x")
    assert not matches(["**/a/" * 25 + "y"], tmp_path, path)


@pytest.mark.parametrize("pattern", ["/a.pt", "../a.pt", "b/../../a.pt", "C:\\a.pt", "\\\\x\\y\\z"])
def test_a_pattern_that_leads_out_of_its_folder(pattern: str) -> None:
    assert leads_out(pattern)


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "link").symlink_to("real")
    except OSError:
        pytest.skip("links need rights here")
    assert matches(["real/a.pt"], tmp_path, tmp_path / "link" / "a.pt")
