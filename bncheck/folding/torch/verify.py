"""Original and folded side by side, on the same arguments."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bncheck.errors import CannotFold
from bncheck.folding.comparison import Comparison, compare_output, compare_site, comparisons
from bncheck.folding.result import Deviation, Verification
from bncheck.folding.torch.feeds import Feed, variations
from bncheck.folding.torch.runs import Kept, Observed, Runner

Compared = Mapping[str, Comparison]
NUDGES = 8  # tries to see how far rounding alone can move what is compared


def verify(
    original: Runner,
    folded: Runner,
    feeds: Iterable[Feed],
    sites: Sequence[str],
    tolerance: float | None = None,
) -> Verification:
    """Run both on every feed, and compare all outputs and what is made at the sites.

    The first feed must work; of the others those are left out that the original does not take.
    Raises CannotFold where the first does not, or where the folded model fails on any.
    """
    comparing = _Comparing(original, folded, sites, tolerance)
    for feed in feeds:
        comparing.compare(feed)
    return Verification(
        comparing.runs,
        f"torch {importlib.import_module('torch').__version__}",
        comparing.deviations(comparing.outputs),
        comparing.deviations(comparing.sites),
    )


def fitting(runner: Runner, candidates: Iterable[Feed], give: str) -> Iterator[Feed]:
    """The first feed that a model runs on, and variations of it.

    Raises CannotFold where it runs on none; ``give`` says what to do then.
    """
    problem = "it takes none"
    for number, feed in enumerate(candidates):
        try:
            runner.run(feed, ())
        except Exception as error:  # a size that does not fit
            problem = problem if number else line(error)
        else:
            yield feed
            yield from variations(feed)
            return
    raise CannotFold(f"the model does not run on random inputs: {problem}; {give}")


class _Comparing:
    def __init__(
        self, original: Runner, folded: Runner, sites: Sequence[str], tolerance: float | None
    ) -> None:
        self.runs = 0
        self.outputs: dict[str, Comparison] = {}
        self.sites = comparisons(sites)
        self._original = original
        self._folded = folded
        self._tolerance = tolerance

    @staticmethod
    def deviations(comparisons: Mapping[str, Comparison]) -> tuple[Deviation, ...]:
        """What came of all runs."""
        return tuple(each.deviation() for each in comparisons.values())

    def compare(self, feed: Feed) -> None:
        """One feed, again until all sites were heard."""
        waiting = [*self.sites]
        before = self._run_original(feed, waiting)
        if before is None:
            return
        self.runs += 1
        self._compare(before, feed, with_outputs=True)
        while waiting := [site for site in waiting if site not in before.sites]:
            again = self._run_original(feed, waiting)
            if again is None or not again.sites:  # the forward does not come by these
                return
            before = again
            self._compare(before, feed, with_outputs=False)

    def _run_original(self, feed: Feed, sites: Sequence[str]) -> Observed | None:
        try:
            return self._original.run(feed, sites)
        except Exception as error:  # whatever the model's own code raises
            if self.runs:
                return None
            raise CannotFold(f"the model does not run on the inputs: {line(error)}") from error

    def _compare(self, before: Observed, feed: Feed, with_outputs: bool) -> None:
        """One run of both. What rounding does to the original is looked at only if it matters."""
        after = self._run_folded(feed, [*before.sites])
        if before.outputs.keys() != after.outputs.keys():
            raise CannotFold("the folded model gives other outputs")
        outputs, sites = self._compared(before, before, after)
        for seed in range(NUDGES):
            if _all_within(outputs, sites):
                break
            noisy = self._run_nudged(feed, [*before.sites], seed)
            outputs, sites = map(_better, (outputs, sites), self._compared(before, noisy, after))
        for name, each in outputs.items() if with_outputs else ():
            self.outputs.setdefault(name, Comparison(name)).add(each)
        for name, each in sites.items():
            self.sites[name].add(each)

    def _run_folded(self, feed: Feed, sites: Sequence[str]) -> Observed:
        try:
            return self._folded.run(feed, sites)
        except Exception as error:
            raise CannotFold(f"the folded model does not run: {line(error)}") from error

    def _run_nudged(self, feed: Feed, sites: Sequence[str], seed: int) -> Observed:
        """What rounding alone does; nothing where the model cannot be run so."""
        try:
            return self._original.run_nudged(feed, sites, seed)
        except Exception:  # then the floor of the bound must do
            return Observed()

    def _compared(
        self, before: Observed, noisy: Observed, after: Observed
    ) -> tuple[Compared, Compared]:
        """Outputs and sites of one feed."""
        outputs, sites = comparisons([*before.outputs]), comparisons([*before.sites])
        for name, (array, dtype) in before.outputs.items():
            other = noisy.outputs.get(name, (array, dtype))[0]
            other = other if other.shape == array.shape else array
            folded = after.outputs[name][0]
            compare_output(outputs[name], array, other, folded, self._tolerance, dtype)
        for name, held in before.sites.items():
            others = noisy.sites.get(name, held), after.sites.get(name, [])
            _compare_site(sites[name], held, *others)
        return outputs, sites


def _all_within(*compared: Compared) -> bool:
    return all(each.deviation().within for held in compared for each in held.values())


def _better(some: Compared, others: Compared) -> Compared:
    """Of two comparisons of the same values, each time the one with the wider bound."""
    pairs = ((name, held, others[name]) for name, held in some.items())
    return {name: max(held, other, key=lambda each: each.bound) for name, held, other in pairs}


def _compare_site(
    into: Comparison, before: list[Kept], noisy: list[Kept], after: list[Kept]
) -> None:
    if len(before) != len(after):
        into.note(float("inf"), 0.0, 0.0, True)
    for (array, dtype), (other, _), (folded, _) in zip(before, noisy, after, strict=False):
        compare_site(into, array, folded, other, dtype)


def line(error: Exception) -> str:
    """The first line of an error."""
    text = str(error).strip() or type(error).__name__
    return text.partition("\n")[0][:200]
