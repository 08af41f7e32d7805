"""What each agent, and each version of the program, achieved. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from harness.ledger import BASELINE
from harness.models import Record
from harness.report.spent import agent_s

HITS = 3


@dataclass(frozen=True)
class Standing:
    """The experiments of one agent, or of one version of the program. `gains`: merged experiment -> gain, largest first."""

    name: str
    first: str
    last: str
    counts: dict[str, int]
    gains: dict[str, float]
    usd: float | None
    agent_s: float

    @property
    def judged(self) -> int:
        """Experiments with a verdict on an idea: a void one failed for reasons outside of it."""
        return sum(count for status, count in self.counts.items() if status != "void")

    @property
    def rate(self) -> float | None:
        """The share that was kept."""
        return len(self.gains) / self.judged if self.judged else None

    @property
    def gain(self) -> float:
        """What the kept ones gained together, each over the incumbent of its time."""
        return sum(self.gains.values())

    @property
    def hits(self) -> list[tuple[str, float]]:
        """The largest gains."""
        return list(self.gains.items())[:HITS]


def standings(records: list[Record], gains: dict[str, float], name: Callable[[Record], str]) -> list[Standing]:
    """A Standing for each name that `name` gives to records, in the order of their first experiments.

    `gains`: what each merged experiment gained. A cost that nobody knows makes the sum unknown, None.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.id != BASELINE and record.verdict:
            groups.setdefault(name(record), []).append(record)
    return [_standing(group, mine, gains) for group, mine in groups.items()]


def _standing(name: str, records: list[Record], gains: dict[str, float]) -> Standing:
    ended = [record.verdict.status for record in records if record.verdict]
    used = [record.proposal.usage for record in records if record.proposal and record.proposal.usage]
    paid = [each.usd for each in used]
    kept = {record.id: gains[record.id] for record in records if record.id in gains}
    return Standing(
        name=name,
        first=records[0].id,
        last=records[-1].id,
        counts={status: ended.count(status) for status in sorted(set(ended))},
        gains=dict(sorted(kept.items(), key=lambda item: -item[1])),
        usd=None if None in paid else sum(usd or 0.0 for usd in paid),
        agent_s=sum(map(agent_s, records)),
    )


def changes(before: str, after: str, limit: int = 200) -> list[tuple[str, str]]:
    """What became of a text, as (sign, line) with two lines of context."""
    rows = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))[2:]
    return [(row[:1], row[1:]) if row[:1] in "+- " else ("@", row) for row in rows[:limit]]
