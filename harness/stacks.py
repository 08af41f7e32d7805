"""Winners that wait on top of each other (`review_base: winner`): what the search goes on from, and what comes before what.

All of it is read from the records and the lab branch, so there is nothing that a kill could leave half done: a record names the
commit that it was compared with, and where that is no commit of the lab branch, it is the measured commit of another winner.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness import git
from harness.ledger import Ledger
from harness.models import Record


class Stacks:
    """The winners of a ledger as they stand on each other at this moment."""

    def __init__(self, ledger: Ledger) -> None:
        """As the records and the lab branch are now."""
        self._repo, self._tip, self._records = ledger.repo, ledger.tip(), ledger.records()
        self._today = git.tree(self._repo, self._tip)
        self._winners = {record.judged: record for record in self._records if record.review}
        self._waiting = [record for record in self._winners.values() if record.status == "waiting"]

    def below(self, record: Record) -> list[Record]:
        """The winners that a record was built on and whose tree is not the lab's today, the lowest first."""
        ground, found = record.ground, list[Record]()
        while (each := self._winners.get(ground)) and git.tree(self._repo, ground) != self._today:
            found.append(each)
            ground = each.ground
        return found[::-1]

    def first(self, record: Record) -> list[Record]:
        """What waits and has to be accepted before a record, in that order."""
        return [each for each in self.below(record) if each.status == "waiting"]

    def rejected(self, record: Record) -> list[Record]:
        """What a record was built on and a person did not want."""
        return [each for each in self.below(record) if each.status == "rejected"]

    def upon(self, record: Record) -> list[Record]:
        """What waits and was built on a record."""
        return [each for each in self.waiting() if any(under.id == record.id for under in self.below(each))]

    def waiting(self) -> list[Record]:
        """What waits, each after what it was built on."""
        return self.ordered(self._waiting)

    def ordered(self, records: Iterable[Record]) -> list[Record]:
        """Records, oldest first but each after what it was built on: the order in which they can be accepted."""
        wanted, found = {record.id: record for record in records}, dict[str, Record]()
        for record in wanted.values():
            found |= {each.id: each for each in (*self.below(record), record) if each.id in wanted and each.id not in found}
        return list(found.values())

    def sound(self, record: Record) -> bool:
        """Whether a record's tree is what the lab becomes when everything below it is accepted, and then the record."""
        under = self.below(record)
        ground = under[0].ground if under else record.ground
        return git.tree(self._repo, ground) == self._today and all(each.status == "waiting" for each in under)

    def head(self) -> str:
        """The commit that the search goes on from: the newest winner that waits on top of all others, or the lab's tip.

        One that was built on what a person rejected is none; nor is one that only takes an earlier merge back.
        """
        found = [each for each in self._waiting if not (each.proposal and each.proposal.reverts) and self.sound(each)]
        newest = max(found, key=lambda each: (len(self.below(each)), int(each.id)), default=None)
        return newest.judged or self._tip if newest else self._tip


def marks(ledger: Ledger, record: Record) -> str:
    """What a person has to know of a record that waits because of what is below it; empty where nothing is."""
    stacks = Stacks(ledger)
    if gone := stacks.rejected(record):
        return f"built on rejected {names(gone)}"
    return f"built on {names(under)}, to be accepted first" if (under := stacks.first(record)) else ""


def names(records: Iterable[Record]) -> str:
    """Their numbers, as in "0001, 0002"."""
    return ", ".join(record.id for record in records)
