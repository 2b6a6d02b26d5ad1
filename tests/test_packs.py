"""Rules that are not bncheck's own: the example pack, as a folder and as if it were installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bncheck
from bncheck import catalogue, packs
from bncheck.cli import main
from bncheck.configuration.files import read
from bncheck.configuration.settings import expand
from bncheck.errors import ConfigurationError

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "rule-pack"
PACK = EXAMPLE / "acme_rules"
FIXTURES = EXAMPLE / "fixtures" / "AC101-device-width"
WIDE = FIXTURES / "warning.safetensors"
PAGE = (PACK / "AC101-device-width.md").read_text("utf-8")


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    packs.forget()


def pack(
    folder: Path, page: str = PAGE, name: str = "AC101-device-width.md", **modules: str
) -> str:
    """A folder of rules; by default a copy of the example."""
    shutil.copytree(PACK, folder, ignore=shutil.ignore_patterns("__pycache__", "*.md"))
    (folder / name).write_text(page, "utf-8")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text, "utf-8")
    return str(folder)


@pytest.mark.parametrize("path", sorted(FIXTURES.iterdir()), ids=lambda path: path.stem)
def test_the_example_judges_its_fixtures(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path), "--rules", str(PACK), "--select", "AC101", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    levels = {finding["level"] for finding in report["files"][0]["findings"]}
    assert levels == {path.stem} - {"good"}
    assert report["tool"]["packs"] == [
        {"name": str(PACK), "version": None, "source": "folder", "rules": ["AC101"]}
    ]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("", 0, "Rules added: AC101 of"),
        ("--fail-on warning", 1, "warning AC101 device-width  bn\n"),
        ("--fail-on warning --ignore AC", 0, ""),
        ("--fail-on warning --level device-width=info", 0, "1 device-width"),
        ("--require AC101", 0, ""),
        ("--jobs 2", 0, "warning AC101"),
    ],
)
def test_its_rules_are_rules_like_others(
    options: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(FIXTURES / "good.safetensors"), str(WIDE)]
    assert main([*files, *options.split(), "--rules", str(PACK)]) == code
    assert said in capsys.readouterr().out


def test_a_configuration_may_set_their_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(WIDE, tmp_path / "wide.safetensors")
    (tmp_path / "bncheck.toml").write_text("rules.AC101.limit = 128")
    words = [str(tmp_path), "--rules", str(PACK), "--fail-on", "warning"]
    assert main(words) == 0
    assert main(words[:1]) == 2  # without the pack nothing is known of AC101
    assert "unknown rule 'AC101'" in capsys.readouterr().err


def test_other_commands_know_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "device-width", "--rules", str(PACK)]) == 0
    page = capsys.readouterr().out
    assert "The accelerator has 64 lanes." in page
    assert f"  pack: {PACK}\n" in page.replace("\n    ", " ")
    assert main(["rules", "--rules", str(PACK)]) == 0
    assert "AC101" in capsys.readouterr().out


def test_they_are_gone_after_the_command() -> None:
    before = catalogue.load()
    assert main([str(WIDE), "--rules", str(PACK)]) == 0
    assert list(catalogue.load()) == list(before)
    assert not packs.folders()
    assert not any(name.startswith(packs.PREFIX) for name in sys.modules)


def test_modules_of_a_pack_may_import_each_other(tmp_path: Path) -> None:
    limits = "from .limits import LIMIT\n" + (PACK / "width.py").read_text().replace(
        "limit: int = 64", "limit: int = LIMIT"
    )
    limits = limits.replace("from __future__ import annotations\n", "")
    packs.use(pack(tmp_path / "p", width=limits, limits="LIMIT = 12\n"))
    assert catalogue.load()["AC101"].options["limit"].default == 12


def test_two_packs_with_modules_of_one_name(tmp_path: Path) -> None:
    other = PAGE.replace("AC101", "XY7").replace("device-width", "other-width")
    width = (PACK / "width.py").read_text().replace("limit: int = 64", "limit: int = 12")
    packs.use(PACK)
    packs.use(pack(tmp_path / "p", other, "XY7-other-width.md", width=width))
    rules = catalogue.load()
    assert [rules[each].options["limit"].default for each in ("AC101", "XY7")] == [64, 12]
    assert expand("XY") == {"XY7"}


# mistakes

MISTAKES = {
    "id of bncheck": (PAGE.replace("AC101", "BN999"), "BN999-device-width.md", "bncheck's own"),
    "name of bncheck": (
        PAGE.replace('"device-width"', '"negative-variance"'),
        "AC101-negative-variance.md",
        "bncheck has negative-variance already",
    ),
    "other file name": (PAGE, "AC102-device-width.md", "is the page of AC101 device-width"),
    "key missing": (PAGE.replace('since = "1.0.0"\n', ""), "", "'since' is missing between"),
    "no front matter": (PAGE.replace("+++", ""), "", "AC101-device-width.md"),
    "level": (PAGE.replace('"warning"', '"grave"'), "", "'grave' is not a valid Level"),
    "no module": (PAGE.replace("width:device", "widht:device"), "", "No module named"),
    "no function": (PAGE.replace("width:device_w", "width:no_w"), "", "no attribute 'no_width'"),
    "module of another": (PAGE.replace("width:", "os.path:"), "", "no check is named"),
}


@pytest.mark.parametrize(("page", "name", "said"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], page: str, name: str, said: str
) -> None:
    folder = pack(tmp_path / "p", page, name or "AC101-device-width.md")
    assert main([str(WIDE), "--rules", folder]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bncheck: rules of {folder}: ")
    assert said in line
    assert not packs.folders()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def device_width(thing): ...", "first parameter of width:device_width must be layer"),
        ("def device_width(layer, *, limit: list = []): ...", "option limit must be a float"),
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("def device_width(layer) -> :", "SyntaxError"),
    ],
)
def test_code_that_is_no_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, said: str
) -> None:
    assert main([str(WIDE), "--rules", pack(tmp_path / "p", width=code)]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_pages_and_none_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(WIDE), "--rules", str(tmp_path)]) == 2
    assert "holds no pages of rules" in capsys.readouterr().err
    assert main([str(WIDE), "--rules", str(tmp_path / "missing")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_a_check_that_fails_is_blamed_on_its_pack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pack(tmp_path / "p", width="def device_width(layer):\n    yield 1 / 0\n")
    assert main([str(WIDE), "--rules", folder]) == 2
    assert f"AC101 of {folder} failed (ZeroDivisionError: division by zero)\n" in (
        capsys.readouterr().err
    )


# installed


def installed(folder: Path, value: str = "acme_rules") -> Path:
    """A folder as pip would leave it, with the example pack in it."""
    shutil.copytree(PACK, folder / "acme_rules", ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / "acme_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bncheck.rules]\nacme = {value}\n")
    return folder


def run(path: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    library = str(Path(bncheck.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(path), library))}
    command = [sys.executable, "-m", "bncheck", str(WIDE), *words]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )


def test_an_installed_pack_needs_no_option(tmp_path: Path) -> None:
    ran = run(installed(tmp_path), "--format", "json", "--jobs", "2", str(WIDE.parent))
    report = json.loads(ran.stdout)
    found = {each["rule"]: each for each in report["files"][0]["findings"]}
    assert found["AC101"]["evidence"] == {"num_features": 65, "limit": 64}
    assert report["tool"]["packs"] == [
        {"name": "acme-rules", "version": "1.0", "source": "installed", "rules": ["AC101"]}
    ]


@pytest.mark.parametrize("value", ["missing_rules", "acme_rules.width", "json:loads"])
def test_an_installed_pack_that_is_broken_is_named(tmp_path: Path, value: str) -> None:
    ran = run(installed(tmp_path, value))
    assert ran.returncode == 2
    assert ran.stderr.startswith("bncheck: rules of acme-rules: ")
    assert len(ran.stderr.splitlines()) == 1


def test_what_lies_in_the_current_folder_is_not_installed(tmp_path: Path) -> None:
    """python -m looks there for modules; a model's folder must not bring rules along."""
    installed(tmp_path, "missing_rules")
    assert run(ROOT, cwd=tmp_path).returncode == 0


def test_no_configuration_names_code(tmp_path: Path) -> None:
    for text in (f"rules = [{str(PACK)!r}]", f"rules = {str(PACK)!r}"):
        (tmp_path / "bncheck.toml").write_text(text)
        with pytest.raises(ConfigurationError, match="rules: must be a table"):
            read(tmp_path / "bncheck.toml")


def test_the_example_tests_itself(tmp_path: Path) -> None:
    library = str(Path(bncheck.__file__).parents[1])
    path = os.pathsep.join((str(installed(tmp_path)), library))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    ran = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert "3 passed" in ran.stdout, ran.stdout + ran.stderr
