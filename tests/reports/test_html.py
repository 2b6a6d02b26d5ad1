"""The page as a document: whole, self-contained, and made of nothing that a file says."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import pytest

from bncheck.configuration.settings import Settings, plan
from bncheck.model import NormLayer
from bncheck.report import Unreadable
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome
from bncheck.tensor import Tensor

pytest.importorskip("jinja2")
from bncheck.reports.html import render
from bncheck.reports.html.charts import axes, chart
from bncheck.reports.html.layers import layer_views
from bncheck.reports.html.scales import GUTTER, WIDTH, scale
from bncheck.reports.html.series import GAIN, MEAN, VARIANCE, series

VOID = {"meta", "link", "br", "input", "path", "circle", "use", "img"}


class Document(HTMLParser):
    """The elements and the text of a page; open and close tags must match."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def document(*entries: Any, **style: Any) -> Document:
    return Document(render(Outcome(entries), Style(**style)))


def tensor(values: Sequence[float], dtype: str = "float32") -> Tensor:
    return Tensor((len(values),), dtype, lambda: array("d", values))


def norm(name: str, var: Sequence[float], **facts: object) -> NormLayer:
    channels = len(var)
    known: dict[str, object] = {
        "num_features": channels,
        "eps": 1e-5,
        "training": False,
        "running_mean": tensor([0.1] * channels),
        "running_var": tensor(var),
        "weight": tensor([1.0] * channels),
        "bias": tensor([0.0] * channels),
    }
    return NormLayer(name, "batch", "torch.nn.BatchNorm2d", {**known, **facts})


def model_of(make: Any, *layers: NormLayer) -> Any:
    return replace(make.model(()), layers=layers)


def test_it_says_what_the_terminal_says(make: Any) -> None:
    found = make.findings("BN202", ["layer1.bn"], "running_var is -0.2")
    missing = make.missing(["BN103"], "order", "a module holds none", "check the .onnx")
    layers = [norm("bn1", [1.0, 2.0]), norm("layer1.bn", [1.0, -0.2])]
    page = document(make.checked(model_of(make, *layers), found, missing, path="models/a.pt"))
    for said in (
        "1 error in 1 layer", "models/a.pt", "pickled module, 2 BatchNorm", "BN202",
        "negative-variance", "running_var is -0.2", "fix it.", "a module holds none",
        "check the .onnx", "eps", "1e-05", "1 ≤ 0",
    ):  # fmt: skip
        assert said in page.text, said


def test_every_entry_has_its_place(make: Any) -> None:
    entries = (
        make.checked(make.model(member="model"), path="a.pt"),
        make.checked(make.model(member="ema"), path="a.pt"),
        Unreadable("b.pt", "is empty"),
        make.checked(make.model((), kind=None, holds="3 Conv"), path="c.onnx"),
    )
    page = document(*entries)
    assert "2 files" not in page.text and "3 files" in page.text
    assert all(said in page.text for said in ("ema", "is empty", "no BatchNorm", "3 Conv"))


def test_an_empty_run_is_a_page(make: Any) -> None:
    assert "No model found" in document().text


def test_infos_and_suppressed_findings_are_there_and_do_not_count(make: Any) -> None:
    (error,) = make.findings("BN202", ["bn1"], "min -0.2")
    accepted = replace(error, suppressed=True, suppression="frozen backbone")
    infos = make.findings("BN207", ["bn1"], "dead")
    page = document(make.checked(make.model(), [accepted, *infos]))
    assert "Nothing wrong was found" in page.text and "1 info" in page.text
    assert "1 suppressed" in page.text and "frozen backbone" in page.text


def test_the_evidence_is_a_table_where_it_differs(make: Any) -> None:
    found = [
        replace(each, evidence={"channels": [i], "min": -0.1 * i, "worst": math.nan})
        for i, each in enumerate(make.findings("BN202", ["bn1", "layer1.0.bn1"], "min"))
    ]
    page = document(make.checked(make.model(), found))
    assert Counter(tag for tag, _ in page.elements)["tr"] == 3
    assert "-0.1" in page.text and "NaN" in page.text


