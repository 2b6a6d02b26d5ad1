"""Models as the engine judged them, made by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from bncheck.catalogue import Rule, parse
from bncheck.configuration.settings import Plan
from bncheck.engine import Assessment, Policy
from bncheck.facts import Evidence, Unknown
from bncheck.finding import Finding, Level, NotAssessed
from bncheck.model import Content, Kind, Model, NormLayer
from bncheck.report import ModelReport, Unreadable
from bncheck.running.outcome import Checked, Outcome, Skipped

RESNET = ("bn1", *(f"layer{i}.{j}.bn{k}" for i in (1, 2, 3, 4) for j in range(6) for k in (1, 2)))
PAGE = """+++
id = "{id}"
name = "{name}"
level = "{level}"
{train}
kinds = ["batch", "sync-batch"]
evidence = ["tensors"]
default = true
status = "stable"
since = "0.1.0"
fix = "fix it."
check = "statistics:dead_channels"
+++
# {id} {name}
## What it finds

Something wrong: with `{name}`. It is
said once.
"""


def rule(id: str, name: str, level: str = "error", train: str = "") -> Rule:
    train = f'train = "{train}"' if train else ""
    return parse(PAGE.format(id=id, name=name, level=level, train=train))


RULES = {
    each.id: each
    for each in (
        rule("BN101", "training-mode", train="info"),
        rule("BN102", "active-dropout"),
        rule("BN103", "mixed-mode", "warning", train="info"),
        rule("BN201", "non-finite-statistics"),
        rule("BN202", "negative-variance"),
        rule("BN207", "dead-channels", "info"),
        rule("BN301", "tiny-batch", "warning", train="info"),
        rule("BN501", "momentum-convention", "warning"),
        rule("BN701", "foldable-batchnorm", "info"),
    )
}


HOSTILE = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(2)>&amp;",
    "breaking out": "\"'--></style></title></svg>]]><b>",
    "template": "{{ 7 * 7 }}{% include 'page.css' %}{# x",
    "line ends": "a\nb\r\n::error::injected\u2028c\u0085d",
    "terminal": "\x1b[31mred\x1b[0m\x07\x9b1m",
    "workflow command": "##[error]x::set-output name=a::b%0A%25,title=c",
    "markdown": "a|b\\|c`d`[x](https://evil.example/)*e* _f_ ~g~ ![h](i) @octocat #1 $k$",
    "fence": "```\n| a |",
    "address": "www.evil.example https://evil.example GH-1",
    "no text": "\x00\ufffe\udcff",
    "direction": "\u202egpj.exe\u200b",
    "spaces": "  lead and trail  ",
    "path": "../../../etc/passwd",
    "root": "",
    "long": "x" * 100_000,
}


class Make:
    """Makers with the defaults of a healthy pickled ResNet of 49 BatchNorms."""

    rule = staticmethod(rule)
    rules = RULES
    resnet = RESNET
    hostile_names = tuple(HOSTILE.values())

    @staticmethod
    def model(
        layers: Iterable[str] = RESNET,
        kind: Kind | None = "batch",
        content: Content = "module",
        **fields: object,
    ) -> Model:
        norms = tuple(NormLayer(name, kind) for name in layers)
        return Model("torch-zip", content, norms, frozenset({Evidence.TENSORS}), **fields)  # type: ignore[arg-type]

    @staticmethod
    def findings(
        id: str, layers: Iterable[str | None], message: str, level: str = "", fix: str = "fix it."
    ) -> list[Finding]:
        """A message may hold ``{}``, the number of the layer."""
        own = RULES[id]
        return [
            Finding(id, own.name, Level(level or own.level), layer, message.format(i), {}, fix)
            for i, layer in enumerate(layers)
        ]

    @staticmethod
    def missing(
        ids: Sequence[str],
        what: str,
        why: str,
        instead: str = "",
        layers: Iterable[str | None] = (None,),
    ) -> list[NotAssessed]:
        unknown = Unknown(what, why, instead)
        return [NotAssessed(id, layer, unknown) for id in ids for layer in layers]

    @staticmethod
    def checked(
        model: Model,
        findings: Iterable[Finding] = (),
        missing: Iterable[NotAssessed] = (),
        path: str = "model.pt",
        require: Iterable[str] = (),
        policy: Policy | None = None,
        train: str = "",
    ) -> Checked:
        missing = tuple(missing)
        open_rules = {each.rule for each in missing if each.layer is None}
        assessment = Assessment(
            "train" if train else "deploy",
            train,
            tuple(findings),
            tuple(id for id in RULES if id not in open_rules),
            missing,
        )
        plan = Plan(tuple(RULES.values()), policy or Policy(), frozenset(require))
        return Checked(ModelReport(path, model, assessment), plan)


@pytest.fixture
def make() -> type[Make]:
    return Make


@pytest.fixture
def hostile(make: type[Make]) -> Outcome:
    """Two models of one file with names by an attacker, a file that is none, one that is fine."""
    names = make.hostile_names
    said = "".join(names[:-1]).replace("{", "{{").replace("}", "}}")
    findings = [
        *make.findings("BN202", names, "running_var is {}"),
        *make.findings("BN301", [names[0], None], said, fix=names[0]),
    ]
    missing = make.missing(["BN102"], "order", names[0], names[2], layers=[names[0]])
    model = make.model(names, holds=names[0])
    return Outcome(
        (
            make.checked(model, findings, missing, path="models/a b#c%?[x](y).pt"),
            make.checked(
                make.model(names, member=names[0]), findings, missing, "models/a b#c%?[x](y).pt"
            ),
            Unreadable("models/\x1b\n|`<b>.pt", "".join(names[:-1])),
            Skipped("models/<i>.txt"),
            make.checked(make.model(), path="models/fine.pt"),
        )
    )
