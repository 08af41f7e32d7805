"""The values that flow through the engine: Task -> Proposal -> Experiment -> Measurement -> Verdict -> Record.

All of them are frozen and reject unknown fields, so what is written into git today can be trusted when read
tomorrow. What a user writes, the task among it, is in spec.py and agentspec.py. Units are in the names: `_s` seconds, `_mb` MiB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.agentspec import AgentSpec as AgentSpec
from harness.agentspec import Kind as Kind
from harness.agentspec import PromptSpec as PromptSpec
from harness.spec import Budget as Budget
from harness.spec import Limits as Limits
from harness.spec import Metric as Metric
from harness.spec import Stop as Stop
from harness.spec import Task as Task
from harness.value import Value as Value

Status = Literal["keep", "discard", "crash", "invalid", "void"]
State = Literal["proposing", "measuring", "closed"]
Split = Literal["validation", "test"]
PROGRESS = "progress.json"


class UserError(Exception):
    """The user's mistake, in one plain sentence that names the place and the next step; exit code 1 at the edge."""


class Usage(Value):
    """What an experiment's agent used at its LLM providers, as the gateway counted it. Tokens as providers bill them.

    `input` is neither read from a cache (`cached`) nor written to one (`written`); `output` includes reasoning. `usd` is by list
    price, None when a model has none. `estimated` requests were cut off before they told their count, `retries` the gateway
    repeated. `first_s` is how long the agent took to its first request.
    """

    requests: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    usd: float | None = 0.0
    estimated: int = 0
    retries: int = 0
    first_s: float | None = None
    models: list[str] = []


class Outcome(Value):
    """How an agent's work ended, in one word and, where it left no change, in a sentence that says why."""

    kind: Literal["changed", "unchanged", "refused_file", "timeout", "budget"] | Kind
    reason: str = ""


class Verdict(Value):
    """What became of an experiment, why in a sentence, and the figures behind it."""

    status: Status
    reason: str
    gain: float | None = None
    sigma: float | None = None
    value: float | None = None


class Try(Value):
    """One earlier attempt at a proposal, and why the agent was asked again.

    With a `verdict` it had become a candidate that failed: `tree` is its tree, `branch` the branch that it had, `files` what it
    changed as in Proposal.
    """

    outcome: Outcome
    seconds: float
    verdict: Verdict | None = None
    commit: str | None = None
    tree: str | None = None
    branch: str | None = None
    files: dict[str, str | None] = {}


class Proposal(Value):
    """What an agent returned. `files` maps the changed paths to git blob ids, None where a file was deleted."""

    title: str
    hypothesis: str = ""
    files: dict[str, str | None] = {}
    agent_version: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    outcome: Outcome = Outcome(kind="changed")
    tries: list[Try] = []
    dropped: list[str] = []
    notebook: str = ""
    usage: Usage | None = None


class Experiment(Value):
    """The identity of one experiment; `base` is the incumbent's commit that the proposal started from."""

    id: str
    tag: str
    agent: str
    base: str
    commit: str | None = None
    tree: str | None = None
    branch: str | None = None


class Audit(Value):
    """What a referee checked besides the score. `summary` is shown to agents and in merge messages; `figures` are not."""

    passed: bool
    summary: str
    figures: dict[str, float] = {}


class Measurement(Value):
    """The metric with its evidence. `void`: the infrastructure failed, not the idea.

    `curve` is (step, loss) as the candidate logged it and serves pictures only; `figures` are the task's own numbers;
    `checkpoint` is the SHA-256 of what was scored; `limits` names who held the run to its limits.
    """

    version: Literal[1] = 1
    status: Literal["ok", "crash", "invalid", "void"]
    reason: str = ""
    value: float | None = None
    seed: int = 0
    profile: str = ""
    sandbox: str = ""
    limits: str = ""
    seconds: dict[str, float] = {}
    cpu_s: float = 0.0
    peak_memory_mb: float = 0.0
    figures: dict[str, float] = {}
    notes: dict[str, str] = {}
    curve: list[tuple[int, float]] = []
    log_tail: str = ""
    audit: Audit | None = None
    checkpoint: str = ""
    hardware: dict[str, str] = {}
    versions: dict[str, str] = {}
    trusted: str = ""

    def facts(self) -> Measurement:
        """The measurement without its curve and log, which are kept beside the record: ten thousand have to fit into memory."""
        return self.model_copy(update={"curve": [], "log_tail": ""})


class Against(Value):
    """What a referee may compare a run with: the baseline's runs, and a file of the incumbent's value of each item."""

    baseline: list[Measurement] = []
    items: Path | None = None


class Request(Value):
    """What a referee is asked: measure the tree at `tree` once. `work` is the run's own directory, for logs and results.

    Sandboxes may read the task's `inputs`, which are absolute here, and what its interpreter needs: both are in `readable`.
    `hidden` wins over everything. `split` is "test" only for what agents never learn of: certificates and promotions.
    """

    task: Task
    tree: Path
    work: Path
    commit: str
    seed: int
    sandbox: str
    split: Split = "validation"
    against: Against = Against()
    hidden: list[Path] = []
    readable: list[Path] = []

    @property
    def result(self) -> Path:
        """Where the referee writes its one Measurement."""
        return self.work / "measurement.json"

    @property
    def progress(self) -> Path:
        """Where the referee may write what is going on: {"phase": str, "left_s": float, "loss": float}."""
        return self.work / PROGRESS

    @property
    def items(self) -> Path:
        """Where the referee may leave the metric's value of each item, float32 [N], as .npy: the next one's `against`."""
        return self.work / "items.npy"


class Record(Value):
    """Everything known of one experiment; one commit below refs/experiments/<tag>/<id> for each state it was in.

    Long texts (prompt, transcript, training logs, curves) lie beside it in that commit. `revived`: a person asked for
    the branch of a closed experiment again, so it is not the harness's to delete.
    """

    version: Literal[2] = 2
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
    revived: bool = False

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
