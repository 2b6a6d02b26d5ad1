"""The text report, as it stands on the screen."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from bncheck.engine import Policy
from bncheck.facts import Unknown
from bncheck.finding import Level, NotAssessed
from bncheck.report import Unreadable
from bncheck.reports.layout import ansi
from bncheck.reports.summary import summary
from bncheck.reports.text import entry, unreadable
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome, Skipped

TRAINING = (
    "Saved in training mode: unless the loader calls eval(), each output depends on the other "
    "samples of its batch."
)
EVAL = "model.eval() before saving. Your loader does it? assume-eval = true"
NO_MODE = ("a state_dict holds none", "check the exported .onnx or .pt2")


def shown(*entries: Any, **options: Any) -> str:
    """What a run of these entries prints on stdout."""
    style = Style(**options)
    outcome = Outcome(entries, style.fail_on)
    return "".join(entry(each, style) for each in outcome.checked) + summary(outcome, style)


def screen(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_errors(make: Any) -> None:
    nan = make.findings(
        "BN201",
        ["layer3.2.bn2"],
        "running_var is NaN in channel 17 of 256: that channel outputs NaN.",
        fix="restore an earlier checkpoint, or reset and re-estimate.",
    )
    training = make.findings("BN101", make.resnet, TRAINING, fix=EVAL)
    assert shown(make.checked(make.model(), [*training, *nan])) == screen(
        """
        model.pt  pickled module, 49 BatchNorm
          error BN201 non-finite-statistics  layer3.2.bn2
            running_var is NaN in channel 17 of 256: that channel outputs NaN.
            Fix: restore an earlier checkpoint, or reset and re-estimate.
          error BN101 training-mode  49 layers: bn1, layer1.0.bn1, ... +47
            Saved in training mode: unless the loader calls eval(), each output depends
            on the other samples of its batch.
            Fix: model.eval() before saving. Your loader does it? assume-eval = true
        1 file: 2 errors in 49 layers (exit 1). More: bncheck explain BN101
        """
    )


def test_what_a_state_dict_leaves_open(make: Any) -> None:
    missing = [
        *make.missing(["BN101", "BN102", "BN103"], "mode", *NO_MODE),
        *make.missing(["BN701"], "order", *NO_MODE),
        *make.missing(["BN301"], "batch size", "no batch size in this file"),
    ]
    weights = make.checked(make.model(content="state_dict"), missing=missing, path="weights.pth")
    assert shown(weights) == screen(
        """
        weights.pth  ok, partly assessed  state_dict, 49 BatchNorm
          not assessed: mode, order (BN101-103, BN701): a state_dict holds none. Check
            the exported .onnx or .pt2, or gate with --require BN101.
        1 file: 1 ok, partly assessed
        """
    )
    assert shown(weights, show_info=True) == screen(
        """
        weights.pth  ok, partly assessed  state_dict, 49 BatchNorm
          not assessed: mode, order (BN101-103, BN701): a state_dict holds none. Check
            the exported .onnx or .pt2, or gate with --require BN101.
          not assessed: batch size (BN301): no batch size in this file.
        1 file: 1 ok, partly assessed
        """
    )


def test_what_is_required_and_left_open(make: Any) -> None:
    missing = [
        *make.missing(["BN101"], "mode", *NO_MODE),
        *make.missing(["BN301"], "batch size", "no batch size in this file"),
    ]
    model = make.model(content="state_dict")
    assert shown(make.checked(model, missing=missing, require=["BN101", "BN301"])) == screen(
        """
        model.pt  state_dict, 49 BatchNorm
          required BN101 training-mode  was not assessed
          required BN301 tiny-batch  was not assessed
          not assessed: mode (BN101): a state_dict holds none. Check the exported .onnx
            or .pt2.
          not assessed: batch size (BN301): no batch size in this file.
        1 file: 2 required rules not assessed (exit 1)
        """
    )


def test_nothing_wrong(make: Any) -> None:
    infos = [
        *make.findings("BN207", ["bn1", "layer4.1.bn2"], "{} dead channels."),
        *make.findings("BN701", make.resnet, "Conv_{} can absorb it.", fix="bncheck fold."),
    ]
    graph = make.checked(make.model(content="graph"), infos, path="resnet50.onnx")
    assert shown(graph) == screen(
        """
        resnet50.onnx  ok  graph, 49 BatchNorm, 9 rules, nothing wrong
          info: 2 dead-channels, 49 foldable-batchnorm (--show info)
        """
    )
    assert shown(graph, show_info=True) == screen(
        """
        resnet50.onnx  ok  graph, 49 BatchNorm, 9 rules, nothing wrong
          info BN207 dead-channels  bn1
            0 dead channels.
            Fix: fix it.
          info BN207 dead-channels  layer4.1.bn2
            1 dead channels.
            Fix: fix it.
          info BN701 foldable-batchnorm  49 layers: bn1, layer1.0.bn1, ... +47
            For example: Conv_0 can absorb it.
            Fix: bncheck fold.
        """
    )


def test_infos_that_fail_the_run_are_listed(make: Any) -> None:
    infos = make.findings("BN207", ["bn1"], "2 dead channels.")
    assert shown(make.checked(make.model(), infos), fail_on="info") == screen(
        """
        model.pt  pickled module, 49 BatchNorm
          info BN207 dead-channels  bn1
            2 dead channels.
            Fix: fix it.
        1 file: 1 info in 1 layer (exit 1). More: bncheck explain BN207
        """
    )


def test_a_warning_below_the_gate(make: Any) -> None:
    warning = make.findings("BN301", [None], "The statistics come from 2 samples.")
    assert shown(make.checked(make.model(), warning)) == screen(
        """
        model.pt  pickled module, 49 BatchNorm
          warning BN301 tiny-batch
            The statistics come from 2 samples.
            Fix: fix it.
        1 file: 1 warning. More: bncheck explain BN301
        """
    )


def test_several_models_of_several_files(make: Any) -> None:
    negative = make.findings("BN202", ["bn1"], "running_var is -0.1 in channel 3 of 64.")
    missing = make.missing(["BN101"], "mode", "a state_dict holds none")
    checkpoint = make.model(content="checkpoint", member="ema")
    entries = (
        make.checked(make.model(), path="a.pt"),
        make.checked(checkpoint, negative, path="c.pt", train="it holds epoch 12"),
        make.checked(make.model(content="checkpoint", member="model"), [], missing, path="c.pt"),
        Unreadable("d.pt", "zip archive has no end: truncated download?"),
        Skipped("e.txt"),
        Skipped("f.txt"),
    )
    assert shown(*entries) == screen(
        """
        a.pt  ok  pickled module, 49 BatchNorm, 9 rules, nothing wrong
        c.pt  [ema]  checkpoint, 49 BatchNorm
          profile train: it holds epoch 12
          error BN202 negative-variance  bn1
            running_var is -0.1 in channel 3 of 64.
            Fix: fix it.
        c.pt  [model]  ok, partly assessed  checkpoint, 49 BatchNorm
          not assessed: mode (BN101): a state_dict holds none.
        3 files, 4 models: 1 ok, 1 partly assessed, 1 error in 1 layer, 1 unreadable, 2
          other files skipped (exit 2). More: bncheck explain BN202
        """
    )


def test_long_names_are_wrapped_and_never_cut(make: Any) -> None:
    name = "backbone.encoder.stages.0.blocks.1.attention.output.normalization_layer_{}"
    path = "/data/experiments with spaces/" + "deep/" * 12 + "model.pt"
    training = make.findings("BN101", [name.format(i) for i in range(9)], TRAINING, fix=EVAL)
    text = shown(make.checked(make.model(), training, path=path))
    lines = text.splitlines()
    assert lines[0] == path
    assert lines[1] == "    pickled module, 49 BatchNorm"
    assert lines[2:6] == [
        "  error BN101 training-mode  9 layers:",
        f"    {name.format(0)},",
        f"    {name.format(1)},",
        "    ... +7",
    ]
    assert all(len(line) <= 80 for line in lines[1:])


@pytest.mark.parametrize(
    ("kind", "holds", "line"),
    [
        ("layer", "", "model.pt  no BatchNorm  state_dict, 2 LayerNorm\n"),
        ("layer", "7 tensors", "model.pt  no BatchNorm  state_dict, 2 LayerNorm, 7 tensors\n"),
        (None, "", "model.pt  no known BatchNorm  state_dict, 2 norm layers of unknown kind\n"),
        (
            "sync-batch",
            "7 tensors",
            "model.pt  ok  state_dict, 2 SyncBatchNorm, 9 rules, nothing wrong\n",
        ),
    ],
)
def test_what_a_model_holds(make: Any, kind: Any, holds: str, line: str) -> None:
    model = make.model(["a", "b"], kind, "state_dict", holds=holds)
    assert shown(make.checked(model)).startswith(line)


def test_where_the_statistics_of_a_graph_went(make: Any) -> None:
    gone = Unknown("statistics", "folded by the exporter or never there", "check the source")
    model = make.model((), content="graph", holds="53 Conv", statistics_gone=gone)
    missing = [NotAssessed("BN201", None, gone), *make.missing(["BN102"], "order", "elsewhere")]
    assert shown(make.checked(model, [], missing)) == screen(
        """
        model.pt  no BatchNorm  graph, 53 Conv
          not assessed: statistics (BN201): folded by the exporter or never there. Check
            the source.
        """
    )


def test_a_reason_that_holds_for_some_layers(make: Any) -> None:
    missing = make.missing(["BN201"], "values", "too large.", layers=["bn1", "layer1.0.bn1"])
    assert "not assessed: values (BN201) in 2 layers: too large.\n" in shown(
        make.checked(make.model(), [], missing)
    )


@pytest.mark.parametrize(
    ("rules", "fail_on", "profile", "levels", "is_partly"),
    [
        (["BN101"], "error", "", {}, True),
        (["BN103"], "error", "", {}, False),
        (["BN103"], "warning", "", {}, True),
        (["BN701"], "warning", "", {}, False),
        (["BN701"], "info", "", {}, True),
        (["BN101"], "never", "", {}, True),
        (["BN101"], "error", "it holds epoch 3", {}, False),
        (["BN201"], "error", "it holds epoch 3", {}, True),
        (["BN103"], "error", "", {"BN103": Level.ERROR}, True),
        (["BN101"], "error", "", {"BN101": Level.INFO}, False),
    ],
)
def test_partly_assessed_is_what_could_have_failed_the_run(
    make: Any, rules: Any, fail_on: Any, profile: str, levels: Any, is_partly: bool
) -> None:
    missing = make.missing(rules, "mode", "unknown")
    policy = Policy(levels=levels)
    checked = make.checked(make.model(), [], missing, policy=policy, train=profile)
    assert ("ok, partly assessed" in shown(checked, fail_on=fail_on)) is is_partly


@pytest.mark.parametrize(
    ("content", "rule", "what", "require", "is_partly"),
    [
        ("module", "BN102", "order", [], True),
        ("state_dict", "BN102", "order", [], True),
        ("graph", "BN102", "order", [], True),
        ("graph", "BN201", "batch counter", [], False),
        ("module", "BN201", "batch counter", [], True),
    ],
)
def test_a_graph_without_batch_counters_is_not_partly_assessed_for_that(
    make: Any, content: Any, rule: str, what: str, require: list[str], is_partly: bool
) -> None:
    missing = make.missing([rule], what, "not here", "look there")
    checked = make.checked(make.model(content=content), [], missing, require=require)
    assert ("ok, partly assessed" in shown(checked)) is is_partly
    assert ("not assessed" in shown(checked)) is is_partly
    assert "not assessed" in shown(checked, show_info=True)


def test_what_a_file_holds_cannot_command_a_terminal(make: Any) -> None:
    evil = "bn\x1b[31m\r\n\u202e"
    model = make.model([evil], member="a\x07b")
    missing = make.missing(["BN102"], evil, evil, evil)
    findings = make.findings("BN202", [evil], f"bad {evil}", fix=evil)
    text = shown(make.checked(model, findings, missing, path=evil))
    assert all(line.isprintable() for line in text.splitlines())
    assert "bn\\x1b[31m\\r\\n\\u202e" in text
    assert unreadable(Unreadable(evil, evil), Style()).count("\x1b") == 0


def test_colour_changes_no_character(make: Any) -> None:
    training = make.findings("BN101", make.resnet, TRAINING, fix=EVAL)
    checked = make.checked(make.model(), training)
    coloured = shown(checked, paint=ansi)
    assert "\x1b[1;31merror\x1b[0m BN101" in coloured
    for code in ("\x1b[1;31m", "\x1b[1m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == shown(checked)


def test_an_unreadable_file_has_a_line_of_its_own() -> None:
    file = Unreadable("d.pt", "is empty")
    assert unreadable(file, Style()) == "d.pt  unreadable  is empty\n"
