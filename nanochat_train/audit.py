"""The causality audit: is each token's score a function of the checkpoint and of the text before it, and of nothing else?

Process A scored every row. Rows are cut, what follows the cut is replaced by text from training rows, and process B, which
was started after A's death and shares nothing with it but the checkpoint, predicts the text up to the cut once more. B never
receives what stood behind a cut, so whatever A took from there, from other rows, or from what it saw earlier, B cannot
repeat; it need not be fooled about being B, and gains nothing by knowing it. Pure functions; see evaluate.py for the
processes.

A cut is a row r and a position t: tokens 0..t are true. d is B's loss minus A's, in nats, at t and the 63 positions before.

- Uniform cuts show the mean of d over the split, and so by how much the score as a whole can be too good.
- Adaptive cuts lie where A gains most over a reference: half of them are the largest gains, half are drawn in proportion to
  the squared gain, so that peeks below a crowd of honest large gains are met as well. Few peeks, each worth much, are
  found here and not by the uniform ones.
- No row has two cuts: B would learn from the longer prefix what it is asked about at the shorter one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.models import Audit, Measurement
from nanochat_train.data import Rows

BACK = 64  # positions compared at each cut: the cut itself, and those before it, for peeks far ahead
TOLERANCE = 0.05  # nats; the largest honest difference seen was 0.048, with int8 quantisation on a CPU
CALIBRATION = 5.0  # times the largest difference of the baseline's own audits
NOTHING = 1e-6  # nats: what a gain counts at least, so that there are always enough places to draw from
MEAN = 5e-4  # nats a token: below the resolution of the metric
ERRORS = 3.0  # standard errors

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """How many cuts of each kind; less where there are fewer rows."""

    uniform: int
    adaptive: int


# Per profile. On a CPU about a fifth of the rows, so that the audit costs little beside the score.
PLANS = {"cpu": Plan(uniform=96, adaptive=48), "gpu": Plan(uniform=2731, adaptive=1365)}


@dataclass(frozen=True)
class Cuts:
    """Where rows are cut: [K] row numbers, [K] positions, [K] whether the cut is a uniform one."""

    rows: Ints
    positions: Ints
    uniform: Bools

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def starts(self) -> Ints:
        """The first position compared in each row, [K]."""
        return np.maximum(0, self.positions - (BACK - 1))


def first_pass(ask: Callable[[Rows], Floats], rows: Rows, batch: int, rng: np.random.Generator) -> Floats:
    """Process A's nats for every token of rows [N, T+1], [N, T]; `ask` is given `batch` rows at a time, in a random order."""
    nll = np.empty((len(rows), rows.shape[1] - 1), dtype=np.float32)
    for chosen in _batches(len(rows), batch, rng):
        nll[chosen] = ask(rows[chosen])
    return nll


def second_pass(
    ask: Callable[[Rows, Rows, Ints], Floats], rows: Rows, train: Rows, cuts: Cuts, batch: int, rng: np.random.Generator
) -> Floats:
    """Process B's nats at the places that are compared, [K, W]; `ask` is given inputs [B, T], targets [B, W] and starts [B]."""
    inputs, targets = probes(rows, cuts, train, rng), window(rows[cuts.rows, 1:], cuts.starts)
    again = np.empty(targets.shape, dtype=np.float32)
    for chosen in _batches(len(cuts), batch, rng):
        again[chosen] = ask(inputs[chosen], targets[chosen], cuts.starts[chosen])
    return again


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[Ints]:
    """All numbers below `count`, `size` at a time, in a random order."""
    order = rng.permutation(count)
    yield from (order[first : first + size] for first in range(0, count, size))