def test_every_link_leads_somewhere_on_the_page(make: Any) -> None:
    found = [
        *make.findings("BN202", ["bn1"], "x"),
        *make.findings("BN101", make.resnet, "x"),
        *make.findings("BN301", [None], "x"),
    ]
    page = document(make.checked(make.model(), found), make.checked(make.model(), path="b.pt"))
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    links = [each["href"] for tag in ("a", "use") for each in page.all(tag)]
    assert {"#m1/layer1.0.bn1", "#m2/bn1", "#BN202", "#m2"} <= set(links)
    assert {unquote(link) for link in links} <= {f"#{id}" for id in ids}


def test_it_loads_and_runs_nothing(make: Any) -> None:
    found = make.findings("BN202", ["bn1"], "x")
    page = document(make.checked(make.model(), found))
    assert not page.all("script") + page.all("img") + page.all("iframe") + page.all("object")
    assert [each["href"] for each in page.all("link")] == ["data:,"]
    (policy,) = [each for each in page.all("meta") if "http-equiv" in each]
    assert policy["content"].startswith("default-src 'none'")
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]


def test_names_by_an_attacker_stay_names(make: Any, hostile: Outcome) -> None:
    harmless = {"a", "b", "i"}
    plain = Document(render(Outcome((make.checked(make.model()), *hostile.entries[2:])), Style()))
    page = Document(render(hostile, Style(show_info=True)))
    known = {tag for tag, _ in plain.elements} | {"article", "h4", "em", "details", "summary"}
    known |= {"table", "thead", "tbody", "tr", "th", "td", "div", "strong"} | harmless
    assert {tag for tag, _ in page.elements} <= known
    assert "{{ 7 * 7 }}" in page.text and "<script>alert(1)</script>" in page.text
    assert not [c for c in page.text if not c.isprintable() and c != "\n"]
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    assert max(map(len, page.text.split("\n"))) < 3000


def test_a_page_of_500_layers_is_below_3_megabytes(make: Any) -> None:
    rng = random.Random(0)
    layers = [
        norm(f"backbone.stage{i // 50}.block{i}.bn", [rng.lognormvariate(-2, 1) for _ in range(64)])
        for i in range(500)
    ]
    found = make.findings("BN101", [layer.name for layer in layers], "Saved in training mode.")
    page = render(Outcome((make.checked(model_of(make, *layers), found),)), Style())
    assert page.count('class="chart"') == 1500
    assert len(page.encode()) < 3 * 10**6


