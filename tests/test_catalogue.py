"""The pages in rules/, and what binds them to their checks."""

from __future__ import annotations

import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

import bncheck.checks
from bncheck import catalogue
from bncheck.catalogue import HEADINGS, Rule, parse
from bncheck.finding import Level

PAGES = sorted((Path(__file__).parents[1] / "rules").iterdir())
RULES = list(catalogue.load().values())
OPTION_TYPES = (float, int, bool, str)
# Modules of bncheck.checks that hold no checks.
HELPERS = {"calls", "defaults", "deviation", "memory", "scaling", "topology", "values", "words"}
PAGE = """+++
id = "BN999"
name = "sample"
level = "warning"
kinds = ["batch"]
evidence = ["tensors"]
default = true
status = "stable"
since = "0.1.0"
check = "statistics:negative_variance"
fix = "Do it."
+++
# BN999 sample

## What it finds

The first paragraph,
on two lines.

The second.
"""


def by_id(rule: Rule) -> str:
    return rule.id


def section(rule: Rule, heading: str) -> str:
    _, _, rest = rule.page.partition(f"## {heading}\n")
    return re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0].strip()


def test_every_page_is_a_rule_under_its_name() -> None:
    assert [path.name for path in PAGES] == [f"{rule.id}-{rule.name}.md" for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_headings_are_fixed_and_have_text(rule: Rule) -> None:
    assert rule.page.startswith(f"# {rule.id} {rule.name}\n\n## ")
    assert tuple(re.findall(r"^## (.*)$", rule.page, re.MULTILINE)) == HEADINGS
    assert all(len(section(rule, heading)) > 20 for heading in HEADINGS)


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_front_matter(rule: Rule) -> None:
    assert re.fullmatch(r"BN[1-9]\d\d", rule.id)
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z]+)*", rule.name)
    assert rule.kinds
    assert rule.evidence
    assert rule.status in ("stable", "preview", "deprecated")
    assert re.fullmatch(r"\d+\.\d+\.\d+", rule.since)
    assert re.fullmatch(r"[^\n]{10,98}[.]|[^\n]{10,98}true", rule.fix)
    assert rule.train_level is None or rule.train_level.rank < rule.level.rank
    assert rule.silenced_by <= {other.id for other in RULES} - {rule.id}


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_text_is_for_people(rule: Rule) -> None:
    assert len(rule.summary) <= 100
    assert rule.summary.endswith(".")
    assert max(map(len, rule.page.splitlines())) <= 100
    assert 35 <= len(rule.page.splitlines()) <= 80


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_code_on_a_page_is_python(rule: Rule) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", rule.page, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, rule.id, "exec")


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_references_are_papers_issues_or_documentation(rule: Rule) -> None:
    known = r"arXiv:\d{4}\.\d{5}|[\w.-]+/[\w.-]+#\d+|torch\.nn\.|ONNX operator"
    assert re.search(known, section(rule, "References"))


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_check_is_a_typed_generator_function(rule: Rule) -> None:
    signature = inspect.signature(rule.check)
    positional = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert inspect.isgeneratorfunction(rule.check)
    assert [p.name for p in positional] in (["layer"], ["layer", "model"], ["model"])
    assert {p.annotation for p in positional} <= {"NormLayer", "Model"}
    assert signature.return_annotation == "Iterator[Observation]"
    assert (rule.check.__doc__ or "").startswith(f"{rule.id}: ")


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_options_have_a_plain_type_a_default_and_a_sentence(rule: Rule) -> None:
    for name, option in rule.options.items():
        assert option.annotation in OPTION_TYPES
        assert type(option.default) is option.annotation
        assert f"`{name}`" in section(rule, "What it finds")
        sentence = " ".join(section(rule, "What it finds").split())
        assert re.search(rf"option `{name}`, default {re.escape(_plain(option.default))}", sentence)


def _plain(value: object) -> str:
    return "1e-3" if value == 1e-3 else str(value)


def test_every_check_has_a_page() -> None:
    families = {module.name for module in pkgutil.iter_modules(bncheck.checks.__path__)} - HELPERS
    public = {
        f"{family}:{name}"
        for family in families
        for name, value in vars(import_module(f"bncheck.checks.{family}")).items()
        if isinstance(value, FunctionType)
        and value.__module__ == f"bncheck.checks.{family}"
        and not name.startswith("_")
    }
    assert public == {rule.check_name for rule in RULES}


def test_causes_are_errors() -> None:
    """What silences a finding is at least as grave, by the page."""
    rules = catalogue.load()
    for rule in RULES:
        assert all(rules[cause].level.rank >= rule.level.rank for cause in rule.silenced_by)


@pytest.mark.parametrize("word", ["BN202", "bn202", "negative-variance", " Negative-Variance "])
def test_find_takes_id_or_name(word: str) -> None:
    assert catalogue.find(word) is catalogue.load()["BN202"]


def test_find_nothing() -> None:
    assert catalogue.find("BN999") is None


def test_parse_reads_the_front_matter() -> None:
    rule = parse(PAGE)
    assert (rule.id, rule.name, rule.level) == ("BN999", "sample", Level.WARNING)
    assert rule.train_level is None
    assert rule.silenced_by == frozenset()
    assert rule.summary == "The first paragraph, on two lines."


def test_all_kinds_is_a_word() -> None:
    assert parse(PAGE.replace('["batch"]', '"all"')).kinds == frozenset(catalogue.KINDS)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ('level = "warning"', 'level = "grave"'),
        ('evidence = ["tensors"]', 'evidence = ["hearsay"]'),
        ("default = true\n", ""),
        ("+++\n# BN999", "# BN999"),
    ],
)
def test_a_wrong_page_is_refused(part: str, other: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        parse(PAGE.replace(part, other))


@pytest.mark.parametrize(
    "name", ["os:system", "..os:system", "mode", "mode:", "mode:__builtins__.x"]
)
def test_a_check_resolves_inside_bncheck_checks_only(name: str) -> None:
    rule = parse(PAGE.replace("statistics:negative_variance", name))
    with pytest.raises((ValueError, ModuleNotFoundError)):
        _ = rule.check


def test_the_checks_need_the_standard_library_only() -> None:
    code = (
        "import sys; from bncheck import catalogue, engine\n"
        "checks = [rule.check for rule in catalogue.load().values()]\n"
        "print(*{'numpy', 'torch', 'onnx', 'tabulate', 'pickle', 'click'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
