"""What a night is doing at this moment, as one value for whoever shows it: `harness status`, `harness watch`, a page.

    harness status --json

reader.py makes it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.models import Metric, Stop, Value
from harness.state import Status


class Work(Value):
    """One experiment under way. `share` of its phase's time is over; `curve`: (share of the run, loss). `run`: in a run slot.

    A phase that is `limited` may be done at any time, in `left_s` seconds at the latest; any other takes as long as that.
    """

    experiment: str
    title: str
    agent: str
    phase: str
    run: bool
    limited: bool = True
    elapsed_s: float
    left_s: float | None = None
    share: float | None = None
    loss: float | None = None
    curve: list[tuple[float, float]] = []


class Closed(Value):
    """One experiment with its verdict; `shown` and `believed` are its value and its gain as people read them."""

    id: str
    agent: str
    title: str
    status: str
    reason: str
    shown: str
    believed: str


class Best(Value):
    """The incumbent: what a candidate has to beat, with the curve of its first run as (share of the run, loss)."""

    id: str
    title: str
    value: float | None
    curve: list[tuple[float, float]] = []


class History(Value):
    """What the records say. `kept` and `tried` are (number of the experiment, value); `latest` verdicts come first.

    `ends` are the times at which the latest experiments had theirs.
    """

    task: str
    profile: str
    metric: Metric
    baseline: float | None
    best: Best
    counts: dict[str, int]
    done: int
    kept: list[tuple[int, float]]
    tried: list[tuple[int, float]]
    latest: list[Closed]
    ends: list[str]


class Live(Value):
    """A night now. `state`: at work, ended for a `reason`, killed, or idle where this machine cannot tell; `since` when.

    `left_s` is the time until its hours are over or its clock time has come, `eta_s` what its experiments will take at their
    pace; `stop`, `usd`, `workers` and `slots` are those of the latest session. `told` is what a night at work published itself.
    """

    tag: str
    running: bool
    state: Literal["running", "ended", "killed", "idle"]
    since: str
    reason: str
    now: list[Work]
    workers: int
    slots: int
    stop: Stop | None
    usd: float | None
    left_s: float | None
    eta_s: float | None
    summary: str
    history: History
    told: Status | None = Field(None, exclude=True)
