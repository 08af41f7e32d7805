"""What a user writes in task.yaml, as models; agents.yaml is in agentspec.py, config.yaml in defaults.py.

The docstrings below the fields are their reference; editors show them through docs/schemas/. Names end in units: `_s` seconds.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from harness.value import Natural, NonEmpty, Positive, Written

DEFAULT_REFEREE = ["python", "-m", "harness.referee"]


class Metric(Written):
    """What is optimised."""

    name: str
    """As it is called in tables and commit messages."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Which way is better."""
    resolution: Annotated[float, Field(ge=0)] = 0.0
    """Agents and commit messages see multiples of this; 0 shows everything."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of one run, as a first guess; 0 for a metric that is always the same."""

    def gain(self, incumbent: float, candidate: float) -> float:
        """How much better the candidate is, in the metric's unit; positive is better in either direction."""
        return incumbent - candidate if self.direction == "minimize" else candidate - incumbent

    def rounded(self, value: float) -> float:
        """The value as agents and commit messages may show it: a multiple of `resolution`."""
        if not self.resolution:
            return value
        return round(round(value / self.resolution) * self.resolution, decimals(self.resolution)) + 0.0  # never "-0"

    def shown(self, value: float | None) -> str:
        """`rounded` as text with the decimals that the resolution asks for, or "-" when there is no value."""
        if value is None:
            return "-"
        if not self.resolution:
            return f"{value:.6g}"
        return f"{self.rounded(value):.{decimals(self.resolution)}f}"


