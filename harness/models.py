"""The values that flow through the engine: Task -> Proposal -> Experiment -> Measurement -> Verdict -> Record.

All of them are frozen and reject unknown fields, so what is written into git today can be trusted when read
tomorrow. Units are in the names: `_s` seconds, `_mb` MiB.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Status = Literal["keep", "discard", "crash", "invalid", "void"]
State = Literal["proposing", "measuring", "closed"]
NonEmpty = Annotated[list[str], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]


class UserError(Exception):
    """The user's mistake, in one plain sentence that names the place and the next step; exit code 1 at the edge."""


class Value(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(Value):
    """What is optimised. `resolution` is what agents may see of it, `noise` the prior standard deviation of one run."""

    name: str
    direction: Literal["minimize", "maximize"] = "minimize"
    resolution: Annotated[float, Field(ge=0)] = 0.0
    noise: Annotated[float, Field(ge=0)] = 0.0

    def gain(self, incumbent: float, candidate: float) -> float:
        """How much better the candidate is, in the metric's unit; positive is better in either direction."""
        return incumbent - candidate if self.direction == "minimize" else candidate - incumbent

    def rounded(self, value: float) -> float:
        """The value as agents and commit messages may show it: a multiple of `resolution`."""
        if not self.resolution:
            return value
        return round(round(value / self.resolution) * self.resolution, 12)

    def shown(self, value: float | None) -> str:
        """`rounded` as text with the decimals that the resolution asks for, or "-" when there is no value."""
        if value is None:
            return "-"
        if not self.resolution:
            return f"{value:.6g}"
        return f"{self.rounded(value):.{max(0, math.ceil(-math.log10(self.resolution)))}f}"


class Budget(Value):
    """What one experiment may cost. A run ends after `run_s` seconds or `run_tokens` units of data, as the task counts them.

    `limit_s` is the wall-clock limit of a run whose budget is not in seconds; `cpu_factor` makes a run invalid that
    needs more than that many times the baseline's CPU seconds.
    """

    propose_s: Positive = 900
    startup_s: Positive = 180
    run_s: Positive | None = 300
    run_tokens: Annotated[int, Field(gt=0)] | None = None
    limit_s: Positive = 600
    evaluate_s: Positive = 300
    grace_s: Positive = 10
    cpu_factor: Positive | None = None


class Stop(Value):
    """When a night ends by itself."""

    experiments: Annotated[int, Field(ge=0)] = 100
    hours: Positive | None = None


class Task(Value):
    """A task.yaml after its profile was applied. Every path is relative to the root of the repository."""

    name: str
    program: str
    editable: NonEmpty
    metric: Metric
    referee: NonEmpty = ["python", "-m", "harness.referee"]
    command: list[str] = []
    outputs: list[str] = []
    evaluate: list[str] = []
    hidden: list[str] = []
    budget: Budget = Budget()
    stop: Stop = Stop()
    profile: str = "default"

    @field_validator("editable", "outputs")
    @classmethod
    def inside_the_repository(cls, paths: list[str]) -> list[str]:
        """Reject absolute paths and `..`: what is bound or harvested must lie in the repository."""
        for path in paths:
            if Path(path).is_absolute() or ".." in Path(path).parts or path in ("", "."):
                raise ValueError(f"{path!r} is not a file below the root of the repository")
        return paths


class PromptSpec(Value):
    """How a CLI takes its prompt: on stdin, as the value of `flag` (or the last argument), or as a file."""

    via: Literal["stdin", "arg", "file"] = "stdin"
    flag: str = ""


class AgentSpec(Value):
    """One entry of agents.yaml. `argv` may use {model} {file} {prompt_file} {home} {seed}; it is never a shell string."""

    name: str
    driver: Literal["exec"] = "exec"
    argv: NonEmpty
    prompt: PromptSpec = PromptSpec()
    model: str = ""
    env: dict[str, str] = {}
    home_files: dict[str, str] = {}
    version_cmd: list[str] = []
    install: str = ""
    ok_exit_codes: list[int] = [0]


class Proposal(Value):
    """What an agent returned. `files` maps editable paths to git blob ids; None where nothing usable came back."""

    title: str
    hypothesis: str = ""
    files: dict[str, str] = {}
    agent_version: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    outcome: Literal["changed", "unchanged", "missing", "refused_file", "timeout", "failed"] = "changed"
    reason: str = ""
    dropped: list[str] = []
    notebook: str = ""
    transcript_tail: str = ""


class Experiment(Value):
    """The identity of one experiment; `base` is the incumbent's commit that the proposal started from."""

    id: str
    tag: str
    agent: str
    base: str
    commit: str | None = None
    branch: str | None = None


class Request(Value):
    """What a referee is asked: measure the tree at `tree` once. `work` is the run's own directory, for logs and results."""

    task: Task
    tree: Path
    work: Path
    commit: str
    seed: int
    sandbox: str
    hidden: list[Path] = []

    @property
    def result(self) -> Path:
        """Where the referee writes its one Measurement."""
        return self.work / "measurement.json"

    @property
    def progress(self) -> Path:
        """Where the referee may write what is going on: {"phase": str, "left_s": float, "loss": float}."""
        return self.work / "progress.json"


class Measurement(Value):
    """The metric with its evidence. `void`: the infrastructure failed, not the idea.

    `curve` is (step, loss) as the candidate logged it and serves pictures only; `figures` are the task's own numbers.
    """

    status: Literal["ok", "crash", "invalid", "void"]
    reason: str = ""
    value: float | None = None
    seed: int = 0
    profile: str = ""
    sandbox: str = ""
    seconds: dict[str, float] = {}
    cpu_s: float = 0.0
    peak_memory_mb: float = 0.0
    figures: dict[str, float] = {}
    notes: dict[str, str] = {}
    curve: list[tuple[int, float]] = []
    log_tail: str = ""
    versions: dict[str, str] = {}
    trusted: str = ""


class Verdict(Value):
    """What became of an experiment, why in a sentence, and the figures behind it."""

    status: Status
    reason: str
    gain: float | None = None
    sigma: float | None = None
    value: float | None = None


class Record(Value):
    """Everything known of one experiment; one commit below refs/experiments/<tag>/<id> for each state it was in."""

    version: Literal[1] = 1
    experiment: Experiment
    state: State
    task: str
    metric: Metric
    profile: str
    sandbox: str
    harness: str
    program: str
    started: str
    updated: str
    proposal: Proposal | None = None
    measurements: list[Measurement] = []
    verdict: Verdict | None = None

    @property
    def id(self) -> str:
        """The experiment's number within its tag, zero-padded; "0000" is the baseline."""
        return self.experiment.id

    @property
    def values(self) -> list[float]:
        """The metric of every run that counts."""
        return [m.value for m in self.measurements if m.status == "ok" and m.value is not None]

    @property
    def value(self) -> float | None:
        """Mean of `values`."""
        return sum(self.values) / len(self.values) if self.values else None
