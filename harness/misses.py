"""Which discarded experiments may have been better after all. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from harness import judge
from harness.models import Record, Verdict


def near_misses(records: Iterable[Record]) -> list[Record]:
    """Discarded experiments that the runs left undecided, or whose believed gain is more than nothing; the likeliest first."""
    found = [(record.verdict.probability or 0.0, record) for record in records if record.verdict and _near(record.verdict)]
    return [record for _, record in sorted(found, key=lambda each: -each[0])]


def _near(verdict: Verdict) -> bool:
    if verdict.status != "discard" or verdict.probability is None or verdict.gain is None or not verdict.sigma:
        return False
    undecided = judge.DISCARD <= verdict.probability <= judge.KEEP
    return undecided or (verdict.probability < judge.DISCARD and verdict.gain > verdict.sigma / 10)
