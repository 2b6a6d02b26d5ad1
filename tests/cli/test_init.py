"""bncheck init, --version and shell completion."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bncheck import __version__, catalogue
from bncheck.commands.init import TEMPLATE
from bncheck.configuration.files import KEYS, read
from bncheck.configuration.ignoring import KEYS as IGNORE_KEYS
from bncheck.configuration.settings import Settings


def uncommented(*left_out: str) -> str:
    """The template with every key and table in use but those that begin so."""
    lines = [line.removeprefix("#") for line in TEMPLATE.splitlines() if re.match(r"#[^ ]", line)]
    return "\n".join(line for line in lines if not line.startswith(left_out))


def test_it_writes_what_can_be_read_and_changes_nothing(bncheck: Any) -> None:
    ran = bncheck("init")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("bncheck: bncheck.toml: written")
    file = Path("bncheck.toml")
    assert read(file) == Settings(file=file)


def test_every_key_is_shown_with_a_value_that_holds(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        uncommented("[[ignore]]", "rules =", "files", "layers", "rea", "exp")
    )
    (tmp_path / "b.toml").write_text(uncommented("ignore ="))
    first, second = read(tmp_path / "a.toml"), read(tmp_path / "b.toml")
    assert first.ignore and not first.suppressions
    assert second.suppressions and not second.ignore
    document = tomllib.loads((tmp_path / "b.toml").read_text())
    assert {*document} == set(KEYS)
    assert {*document["ignore"][0]} == set(IGNORE_KEYS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bncheck.toml", ""),
        ("bncheck.toml", "not even TOML ["),
        ("pyproject.toml", "[tool.bncheck]\nshow = 'info'\n"),
    ],
)
def test_what_is_there_is_left_alone(bncheck: Any, name: str, text: str) -> None:
    Path(name).write_text(text)
    ran = bncheck("init")
    assert ran.code == 2
    assert ran.err == f"bncheck: {name}: is there already, and is left alone\n"
    assert [path.name for path in bncheck.folder.iterdir()] == [name]
    assert Path(name).read_text() == text


def test_a_project_of_others_and_a_folder(bncheck: Any) -> None:
    bncheck.write(sub__pyproject_toml="[project]\nname = 'x'\n")
    assert bncheck("init sub").code == 0
    assert Path("sub/bncheck.toml").exists()
    ran = bncheck("init missing")
    assert ran.code == 2
    assert "cannot be written: no such file or directory" in ran.err


# --version


def test_the_version_comes_first_then_what_is_there(bncheck: Any) -> None:
    first, *rest = bncheck("--version").out.splitlines()
    assert first == f"bncheck {__version__}"
    assert [line.split()[0] for line in rest] == ["python", "onnx", "torch", "reports"]


def test_a_part_that_is_missing_is_named_with_the_line_to_install_it(
    bncheck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"onnx": "1.2.3"}
    monkeypatch.setattr("bncheck.commands.version._installed", held.get)
    out = bncheck("--version").out
    assert '  onnx     onnx 1.2.3; without onnxruntime: pip install "bncheck[onnx]"\n' in out
    assert '  torch    without torch: pip install "bncheck[torch]"\n' in out


# completion


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bncheck ex", {"explain"}),
        ("bncheck check --fail-on wa", {"warning"}),
        ("bncheck model.pt --fail-on wa", {"warning"}),
        ("bncheck --fail-on wa", {"warning"}),
        ("bncheck model.pt --write-b", {"--write-baseline"}),
        ("bncheck model.pt --select negative-v", {"negative-variance"}),
        ("bncheck model.pt --ignore bn1,BN20", {f"bn1,BN20{i}" for i in range(1, 10)}),
        ("bncheck explain BN101 tiny", {"tiny-batch"}),
        ("bncheck --vers", {"--version"}),
    ],
)
def test_words_are_completed(
    bncheck: Any, monkeypatch: pytest.MonkeyPatch, line: str, words: set[str]
) -> None:
    assert completed(bncheck, monkeypatch, line)["plain"] == words


@pytest.mark.parametrize("line", ["bncheck mod", "bncheck check mod", "bncheck a.pt mod"])
def test_files_are_completed(bncheck: Any, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    assert completed(bncheck, monkeypatch, line) == {"file": {"mod"}, "plain": set()}


def completed(shell: Any, monkeypatch: pytest.MonkeyPatch, line: str) -> dict[str, set[str]]:
    monkeypatch.setenv("_BNCHECK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    ran = shell("")
    assert (ran.code, ran.err) == (0, "")
    found: dict[str, set[str]] = {"plain": set()}
    for kind, _, word in (each.partition(",") for each in ran.out.splitlines()):
        found.setdefault(kind, set()).add(word)
    return found


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_is_one_that_bash_takes(bncheck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_BNCHECK_COMPLETE", "bash_source")
    script = bncheck("").out
    ran = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "_BNCHECK_COMPLETE=bash_complete" in script


def test_every_rule_of_the_template_exists() -> None:
    for rule in re.findall(r"BN\d{3}", TEMPLATE):
        assert rule in catalogue.load()