@cache
def decimals(resolution: float) -> int:
    """How many decimals a multiple of a resolution has."""
    exponent = Decimal(str(resolution)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


class Budget(Written):
    """What one experiment may cost. A run ends after `run_s` seconds or `run_tokens` units of data."""

    propose_s: Positive = 900
    """Seconds that an agent has for its proposal."""
    propose_usd: Positive | None = None
    """US dollars that an agent may spend at its LLM provider on one experiment."""
    startup_s: Positive = 180
    """Seconds before a run's clock starts, where the referee has such a phase."""
    run_s: Positive | None = 300
    """Seconds of a run; null when it is measured in data instead."""
    run_tokens: Annotated[int, Field(gt=0)] | None = None
    """Units of data that a run gets, as the task counts them; the same on a busy machine as on an idle one."""
    limit_s: Positive = 600
    """Wall-clock seconds after which a run whose budget is not in seconds is ended."""
    check_s: Positive = 60
    """Seconds that the task's `check` may take."""
    evaluate_s: Positive = 300
    """Seconds that the evaluation may take."""
    grace_s: Positive = 10
    """Seconds after the end of its budget in which a run has to end by itself."""
    cpu_factor: Positive | None = None
    """A run that needs more than this many times the baseline's CPU seconds is invalid."""


class Limits(Written):
    """What everything in one sandbox together may use: an agent, a run, an evaluation. 0 removes a limit.

    `editable_kb` and `literal_kb` are limits of the editable files themselves, looked at before anything is run.
    """

    memory_mb: Natural | None = None
    """MiB of memory, temporary files included; by default half of the machine's for agents, four fifths for runs."""
    processes: Natural | None = None
    """Processes at a time, each thread counted; 4096 by default."""
    file_mb: Natural | None = None
    """MiB of a single file; 2048 by default for agents, 8192 for runs."""
    disk_mb: Natural | None = None
    """MiB written, temporary files included; 4096 by default for agents, 16384 for runs."""
    inodes: Natural | None = None
    """Files and folders made, temporary ones included; 200000 by default."""
    open_files: Natural | None = None
    """Files that one process may have open; 4096 by default."""
    peak_memory_factor: Positive | None = None
    """A run that needs more than this many times the baseline's memory is discarded."""
    output_mb: Annotated[int, Field(gt=0)] | None = None
    """MiB of output that are kept in a log; more is read and dropped; 4 by default."""
    editable_kb: Annotated[int, Field(gt=0)] = 64
    """KiB of one editable file as a candidate leaves it."""
    literal_kb: Natural = 8
    """KiB of one literal in Python code, and the measure of all data that it may carry (docs/tasks.md)."""


class Guard(Written):
    """A command that must succeed on a candidate's tree before it is kept, in the sandbox of a check."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
    """What it is called in verdicts."""
    run: NonEmpty
    """What is run; a leading `python` is the interpreter named by `python`. Exit 0, or a last line that says what is wrong."""
    limit_s: Positive = 60
    """Seconds that it may take."""


class Stop(Written):
    """When a night ends by itself."""

    experiments: Annotated[int, Field(ge=0)] = 100
    """After this many experiments in all."""
    hours: Positive | None = None
    """After this many hours."""
    cost_usd: Positive | None = None
    """When agents have spent this many US dollars at their LLM providers, by list prices."""
    plateau: Annotated[int, Field(gt=0)] | None = None
    """When the last so many experiments had none to keep."""
    target: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """When the incumbent's value, as it is believed after all runs, is this good."""
    at: str | None = None
    """When the local clock next shows this time, as in "07:30"."""
    quota_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Use no more than this share of a subscription's quota; the rest is its owner's. The night waits for a new one."""

    @field_validator("at", mode="before")
    @classmethod
    def on_a_clock(cls, at: object) -> object:
        """Reject what no clock shows, and 17:30 without quotes, which YAML takes for a number to the base of 60."""
        if at is not None:
            clock(at if isinstance(at, str) else "")
        return at


def clock(text: str) -> time:
    """The time of day of "07:30"; a ValueError that says how to write one."""
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if not found:
        raise ValueError('write a time of day in quotes, hours and minutes, as in "07:30"')
    return time(int(found[1]), int(found[2]))


def moment(at: str, began: datetime) -> datetime:
    """The next time after `began` (with its zone) that a local clock shows `at`, as in "07:30"."""
    when = clock(at)
    days = (began.date() + timedelta(days=number) for number in range(2))
    shown = (datetime.combine(day, when.replace(fold=fold)).astimezone() for day in days for fold in (0, 1))
    # A clock that is set back shows it twice; one that is set forward may skip it, and is past it a moment later.
    return next(each for each in shown if each > began and each.time() >= when)


class Task(Written):
    """What is optimised and how it is measured. Every path is relative to the root of the repository."""

    name: str
    """What the task is called."""
    program: str
    """The file that tells agents what to do; it is read anew before every proposal."""
    editable: NonEmpty
    """Files that an experiment may change: names, and globs as in .gitignore, below which files may be added and deleted."""
    metric: Metric
    """What is optimised."""
    referee: NonEmpty = DEFAULT_REFEREE
    """The trusted program that measures a candidate; the default runs `command`, then `evaluate`."""
    command: list[str] = []
    """What the default referee runs in the sandbox; a leading `python` is the interpreter named by `python`."""
    test_split: bool = False
    """Whether its referee can also measure on data that nothing else ever looks at: only `harness certify` asks for it."""
    outputs: list[str] = []
    """Files that `command` writes and `evaluate` reads; everything else is read-only to it."""
    evaluate: list[str] = []
    """The trusted program that is given the folder of the outputs and prints {"value": ...} on its last line."""
    starts: dict[str, dict[str, str]] = {}
    """Where `harness run --start NAME` begins: by name, which file of the repository takes the place of which editable one."""
    inputs: list[str] = []
    """Files and folders outside git that sandboxes may read: absolute, from `~`, or relative to the repository's root."""
    papers: str = ""
    """A folder of yours that agents may read as lab/papers/, and no run may: absolute, from `~`, or in the repository."""
    check: list[str] = []
    """A quick trusted test of a candidate before it is run, in the sandbox: exit 0, or a last line that says what is wrong."""
    caches: list[str] = []
    """Variables that name folders for compiled code: each run has its own, begun from what the incumbent's runs compiled."""
    export: list[str] = []
    """A trusted program that makes a folder of what a run left, for `harness export`; without one the files are copied."""
    guards: list[Guard] = []
    """What else has to hold of a candidate before it is kept: each is run once, when its gain is found real."""
    python: str = ""
    """The interpreter of `command`, `evaluate` and `check`, such as .venv/bin/python; the harness's own when left out."""
    hidden: list[str] = []
    """A trusted program that prints the paths that no sandbox may show, one a line."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Agents that propose at the same time. One beside one run slot waits for each result before it proposes again."""
    slots: Annotated[int, Field(ge=1)] = 1
    """Runs at the same time: each has a GPU of its own, or an equal share of the CPU's cores."""
    variants: Annotated[int, Field(ge=0, le=16)] = 4
    """Variants of one idea that an agent may leave at most in one proposal, each an experiment; 0 or 1 for none."""
    judge: Literal["bayes", "greedy"] = "bayes"
    """How verdicts are reached: by the probability that a gain is real, or, for comparison, by the better score."""
    merge: Literal["auto", "review"] = "auto"
    """Whether what is kept is merged at once, or waits on its branch for a person: `harness review`."""
    review_base: Literal["tip", "winner"] = "tip"
    """In review, what the search goes on from: the tip of the lab branch, or the newest winner that waits."""
    budget: Budget = Budget()
    """What one experiment may cost."""
    limits: Limits = Limits()
    """What everything in one sandbox together may use."""
    stop: Stop = Stop()
    """When a night ends by itself."""
    profile: str = "default"
    """The profile that was applied."""

    @field_validator("caches")
    @classmethod
    def variables(cls, names: list[str]) -> list[str]:
        """Reject what cannot be the name of a variable and of a folder."""
        for name in names:
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
                raise ValueError(f"{name!r} is not the name of an environment variable, as TRITON_CACHE_DIR is")
        return names

    @field_validator("editable", "outputs")
    @classmethod
    def inside_the_repository(cls, paths: list[str]) -> list[str]:
        """Reject absolute paths and `..`: what is bound or harvested must lie in the repository."""
        for path in paths:
            if Path(path).is_absolute() or ".." in Path(path).parts or path in ("", "."):
                raise ValueError(f"{path!r} is not a file below the root of the repository")
        return paths
