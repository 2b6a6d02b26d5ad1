"""Configuration files: where they are found, and what they may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck import catalogue
from bncheck.configuration.files import Configurations, assumed_eval, read
from bncheck.configuration.values import option_value
from bncheck.errors import ConfigurationError
from bncheck.finding import Level


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_every_key(tmp_path: Path) -> None:
    settings = read(
        write(
            tmp_path / "bncheck.toml",
            """
            select = ["BN1", "negative-variance"]
            ignore = ["BN105"]
            require = ["BN101"]
            profile = "deploy"
            fail-on = "warning"
            show = "info"
            assume-eval = ["checkpoints/**"]
            baseline = "ci/known.json"
            [level]
            BN301 = "error"
            dead-channels = "warning"
            [rules.BN207]
            threshold = 1
            [rules.tiny-batch]
            warn = 2
            """,
        )
    )
    assert settings.select == ("BN1", "negative-variance")
    assert settings.ignore == ("BN105",)
    assert settings.require == ("BN101",)
    assert (settings.profile, settings.fail_on, settings.show) == ("deploy", "warning", "info")
    assert settings.assume_eval == ("checkpoints/**",)
    assert settings.baseline == "ci/known.json"
    assert settings.levels == {"BN301": Level.ERROR, "BN207": Level.WARNING}
    assert settings.options == {"BN207": {"threshold": 1.0}, "BN301": {"warn": 2}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("selct = []", "unknown key 'selct'; did you mean 'select'?"),
        ("format = 'json'", "unknown key 'format'"),
        ("select = 'BN1'", "select: must be a list of strings, not 'BN1'"),
        ("ignore = [1]", "ignore: must be a list of strings"),
        ("require = ['BN999']", "require: unknown rule 'BN999'"),
        ("profile = 'deplyo'", "profile: must be one of auto, deploy, train, not 'deplyo'; did"),
        ("fail-on = true", "fail-on: must be one of error, warning, info, never, not True"),
        ("level = 'error'", "level: must be a table"),
        ("level.BN101 = 'fatal'", "level: must be one of info, warning, error, not 'fatal'"),
        ("level.BN1 = 'info'", "level: unknown rule 'BN1'"),
        ("assume-eval = 'yes'", "assume-eval: must be a list of strings"),
        ("rules.BN207.treshold = 1.0", "no option 'treshold'; did you mean 'threshold'?"),
        ("rules.BN201.threshold = 1.0", "BN201 has no option 'threshold'; it has none"),
        ("rules.BN207.threshold = 'x'", "BN207.threshold must be a finite number, not 'x'"),
        ("rules.BN207.threshold = true", "BN207.threshold must be a finite number, not True"),
        ("rules.BN207.threshold = nan", "BN207.threshold must be a finite number, not nan"),
        ("rules.BN301.warn = 2.5", "BN301.warn must be an integer, not 2.5"),
        ("rules.BN207 = 3", "rules: must be a table, not 3"),
        ("select = [", "is no valid TOML"),
        ("baseline = 1", "baseline: must be a string"),
        ("baseline = '/etc/passwd'", "baseline: '/etc/passwd' leads out of the folder"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path / "bncheck.toml", text)
    with pytest.raises(ConfigurationError) as raised:
        read(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert said in str(raised.value)


def test_a_path_is_said_as_seen_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pyproject.toml", "[tool.bncheck]\nx = 1")
    with pytest.raises(ConfigurationError, match=r"^pyproject\.toml: unknown key 'x'"):
        Configurations().of(Path())


def test_the_closest_file_counts_alone(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool.bncheck]\nignore = ['BN1']\nprofile = 'train'")
    write(tmp_path / "a" / "pyproject.toml", "[project]\nname = 'other'")
    write(tmp_path / "a" / "b" / "bncheck.toml", "ignore = ['BN2']")
    found = Configurations()
    assert found.of(tmp_path / "a").ignore == ("BN1",)
    assert found.of(tmp_path / "a" / "b" / "c" / "d").ignore == ("BN2",)
    assert found.of(tmp_path / "a" / "b").profile is None
    assert found.of(tmp_path / "x").profile == "train"


def test_the_own_file_wins_over_the_shared_one(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool.bncheck]\nprofile = 'train'")
    write(tmp_path / "bncheck.toml", "profile = 'deploy'")
    assert Configurations().of(tmp_path).profile == "deploy"


def test_a_parent_in_a_path_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "work" / "bncheck.toml", "profile = 'train'")
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert Configurations().of(Path("../models")).profile is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.bncheck]\nprofile = 'train'"),
        ("strict.toml", "[tool.bncheck]\nprofile = 'train'"),
        ("strict.toml", "profile = 'train'"),
    ],
)
def test_a_named_file_stands_for_every_folder(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "models" / "bncheck.toml", "profile = 'deploy'")
    found = Configurations(write(tmp_path / "ci" / name, text))
    assert found.of(tmp_path / "models").profile == "train"


@pytest.mark.parametrize("name", ["pyproject.toml", "other.toml"])
def test_a_named_file_must_be_there_and_say_something(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        Configurations(tmp_path / name)
    write(tmp_path / name, "[tool.other]\nx = 1")
    with pytest.raises(ConfigurationError, match=r"has no \[tool.bncheck\]"):
        Configurations(tmp_path / name)


@pytest.mark.parametrize(
    ("asserted", "path", "holds"),
    [
        ("true", "anywhere/model.pt", True),
        ("false", "model.pt", False),
        ("[]", "model.pt", False),
        ('["*.pt"]', "model.pt", True),
        ('["*.pt"]', "deep/model.pt", False),
        ('["**/*.pt"]', "model.pt", True),
        ('["**/*.pt"]', "very/deep/model.pt", True),
        ('["**/*.pt"]', "very/deep/model.onnx", False),
        ('["runs"]', "runs/1/model.pt", True),
        ('["runs/"]', "runs/1/model.pt", True),
        ('["runs/*/best.pt"]', "runs/1/best.pt", True),
        ('["runs/*/best.pt"]', "runs/1/2/best.pt", False),
        ('["runs/**/best.pt"]', "runs/1/2/best.pt", True),
        ('["other", "runs/?"]', "runs/1/best.pt", True),
        ('["run"]', "runs/best.pt", False),
    ],
)
def test_assume_eval_holds_for_paths(tmp_path: Path, asserted: str, path: str, holds: bool) -> None:
    settings = read(write(tmp_path / "bncheck.toml", f"assume-eval = {asserted}"))
    said = assumed_eval(settings, tmp_path / path)
    assert said == ("assume-eval in bncheck.toml" if holds else None)


def test_patterns_reach_no_further_than_their_file(tmp_path: Path) -> None:
    settings = read(write(tmp_path / "a" / "bncheck.toml", 'assume-eval = ["**"]'))
    assert assumed_eval(settings, tmp_path / "a" / "x.pt")
    assert assumed_eval(settings, tmp_path / "b" / "x.pt") is None


def test_every_option_of_every_rule_can_be_configured() -> None:
    for rule in catalogue.load().values():
        for name, option in rule.options.items():
            given = option_value(name, option.default, option.annotation)
            assert given == option.default, f"{rule.id}.{name}"
            assert option.annotation in (float, int, bool, str), f"{rule.id}.{name}"