def test_of_very_many_layers_only_those_with_findings_are_drawn(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bncheck.reports.html.DRAWN", 3)
    layers = [norm(f"bn{i}", [1.0, 2.0]) for i in range(6)]
    found = make.findings("BN202", ["bn5"], "x")
    page = render(Outcome((make.checked(model_of(make, *layers), found),)), Style())
    assert page.count('class="chart"') == 3 * 4
    assert "2 layers without errors and warnings are not drawn" in page


def test_a_finding_of_few_layers_stands_out_among_one_of_all(make: Any) -> None:
    layers = [norm(f"bn{i}", [1.0]) for i in range(6)]
    found = [
        *make.findings("BN101", [layer.name for layer in layers], "x"),
        *make.findings("BN202", ["bn3"], "x"),
    ]
    checked = make.checked(model_of(make, *layers), found)
    views = layer_views(
        checked, found, {layer.name: layer.name for layer in layers}, lambda _: True
    )
    assert [view.level for view in views.layers] == ["error"] * 6
    assert [view.own for view in views.layers] == ["ok", "ok", "ok", "error", "ok", "ok"]


BUILT_IN = plan(Settings())


def test_the_series_of_a_batch_norm() -> None:
    layer = norm(
        "bn", [0.99999, 3.99999, -1.0],
        weight=tensor([-1.0, 4.0, 1.0]), running_mean=tensor([1.0, -3.0, 1.0]),
    )  # fmt: skip
    drawn = {each.quantity: each.values for each in series(layer, BUILT_IN)}
    assert list(drawn[MEAN])[:2] == pytest.approx([1.0, -1.5]) and math.isnan(drawn[MEAN][2])
    assert list(drawn[VARIANCE]) == [0.99999, 3.99999, -1.0]
    assert list(drawn[GAIN])[:2] == pytest.approx([1.0, 2.0]) and math.isnan(drawn[GAIN][2])


def test_a_channel_that_lets_nothing_through_is_not_marked_where_the_rules_pass_it_by() -> None:
    layer = norm(
        "bn", [1.0, 1e-12, 1.0],
        running_mean=tensor([500.0, 500.0, 500.0]), weight=tensor([5000.0, 5000.0, 1e-9]),
    )  # fmt: skip
    mean, variance, gain = series(layer, BUILT_IN)
    assert [mean.is_beyond(i) for i in range(3)] == [True, False, False]
    assert [gain.is_beyond(i) for i in range(3)] == [True, False, False]
    assert [variance.is_beyond(i) for i in range(3)] == [False, True, False]


def test_without_a_weight_the_gain_is_that_of_one_and_of_an_unknown_one_nothing() -> None:
    def gain(layer: NormLayer) -> list[float]:
        return [v for each in series(layer, BUILT_IN) if each.quantity is GAIN for v in each.values]

    assert gain(norm("bn", [3.99999], weight=None)) == pytest.approx([0.5])
    known = {"eps": 1e-5, "running_var": tensor([1.0]), "running_mean": tensor([0.0])}
    assert gain(NormLayer("bn", "batch", None, known)) == []


def test_the_thresholds_are_those_of_the_run() -> None:
    def limits(**settings: Any) -> dict[str, list[float]]:
        drawn = series(norm("bn", [1.0], eps=1e-3), plan(Settings(**settings)))
        return {e.quantity.key: [limit.value for limit in e.limits] for e in drawn}

    assert limits() == {
        "mean": [100.0, -100.0],
        "variance": pytest.approx([1e-6, 1e-2]),
        "gain": [1000.0],
    }
    changed = limits(options={"BN207": {"threshold": 0.1}}, ignore=("BN208", "BN213"))
    assert changed == {"mean": [100.0, -100.0], "variance": pytest.approx([1e-4]), "gain": []}


def test_a_layer_without_statistics_shows_its_scale_and_shift() -> None:
    layer = NormLayer("ln", "layer", None, {"weight": tensor([1.0, 2.0]), "bias": None})
    assert [each.quantity.key for each in series(layer, BUILT_IN)] == ["weight"]
    assert series(NormLayer("bn", "batch"), BUILT_IN) == []


def test_a_chart_counts_every_channel_once() -> None:
    values = [1e-12, 1e-3, 1e-3, 10.0, 0.0, -1.0, math.nan, math.inf]
    (drawn,) = [e for e in series(norm("bn", values), BUILT_IN) if e.quantity is VARIANCE]
    picture = chart(drawn, axes([drawn])["variance"])
    assert picture.bars.count("M") == 2 and picture.beyond.count("M") == 1
    assert picture.nothing and picture.broken
    assert (
        picture.caption
        == "1e-12 to 10, median 0.001, 2 ≤ 0, 2 NaN or infinite, 1 beyond a threshold"
    )
    assert picture.label.startswith("running variance of 8 channels: 1e-12 to 10")
    assert [line.rule for line in picture.lines] == ["BN207", "BN208"]


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize(
    "values",
    [[], [1.0], [0.0], [5e-324, 1.7e308], [math.nan, math.inf, -math.inf], [-3.0, 2.0], [1e-30]],
    ids=str,
)
def test_an_axis_has_room_for_every_value(logarithmic: bool, values: list[float]) -> None:
    axis = scale(values, logarithmic)
    assert axis.low < axis.high
    for value in values:
        if axis.has(value):
            assert GUTTER <= axis.x(value) <= WIDTH - GUTTER
            assert 0 < axis.share(value) < 1
    labels = [tick.label for tick in axis.ticks]
    assert 1 <= len(labels) <= 9 and len(set(labels)) == len(labels)
    assert [tick.x for tick in axis.ticks] == sorted(tick.x for tick in axis.ticks)


def test_ticks_read_well() -> None:
    assert [tick.label for tick in scale([0.002, 30.0], True).ticks] == [
        "10⁻³", "10⁻²", "10⁻¹", "1", "10", "100"
    ]  # fmt: skip
    signed = [tick.label for tick in scale([50.0], False).ticks]
    assert signed == ["\u221210", "\u22121", "0", "1", "10"]
