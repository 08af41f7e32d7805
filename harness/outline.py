"""A night's records counted: what is made of one is kept as long as the record stays the same, so one more costs one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.models import Record

Made = TypeVar("Made")


class Remembered(Generic[Made]):
    """What `make` makes of records, made anew only of those that changed: a ledger has the same object until one moves."""

    def __init__(self, make: Callable[[Record], Made]) -> None:
        """Nothing is known yet."""
        self._make, self._known = make, dict[int, tuple[Record, Made]]()

    def of(self, records: Iterable[Record]) -> list[Made]:
        """One for each record, in their order. Who compares two such lists compares objects."""
        before = self._known  # holds the records, so that no other can have the same id
        self._known = {id(record): before.get(id(record)) or (record, self._make(record)) for record in records}
        return [made for _, made in self._known.values()]


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """What is counted of one record. `closed`: nothing more is done for it; `ended`: it has a verdict; `paid`: it used models."""

    record: Record
    id: str
    closed: bool
    ended: bool
    status: str
    merged: bool
    reviewed: bool
    merge: int
    value: float | None
    paid: bool
    usd: float | None


def outline(record: Record) -> Outline:
    """What is counted of a record."""
    used = record.proposal.usage if record.proposal else None
    return Outline(
        record=record,
        id=record.id,
        closed=record.state == "closed",
        ended=record.verdict is not None,
        status=record.status,
        merged=record.merged,
        reviewed=record.review is not None,
        merge=record.merge or 0,
        value=record.value,
        paid=used is not None,
        usd=used.usd if used else None,
    )


def counts(statuses: Iterable[str]) -> str:
    """How many ended how, in words."""
    return ", ".join(f"{count} {status}" for status, count in sorted(Counter(statuses).items())) or "nothing was tried yet"
