"""The layers of a model as the page shows them: what is found at each, and how it is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bncheck.finding import Finding
from bncheck.model import NormLayer
from bncheck.reports.contents import CLASSES
from bncheck.reports.grouping import together
from bncheck.reports.html.charts import Axis, Chart, axes, chart
from bncheck.reports.html.findings import FindingView, finding_views
from bncheck.reports.html.overview import Overview, overview
from bncheck.reports.html.series import Series, series
from bncheck.reports.layout import layer_name, shortened
from bncheck.reports.table import COLUMNS, NONE, NOT_KNOWN, cell
from bncheck.running.outcome import Checked

HEALTHY = "ok"
MANY = 4  # layers in which a rule must find something to be common
IN_ITS_HEAD = ("name", "kind", "features")


class LayerView(NamedTuple):
    """A layer. ``findings`` are its own, ``shared`` those of rules that most layers violate.

    ``level`` is that of its worst finding, ``own`` that of the worst of its own, or "ok".
    """

    anchor: str
    name: str
    level: str
    own: str
    kind: str
    features: str
    facts: tuple[tuple[str, str], ...]
    findings: tuple[FindingView, ...]
    shared: tuple[FindingView, ...]
    charts: tuple[Chart, ...]


class LayerViews(NamedTuple):
    """The layers in order, the axes that their charts share, and one picture of all.

    ``undrawn`` counts the layers that could have charts and have none.
    """

    layers: tuple[LayerView, ...]
    axes: Mapping[str, Axis]
    overview: Overview | None
    undrawn: int


class _Found(NamedTuple):
    """The findings at a layer: its own, and those of common rules."""

    own: list[Finding]
    shared: list[Finding]


def layer_views(
    checked: Checked,
    findings: Sequence[Finding],
    anchors: Mapping[str, str],
    draws: Callable[[str], bool],
) -> LayerViews:
    """The layers of a model; ``draws`` decides for a level whether a layer of it has charts."""
    layers = checked.report.model.layers
    found = _by_layer(findings, len(layers))
    drawn = [series(layer, checked.plan) for layer in layers]
    shared = axes(each for its in drawn for each in its)
    views = [
        _view(layer, anchors[layer.name], found.get(layer.name, _Found([], []))) for layer in layers
    ]
    shown = [_drawn(view, its, shared, draws) for view, its in zip(views, drawn, strict=True)]
    return LayerViews(
        tuple(shown),
        shared,
        overview([(view.own, its) for view, its in zip(views, drawn, strict=True)]),
        sum(bool(its) > bool(view.charts) for view, its in zip(shown, drawn, strict=True)),
    )


def worst(findings: Iterable[Finding]) -> str:
    """The worst level of findings; "ok" where there are none."""
    levels = [finding.level for finding in findings]
    return max(levels, key=lambda level: level.rank).value if levels else HEALTHY


def _by_layer(findings: Sequence[Finding], layers: int) -> dict[str | None, _Found]:
    common = _common(findings, layers)
    return {
        same[0].layer: _Found(
            [finding for finding in same if finding.rule not in common],
            [finding for finding in same if finding.rule in common],
        )
        for same in together(findings, lambda finding: finding.layer)
    }


def _common(findings: Iterable[Finding], layers: int) -> frozenset[str]:
    """The rules that found something in most layers, which hide what is special about a few."""
    places = {(finding.rule, finding.layer) for finding in findings if finding.layer is not None}
    counts = Counter(rule for rule, _ in places)
    return frozenset(r for r, count in counts.items() if count >= MANY and 2 * count > layers)


def _view(layer: NormLayer, anchor: str, found: _Found) -> LayerView:
    cells = {name: cell(read, layer) for name, read in COLUMNS.items()}
    told = {name: text for name, text in cells.items() if text not in (NOT_KNOWN, NONE)}
    return LayerView(
        anchor=anchor,
        name=shortened(layer_name(layer.name)),
        level=worst([*found.own, *found.shared]),
        own=worst(found.own),
        kind=CLASSES[layer.kind] if layer.kind else "of unknown kind",
        features=told.get("features", ""),
        facts=tuple((name, text) for name, text in told.items() if name not in IN_ITS_HEAD),
        findings=finding_views(found.own, {}),
        shared=finding_views(found.shared, {}),
        charts=(),
    )


def _drawn(
    view: LayerView,
    its: Iterable[Series],
    shared: Mapping[str, Axis],
    draws: Callable[[str], bool],
) -> LayerView:
    if not draws(view.level):
        return view
    return view._replace(charts=tuple(chart(each, shared[each.quantity.key]) for each in its))
