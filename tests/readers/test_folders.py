"""Which files of a folder stand for a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bncheck.errors import UnreadableModel
from bncheck.readers import folders
from bncheck.running.discover import discover


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(where: object, *names: str) -> None:
    """Empty files, and an index over some of them unless ``where`` is None."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    if where is not None:
        text = where if isinstance(where, str) else json.dumps({"weight_map": where})
        Path("m/x.index.json").write_text(text)


def found(*arguments: str) -> list[str]:
    return [candidate.path.as_posix() for candidate in discover(arguments)]


@pytest.mark.parametrize(
    ("names", "own"),
    [
        ([".metadata", "__0_0.distcp", "meta.pt"], ["meta.pt"]),
        ([".metadata", "a.pt"], [".metadata", "a.pt"]),
        (["__0_0.distcp"], ["__0_0.distcp"]),
        ([], []),
    ],
)
def test_own_files(names, own):
    assert folders.own_files(names) == own


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.safetensors.index.json", True),
        ("pytorch_model.bin.index.fp16.json", True),
        ("config.json", False),
        ("index.json", False),
        ("model.index.txt", False),
    ],
)
def test_names_of_indexes(name, expected):
    assert folders.is_index(name) == expected


def test_a_distributed_checkpoint_is_one_candidate(here):
    write(None, "m/.metadata", "m/__0_0.distcp", "m/__1_0.distcp", "m/meta.pt", "m/sub/a.pt")
    assert found("m") == ["m", "m/meta.pt", "m/sub/a.pt"]
    assert found(".") == ["m", "m/meta.pt", "m/sub/a.pt"]


def test_shards_are_left_to_their_index(here):
    write({"a": "1.bin", "b": "sub/2.bin"}, "m/1.bin", "m/sub/2.bin", "m/3.bin", "m/sub/1.bin")
    assert found("m") == ["m/3.bin", "m/x.index.json", "m/sub/1.bin"]


@pytest.mark.parametrize(
    "where",
    [
        {"a": "../1.bin", "b": "/1.bin", "c": "../m/1.bin"},
        {"a": 1},
        "{",
        "",
        '{"weight_map": ',
        '{"other": {"a": "1.bin"}}',
    ],
)
def test_an_index_that_is_none_claims_nothing(here, where):
    write(where, "m/1.bin")
    assert found("m") == ["m/1.bin", "m/x.index.json"]


def test_a_shard_that_is_named_is_looked_at(here):
    write({"a": "1.bin"}, "m/1.bin")
    assert found("m", "m/1.bin") == ["m/x.index.json", "m/1.bin"]
    assert found("m/*") == ["m/1.bin", "m/x.index.json"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["m/.metadata", "m/__0_0.distcp", "m/x.index.json"], "m/.metadata"),
        (["m/x.index.json", "m/config.json"], "m/x.index.json"),
    ],
)
def test_representative(here, names, expected):
    write(None, *names)
    assert folders.representative(Path("m")).as_posix() == expected


@pytest.mark.parametrize("names", [["m/a.pt"], ["m/x.index.json", "m/y.index.json"]])
def test_no_representative(here, names):
    write(None, *names)
    with pytest.raises(UnreadableModel, match="name the model in it"):
        folders.representative(Path("m"))