def choose(gains: Floats, counted: Bools, plan: Plan, rng: np.random.Generator) -> Cuts:
    """Draw cuts in rows [N, T]: `gains` over the reference in nats, `counted` where a token is part of the score."""
    usable = rng.permutation(np.flatnonzero(counted.any(axis=1)))
    total = plan.uniform + plan.adaptive
    share = min(plan.uniform, -(-len(usable) * plan.uniform // total))
    even = np.sort(usable[:share])
    rest = np.sort(usable[share:])
    drawn = np.where(counted[even], rng.random((len(even), counted.shape[1]), dtype=np.float32), -1.0).argmax(axis=1)
    gain = np.where(counted[rest], gains[rest], -np.inf)
    largest = _best(gain, (plan.adaptive + 1) // 2)
    weight = np.where(counted[rest], 2 * np.log(np.maximum(gain, NOTHING)), -np.inf)
    lot = weight + rng.gumbel(size=gain.shape)  # the largest of these are a draw by weight (Gumbel-top-k)
    lot[largest] = -np.inf
    drawn_rows = _best(lot, plan.adaptive // 2)
    rows = np.concatenate([even, rest[largest], rest[drawn_rows]])
    positions = np.concatenate([drawn, gain[largest].argmax(axis=1), lot[drawn_rows].argmax(axis=1)])
    return Cuts(rows, positions.astype(np.int64), np.arange(len(rows)) < len(even))


def _best(values: npt.NDArray[np.floating], count: int) -> Ints:
    """The `count` rows of [N, T] with the largest maximum, without those that have none."""
    best = values.max(axis=1, initial=-np.inf)
    order: Ints = np.argsort(-best, kind="stable")[:count]
    found: Ints = order[np.isfinite(best[order])]
    return found


def probes(rows: Rows, cuts: Cuts, train: Rows, rng: np.random.Generator) -> Rows:
    """What B gets: the true row up to its cut, then a training row's text, uint16 [K, T] for rows [N, T+1]."""
    inputs = rows[cuts.rows, :-1]
    suffixes = train[np.sort(rng.integers(0, len(train), len(cuts)))][rng.permutation(len(cuts)), :-1]
    return np.where(np.arange(inputs.shape[1]) <= cuts.positions[:, None], inputs, suffixes)


def window(values: npt.NDArray[Any], starts: Ints) -> npt.NDArray[Any]:
    """`BACK` positions of each row [K, T] from `starts` on, [K, min(BACK, T)]."""
    return np.take_along_axis(values, starts[:, None] + np.arange(width(values.shape[1])), axis=1)


def width(seq_len: int) -> int:
    """How many positions of a row are compared."""
    return min(BACK, seq_len)


def differences(nll: Floats, cuts: Cuts, again: Floats) -> npt.NDArray[np.float64]:
    """d = B's loss minus A's: [K, W] from A's nll [N, T] and B's [K, W]; NaN behind a cut."""
    starts = cuts.starts
    before = window(nll[cuts.rows], starts).astype(np.float64)
    seen = np.arange(before.shape[1]) <= (cuts.positions - starts)[:, None]
    return np.where(seen, again - before, np.nan)


def tolerance(baseline: Iterable[Measurement]) -> float:
    """The largest difference that is allowed, in nats: the baseline shows what rounding does to honest code here."""
    seen = [run.audit.figures.get("largest", 0.0) for run in baseline if run.audit and run.audit.passed]
    return max(TOLERANCE, CALIBRATION * max(seen, default=0.0))


def judge(d: npt.NDArray[np.float64], cuts: Cuts, allowed: float) -> Audit:
    """The audit's verdict; `summary` is a sentence for people and agents, and tells nothing of any token."""
    at_cut = d[np.arange(len(cuts)), cuts.positions - cuts.starts]
    even = at_cut[cuts.uniform]
    mean = float(even.mean()) if len(even) else 0.0
    error = float(even.std(ddof=1) / len(even) ** 0.5) if len(even) > 1 else 0.0
    largest = float(np.nanmax(np.abs(d)))
    figures = {"cuts": float(len(cuts)), "largest": largest, "tolerance": allowed, "mean": mean, "error": error}
    if largest > allowed:
        return Audit(passed=False, summary=_complaint(d, cuts, allowed), figures=figures)
    if abs(mean) > max(MEAN, ERRORS * error):
        return Audit(passed=False, summary=f"audit failed: {SLIGHT}", figures=figures)
    return Audit(passed=True, summary=f"audit passed, {len(cuts)} cuts", figures=figures)


AHEAD = (
    "a prediction changes with the text behind it: position t may use tokens 0 to t only. "
    "Usual causes: a mask or a shift that is off by one, a convolution padded on the right, pooling over later positions"
)
STATE = (
    "the same text is predicted differently by a fresh process, beside other rows: a prediction may depend on its own row only. "
    "Usual causes: dropout that is still on, statistics of the batch, a cache or weights that change between calls, a look far "
    "ahead"
)
SLIGHT = (
    "on average predictions are not as good when the text behind them is replaced and the process is a fresh one. "
    "Usual causes: a weak look ahead, statistics of the batch, or state that is kept between calls"
)


def _complaint(d: npt.NDArray[np.float64], cuts: Cuts, allowed: float) -> str:
    """Which mistake this usually is: a look ahead shows next to the cut, state and statistics show everywhere."""
    back = (cuts.positions - cuts.starts)[:, None] - np.arange(d.shape[1])
    wrong = np.abs(d) > allowed
    near, far = (_share(wrong, (back >= low) & (back < high)) for low, high in ((0, 1), (BACK // 2, BACK)))
    places = int(wrong.any(axis=1).sum())
    return f"audit failed at {places} of {len(cuts)} places: {STATE if far > near / 2 else AHEAD}"


def _share(wrong: Bools, where: Bools) -> float:
    return float(wrong[where].mean()) if where.any() else 0.0
