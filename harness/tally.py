"""What the loop asks of all records again and again, kept up to date one record at a time. Derived, and never stored.

To look through ten thousand records takes ten milliseconds, and an experiment asks some thirty such questions on its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from harness import grid
from harness.models import Record, Variant


class Tally:
    """Verdicts, trees that were tried, and variants that wait."""

    def __init__(self, tree: Callable[[str], str], baseline: str) -> None:
        """Of no records yet; `tree` tells the tree of a commit, and the record `baseline` is no experiment that counts."""
        self._tree, self._baseline = tree, baseline
        self._verdicts: dict[str, str] = {}  # of all but the baseline, in the order of their numbers; empty while there is none
        self._counts = Counter[str]()
        self._reverts = set[str]()
        self._trees: dict[str, set[str]] = {}
        self._tried: dict[str, set[str]] = {}
        self._families: dict[str, dict[str, Record]] = {}
        self._waiting: dict[str, list[tuple[Record, int, Variant]]] = {}

    def put(self, record: Record) -> None:
        """Count a record as it is now, in place of its earlier state; a new one has the highest number."""
        verdict = record.verdict.status if record.verdict else ""
        if record.id != self._baseline:
            if record.id in self._verdicts:
                self._counts[self._verdicts[record.id]] -= 1
            self._verdicts[record.id] = verdict
            self._counts[verdict] += 1
            if record.proposal and record.proposal.reverts:
                self._reverts.add(record.id)
        self._put_trees(record, void=verdict == "void")
        if record.variant:
            self._put_variant(record, record.variant.of)

    def _put_trees(self, record: Record, void: bool) -> None:
        experiment = record.experiment
        trees = {each.tree for each in record.proposal.tries} if record.proposal else set[str | None]()
        if not void:  # then the idea was never tried
            trees |= {experiment.tree, self._tree(experiment.joined) if experiment.joined else None}
        now = {tree for tree in trees if tree}
        before = self._trees.get(record.id, set())
        for tree in before - now:
            self._tried[tree].discard(record.id)
        for tree in now - before:
            self._tried.setdefault(tree, set()).add(record.id)
        self._trees[record.id] = now

    def _put_variant(self, record: Record, of: str) -> None:
        family = self._families.setdefault(of, {})
        family[record.id] = record
        if waiting := grid.waiting(family.values()):
            self._waiting[of] = waiting
        else:
            self._waiting.pop(of, None)

    @property
    def begun(self) -> int:
        """How many experiments count that have begun: all but the baseline and void ones."""
        return len(self._verdicts) - self._counts["void"]

    @property
    def done(self) -> int:
        """How many of these have a verdict."""
        return self.begun - self._counts[""]

    def verdicts(self) -> Iterator[str]:
        """The verdict of each of these that tries something new, that of the highest number first."""
        ended = (self._verdicts[name] for name in reversed(self._verdicts) if name not in self._reverts)
        return (each for each in ended if each not in ("", "void"))

    def tried(self, tree: str) -> str | None:
        """The first experiment that had this very tree, or a try that did."""
        return min(self._tried.get(tree, ()), key=int, default=None)

    def waiting(self) -> list[tuple[Record, int, Variant]]:
        """The variants that no experiment has taken yet, as grid.waiting tells them of all records."""
        return [each for of in sorted(self._waiting, key=int) for each in self._waiting[of]]
