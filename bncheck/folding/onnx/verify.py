"""Original and folded side by side, on inputs that exercise the model.

Outputs are compared as a user gets them. Sites are compared part by part (see ``variants``): what
the folded model makes at a site of what the original has at the sites before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bncheck.errors import CannotFold
from bncheck.folding.comparison import (
    SHAKES,
    Comparison,
    compare_near,
    compare_output,
    comparisons,
    noisiest,
)
from bncheck.folding.onnx import runs
from bncheck.folding.onnx.engines import Arrays, Session, engine
from bncheck.folding.onnx.file import OnnxFile
from bncheck.folding.onnx.variants import GIVEN, Variant, shaken
from bncheck.folding.options import Progress, silent
from bncheck.folding.result import Verification
from bncheck.graph import NodeKind
from bncheck.tensor import Tensor

File = tuple[OnnxFile, Path]


def verify(
    original: File,
    folded: File,
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
    comparing = _Comparing(original, folded, sites, tolerance)
    feeds = [*runs.feeds(comparing.plain)] if inputs is None else runs.given(inputs)
    for number, feed in enumerate(feeds, 1):
        progress(f"run {number} of {len(feeds)}")
        comparing.compare(feed)
    return Verification(
        len(feeds),
        comparing.engine.name,
        tuple(each.deviation() for each in comparing.outputs.values()),
        tuple(each.deviation() for each in comparing.sites.values()),
    )


class _Comparing:
    """Sessions, of which those that only raise a bound are made when one is too low."""

    def __init__(
        self, original: File, folded: File, sites: Mapping[str, str], tolerance: float | None
    ) -> None:
        self._original = original
        self._folded_file = folded
        self._tolerance = tolerance
        self._names = [*original[0].main.outputs]
        self._now = {**sites, **{name: name for name in self._names}}
        self._inside = [name for name in sites if name not in self._names]
        self.engine = engine(original[0])
        self.plain = self._session(original, Variant(also=self._inside))
        dtypes = {port.name: port.dtype for port in self.plain.outputs}
        self._given = {name: dtypes[name] for name in sites if dtypes[name] in SHAKES}
        self._dtype = _coarsest(*original[0].graph.nodes, *folded[0].graph.nodes)
        self._rng = np.random.default_rng(1)
        self.outputs = comparisons(self._names)
        self.sites = comparisons([*self._now] if sites else [])
        _require_same_face(self.plain, self._folded, self._names)

    def _session(self, file: File, variant: Variant) -> Session:
        return self.engine.session(*file, variant)

    @cached_property
    def _folded(self) -> Session:
        return self.engine.session(*self._folded_file)

    @cached_property
    def _optimised(self) -> Session:
        return self.engine.session(*self._original, optimised=True)

    @cached_property
    def _shaken_original(self) -> Session:
        return self._session(self._original, Variant(shake=SHAKES[self._dtype]))

    @cached_property
    def _parts(self) -> Session:
        """The folded model with what the original has at the sites."""
        return self._session(self._folded_file, self._cut)

    @property
    def _cut(self) -> Variant:
        also = [name for name in dict.fromkeys(self._now.values()) if name not in self._names]
        return Variant(also, {self._now[name]: dtype for name, dtype in self._given.items()})

    @cached_property
    def _shaken_parts(self) -> Session:
        """The original in the same parts, its parameters moved as rounding might."""
        variant = Variant(self._inside, self._given, SHAKES[self._dtype])
        return self._session(self._original, variant)

    @cached_property
    def _shaken_folded_parts(self) -> Session:
        return self._session(self._folded_file, replace(self._cut, shake=SHAKES[self._dtype]))

    def compare(self, feed: Arrays) -> None:
        """One run of all."""
        try:
            before = self.plain.run([*self._now] if self.sites else self._names, feed)
        except CannotFold as error:
            raise CannotFold(f"{error}; give others with --inputs FILE.npz") from error
        self._compare_outputs(before, feed)
        if self.sites:
            self._compare_sites(before, feed)

    def _compare_outputs(self, before: Arrays, feed: Arrays) -> None:
        """What rounding does to the original is looked at only if it matters."""
        after = self._folded.run(self._names, feed)
        found = self._compared(before, [], after)
        if _outside(found):
            moved = {name: self._shaken(array) for name, array in feed.items()}
            noisy = [self._optimised.run(self._names, each) for each in (feed, moved)]
            found = self._compared(before, noisy, after)
            if _outside(found):
                noisy.append(self._shaken_original.run(self._names, moved))
                found = self._compared(before, noisy, after)
        _note(self.outputs, found)

    def _compared(
        self, before: Arrays, noisy: Sequence[Arrays], after: Arrays
    ) -> dict[str, Comparison]:
        found = comparisons(self._names)
        for name, into in found.items():
            other = noisiest(before[name], [each[name] for each in noisy])
            compare_output(into, before[name], other, after[name], self._tolerance)
        return found

    def _compare_sites(self, before: Arrays, feed: Arrays) -> None:
        """What rounding may do to the original is looked at only if it matters, then the folded."""
        names = [*dict.fromkeys(self._now.values())]
        after = self._parts.run(names, {**feed, **self._handed(before, self._now, lambda x: x)})
        found = self._compared_sites([*self._now], before, after)
        if doubtful := _outside(found):
            moved = {name: self._shaken(array) for name, array in feed.items()}
            here = self._handed(before, {name: name for name in self._given}, self._shaken)
            noisy = self._shaken_parts.run(doubtful, {**moved, **here})
            found |= self._compared_sites(doubtful, before, after, noisy)
            if doubtful := _outside(found):
                there = self._handed(before, self._now, self._shaken)
                names = [*{self._now[name]: None for name in doubtful}]
                noisier = self._shaken_folded_parts.run(names, {**moved, **there})
                found |= self._compared_sites(doubtful, before, after, noisy, noisier)
        _note(self.sites, found)

    def _handed(
        self, values: Arrays, names: Mapping[str, str], change: Callable[[Any], Any]
    ) -> Arrays:
        return {GIVEN + names[name]: change(values[name]) for name in self._given}

    def _compared_sites(
        self,
        names: Sequence[str],
        before: Arrays,
        after: Arrays,
        noisy: Arrays | None = None,
        more: Arrays | None = None,
    ) -> dict[str, Comparison]:
        found = comparisons(names)
        for name, into in found.items():
            now = self._now[name]
            shaken = [] if noisy is None else [(before[name], noisy[name])]
            shaken += [] if more is None else [(after[now], more[now])]
            compare_near(into, before[name], after[now], shaken, self._dtype)
        return found

    def _shaken(self, array: Any) -> Any:
        """All numbers moved a little; zeros, which no factor moves, as if they were near 1."""
        if not np.issubdtype(array.dtype, np.floating):
            return array
        amount = SHAKES[self._dtype]
        if not array.any():
            return np.asarray(self._rng.uniform(-amount, amount, array.shape), array.dtype)
        return shaken(array, amount, self._rng).astype(array.dtype)


def _outside(found: Mapping[str, Comparison]) -> list[str]:
    """What is farther apart than its bound."""
    return [name for name, each in found.items() if not each.deviation().within]


def _note(into: Mapping[str, Comparison], found: Mapping[str, Comparison]) -> None:
    for name, each in found.items():
        into[name].add(each)


def _coarsest(*nodes: Any) -> str:
    """The dtype of parameters that rounds most."""
    held = {t.dtype for n in nodes for t in n.parameters.values() if isinstance(t, Tensor)}
    return max(held & SHAKES.keys(), key=SHAKES.__getitem__, default="float32")


def _require_same_face(original: Session, folded: Session, outputs: Sequence[str]) -> None:
    inputs = [each.name for each in original.inputs]
    made = {each.name for each in folded.outputs}
    if [each.name for each in folded.inputs] != inputs or not made.issuperset(outputs):
        raise CannotFold("the two models differ in their inputs or outputs")


def common_sites(original: OnnxFile, folded: OnnxFile) -> dict[str, str]:
    """BatchNorms of the original whose value the other model makes under the same name."""
    made = {name for node in folded.main.nodes for name in node.outputs}
    own = {name for node in original.main.nodes for name in node.outputs}
    values = (n.outputs[0] for n in original.graph.nodes if n.kind is NodeKind.BATCH_NORM)
    return {value: value for value in values if value in made and value in own}
