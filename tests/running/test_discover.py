"""Which files a run looks at."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from bncheck.running.discover import discover

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes need rights there")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(*arguments: str) -> list[str]:
    return [candidate.path.as_posix() for candidate in discover(arguments)]


def problems(*arguments: str) -> Iterable[tuple[str, str | None]]:
    return [(each.path.as_posix(), each.problem) for each in discover(arguments)]


def test_a_file_is_named_and_a_folders_files_are_not(here: Path) -> None:
    touch("a.pt", "folder/b.pt")
    assert [(c.path.as_posix(), c.named) for c in discover(["a.pt", "folder"])] == [
        ("a.pt", True),
        ("folder/b.pt", False),
    ]


def test_folders_are_searched_in_order(here: Path) -> None:
    touch("m/b.pt", "m/a.txt", "m/x/2.pt", "m/x/10.pt", "m/a/z.pt")
    assert found("m") == ["m/a.txt", "m/b.pt", "m/a/z.pt", "m/x/10.pt", "m/x/2.pt"]


def test_hidden_and_generated_folders_are_passed_over(here: Path) -> None:
    touch("m/.git/a", "m/.venv/b.pt", "m/__pycache__/c", "m/node_modules/d", "m/e.pt", "m/.f.pt")
    assert found("m") == ["m/.f.pt", "m/e.pt"]
    assert found("m/.git") == ["m/.git/a"]


def test_the_current_folder(here: Path) -> None:
    touch("a.pt", "x/b.pt")
    assert found(".") == ["a.pt", "x/b.pt"]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*.pt", ["a.pt", "b.pt"]),
        ("[ab].pt", ["a.pt", "b.pt"]),
        ("?.onnx", ["c.onnx"]),
        ("**/*.pt", ["a.pt", "b.pt", "x/y/d.pt"]),
        ("x*", ["x/y/d.pt"]),
    ],
)
def test_patterns_are_expanded(here: Path, pattern: str, paths: list[str]) -> None:
    touch("a.pt", "b.pt", "c.onnx", "x/y/d.pt")
    assert found(pattern) == paths


def test_an_absolute_pattern(here: Path) -> None:
    touch("a.pt")
    assert found(str(here / "*.pt")) == [(here / "a.pt").as_posix()]


def test_what_a_pattern_matches_is_named(here: Path) -> None:
    touch("a.pt")
    assert [candidate.named for candidate in discover(["*.pt"])] == [True]


def test_a_pattern_without_a_match_is_a_problem(here: Path) -> None:
    assert problems("*.pt") == [("*.pt", "matches no file")]


def test_a_file_that_looks_like_a_pattern_is_a_file(here: Path) -> None:
    touch("model[1].pt", "model1.pt")
    assert found("model[1].pt") == ["model[1].pt"]


def test_a_missing_file_is_left_to_the_reader(here: Path) -> None:
    assert problems("missing.pt") == [("missing.pt", None)]


def test_a_file_given_twice_is_found_once_and_named(here: Path) -> None:
    touch("m/a.pt", "m/b.pt")
    candidates = list(discover(["m", "m/a.pt", "./m/../m/a.pt"]))
    assert [(c.path.as_posix(), c.named) for c in candidates] == [
        ("m/a.pt", True),
        ("m/b.pt", False),
    ]


@posix
def test_links_to_files_are_followed_and_links_to_folders_are_not(here: Path) -> None:
    touch("elsewhere/a.pt", "elsewhere/more/b.pt")
    Path("m").mkdir()
    Path("m/link.pt").symlink_to(here / "elsewhere" / "a.pt")
    Path("m/folder").symlink_to(here / "elsewhere" / "more")
    assert found("m") == ["m/link.pt"]
    assert found("m/folder") == ["m/folder/b.pt"]


@posix
def test_a_loop_of_folders_ends(here: Path) -> None:
    touch("m/a.pt")
    Path("m/loop").symlink_to(here / "m")
    assert found("m") == ["m/a.pt"]


@posix
def test_a_hub_cache_shows_its_snapshots_only(here: Path) -> None:
    touch("hub/models--x/blobs/0a1b", "hub/models--x/refs/main")
    snapshot = Path("hub/models--x/snapshots/5f")
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(here / "hub/models--x/blobs/0a1b")
    assert found("hub") == [
        "hub/models--x/refs/main",
        "hub/models--x/snapshots/5f/model.safetensors",
    ]


def test_a_folder_that_is_only_called_blobs_is_searched(here: Path) -> None:
    touch("m/blobs/a.pt")
    assert found("m") == ["m/blobs/a.pt"]


@posix
def test_a_link_that_leads_nowhere_is_a_problem_unless_hidden(here: Path) -> None:
    Path("m").mkdir()
    Path("m/model.pt").symlink_to("gone.pt")
    Path("m/.#lock").symlink_to("user@host")
    assert problems("m") == [("m/model.pt", "links to a file that does not exist")]


@posix
def test_pipes_are_passed_over(here: Path) -> None:
    touch("m/a.pt")
    os.mkfifo("m/pipe")
    assert found("m") == ["m/a.pt"]


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read all")
def test_a_closed_folder_is_a_problem(here: Path) -> None:
    touch("m/closed/a.pt", "m/b.pt")
    Path("m/closed").chmod(0)
    try:
        assert problems("m") == [
            ("m/b.pt", None),
            ("m/closed", "cannot be searched: permission denied"),
        ]
    finally:
        Path("m/closed").chmod(0o700)
