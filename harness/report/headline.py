"""What a person wants to know first: how far the night came, how sure that is, and what it took. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness import judge, prompt, view
from harness.certificates import Certificate
from harness.ledger import BASELINE
from harness.misses import near_misses
from harness.models import Metric, Record
from harness.noise import degrees, noise
from harness.report import sealed, text
from harness.report.progress import Picture
from harness.report.spent import Spent
from harness.summary import duration, helped, nudges

NEAR = 5
SIGMAS_95 = 1.96


@dataclass(frozen=True)
class Headline:
    """`first` and `last`: the baseline's and the tip's value; `gain` says the difference, `sure` what is known of its error."""

    first: str
    last: str
    gain: str
    sure: str


def headline(picture: Picture, certificate: Certificate | None) -> Headline:
    """Baseline to tip: from a certificate of this very tip where there is one, else as the night's runs make one believe."""
    metric, first, last = picture.metric, picture.kept[0], picture.kept[-1]
    if certificate and (result := certificate.result):
        return _headline(metric, result.baseline, result.tip, sealed.sentence(certificate))
    gain, spread = metric.gain(first.value, last.value), SIGMAS_95 * math.hypot(first.sigma, last.sigma)
    if spread:
        low, high = metric.shown(gain - spread), metric.shown(gain + spread)
        said = (
            f"95 % interval {low} to {high}, believed after all runs of the night; harness certify measures it with fresh seeds"
        )
    else:
        said = "the metric has no noise: the same files score the same"
    return _headline(metric, first.value, last.value, said)


def nothing(records: list[Record], picture: Picture | None) -> str:
    """Why there is no headline."""
    if picture is None:
        return "The baseline has no value yet."
    if not any(record.verdict for record in records if record.id != BASELINE):
        return "The baseline is measured; no experiment has ended yet."
    if waiting := sum(record.status == "waiting" for record in records):
        what = "one that the harness would keep waits" if waiting == 1 else f"{waiting} that the harness would keep wait"
        return f"Nothing is merged yet: {what} for you."
    if any(record.review for record in records):
        return "Nothing was merged: what the harness would keep was rejected, or its gain was gone when it was measured again."
    return "Nothing was better than the baseline by more than the noise."


def _headline(metric: Metric, first: float, last: float, sure: str) -> Headline:
    gain = metric.gain(first, last)
    share = f" ({text.percent(abs(gain / first), 1)})" if first else ""
    said = f"{'Better' if gain >= 0 else 'Worse'} by {metric.shown(abs(gain))}{share}"
    return Headline(metric.shown(first), metric.shown(last), said, sure[:1].upper() + sure[1:])


def certified(found: list[Certificate], tip: str | None) -> Certificate | None:
    """The last finished certificate of what the lab branch holds now."""
    return next((each for each in reversed(found) if each.result and each.state == "closed" and each.tip == tip), None)


def figures(records: list[Record], time: Spent) -> list[tuple[str, str, str]]:
    """(name, value, remark) of what the night took and gave."""
    ended = [r.status for r in records if r.verdict and r.id != BASELINE]
    kept, judged, waiting = ended.count("keep"), len(ended) - ended.count("void"), ended.count("waiting")
    found = [("experiments", f"{len(ended):,}", prompt.counts(records))]
    share = f"{text.percent(kept / judged, 1)} of those judged" if judged else ""
    found += [("merged" if waiting else "kept", f"{kept:,}", f"{waiting:,} more wait for review" if waiting else share)]
    if time.active:
        pace = f"{judge.figure(3600 * len(ended) / time.active)} experiments an hour" if ended else ""
        stopped = f"; {duration(time.stopped)} stopped in between" if time.stopped else ""
        found += [("time at work", duration(time.active), pace + stopped)]
    if time.busy is not None and time.timed:
        where = "GPU busy" if any("gpu" in run.hardware for r in records[:1] for run in r.measurements) else "busy with runs"
        share = text.percent(time.busy) if time.busy <= 1.005 else f"{time.busy:.1f} at a time"
        found += [(where, share, f"{duration(time.timed)} of timed runs")]
    if asked := nudges(records):
        tried, good = map(sum, zip(*asked.values(), strict=True))
        found += [("kept when stuck", f"{good:,} of {tried:,}", helped(asked))]
    paid = [used.usd for record in records if (used := view.usage(record))]
    if paid:
        known = sum(usd or 0.0 for usd in paid)
        each = f"{view.dollars(known / kept)} a merged gain" if kept else "by list price"
        found += [("US dollars", view.dollars(known), each + (", and models of unknown price" if None in paid else ""))]
    return found


def nearest(records: list[Record]) -> list[Record]:
    """The near misses; where there are none, the discarded ones that came nearest, by probability and gain."""

    def nearness(record: Record) -> tuple[float, float]:
        verdict = record.verdict
        gain = verdict.gain if verdict and verdict.gain is not None else -math.inf
        return (verdict.probability or 0.0) if verdict else 0.0, gain

    discarded = [r for r in records if r.verdict and r.verdict.status == "discard" and r.verdict.gain is not None]
    return (near_misses(records) or sorted(discarded, key=nearness, reverse=True))[:NEAR]


def learnt(records: list[Record]) -> list[str]:
    """What a night teaches in which nothing was kept, in sentences."""
    if not records:
        return []
    metric, found = records[0].metric, list[str]()
    sigma = noise(records, metric).sigma
    if sigma:
        repeats = degrees(records)
        by = f"measured by {repeats} repeat{'s' * (repeats != 1)}" if repeats else "the task's own guess"
        found.append(f"Two runs of the same code differ by {metric.shown(sigma * math.sqrt(2))} or so ({by}); less is no gain.")
    best = next(iter(nearest(records)), None)
    if best and best.verdict and best.verdict.gain is not None:
        bound = best.verdict.gain + 2 * (best.verdict.gain_sd or 0.0)
        believed = text.signed(view.believed(best.verdict))
        found.append(f"The best idea is believed to gain {believed}, and hardly more than {metric.shown(bound)}.")
    ended = [r.verdict.status for r in records if r.verdict and r.id != BASELINE]
    failed = sum(ended.count(status) for status in ("crash", "invalid"))
    if failed:
        found.append(f"{failed} of {len(ended)} proposals did not get as far as a value: their reasons are in the table.")
    return found
