"""Original and folded side by side in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bncheck.errors import CannotFold
from bncheck.folding.comparison import Comparison, compare_output, compare_site, comparisons
from bncheck.folding.onnx import runs
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.options import Progress, silent
from bncheck.folding.result import Verification
from bncheck.graph import NodeKind

AT_ONCE = 48  # sites whose values are in memory at a time


def verify(
    original: tuple[OnnxFile, Path],
    folded: tuple[OnnxFile, Path],
    sites: Mapping[str, str],
    *,
    inputs: Path | None = None,
    tolerance: float | None = None,
    progress: Progress = silent,
) -> Verification:
    """Run two models on the same inputs and compare all outputs, and ``sites``.

    Sites are values of the original by name, with their names in the folded model. Raises
    CannotFold where one of the two does not run.
    """
    progress("loading both models")
    plain = runs.session(*original, optimised=False, also=[*sites])
    changed = runs.session(*folded, optimised=False, also=[*dict.fromkeys(sites.values())])
    optimised = runs.session(*original, optimised=True)
    names = [each.name for each in optimised.get_outputs()]
    _require_same_face(optimised, changed, names)
    outputs, at_sites = comparisons(names), comparisons([*sites])
    feeds = [*runs.feeds(optimised)] if inputs is None else runs.given(inputs)
    for number, feed in enumerate(feeds, 1):
        progress(f"run {number} of {len(feeds)}")
        _compare_outputs(outputs, feed, (plain, optimised, changed), names, tolerance)
        for begin in range(0, len(sites), AT_ONCE):
            _compare_sites(at_sites, feed, plain, changed, [*sites.items()][begin:][:AT_ONCE])
    return Verification(
        len(feeds),
        f"onnxruntime {runs.runtime().__version__}",
        tuple(each.deviation() for each in outputs.values()),
        tuple(each.deviation() for each in at_sites.values()),
    )


def _require_same_face(original: Any, folded: Any, outputs: Sequence[str]) -> None:
    inputs = [each.name for each in original.get_inputs()]
    made = {each.name for each in folded.get_outputs()}
    if [each.name for each in folded.get_inputs()] != inputs or not made.issuperset(outputs):
        raise CannotFold("the two models differ in their inputs or outputs")


def _compare_outputs(
    into: Mapping[str, Comparison],
    feed: runs.Feed,
    sessions: tuple[Any, Any, Any],
    names: list[str],
    tolerance: float | None,
) -> None:
    results = [_run(session, names, feed) for session in sessions]
    for name, original, optimised, folded in zip(names, *results, strict=True):
        compare_output(into[name], original, optimised, folded, tolerance)


def _compare_sites(
    into: Mapping[str, Comparison],
    feed: runs.Feed,
    original: Any,
    folded: Any,
    sites: Sequence[tuple[str, str]],
) -> None:
    before = _run(original, [name for name, _ in sites], feed)
    after = _run(folded, [name for _, name in sites], feed)
    for (name, _), mine, other in zip(sites, before, after, strict=True):
        compare_site(into[name], mine, other)


def _run(session: Any, names: list[str], feed: runs.Feed) -> list[Any]:
    try:
        return list(session.run(names, dict(feed)))
    except Exception as error:  # onnxruntime's own types are not exported
        raise CannotFold(f"the model does not run on the inputs: {runs.line(error)}") from error


def common_sites(original: OnnxFile, folded: OnnxFile) -> dict[str, str]:
    """BatchNorms of the original whose value the other model makes under the same name."""
    made = {name for node in folded.main.nodes for name in node.outputs}
    own = {name for node in original.main.nodes for name in node.outputs}
    values = (n.outputs[0] for n in original.graph.nodes if n.kind is NodeKind.BATCH_NORM)
    return {value: value for value in values if value in made and value in own}
