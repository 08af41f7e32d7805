"""The values that flow through the engine: Task -> Proposal -> Experiment -> Measurement -> Verdict -> Record.

All of them are frozen and reject unknown fields, so what is written into git today can be trusted when read tomorrow. What users
write is in spec.py and agentspec.py; what referees answer in measurement.py. Units are in the names: `_s` seconds, `_mb` MiB.
"""

from __future__ import annotations

from typing import Literal

from harness.agentspec import AgentSpec as AgentSpec
from harness.agentspec import Kind as Kind
from harness.agentspec import PromptSpec as PromptSpec
from harness.measurement import PROGRESS as PROGRESS
from harness.measurement import Against as Against
from harness.measurement import Audit as Audit
from harness.measurement import Export as Export
from harness.measurement import Measurement as Measurement
from harness.measurement import Place as Place
from harness.measurement import Request as Request
from harness.measurement import Split as Split
from harness.people import Decision as Decision
from harness.people import Review as Review
from harness.people import Wish as Wish
from harness.people import WishKind as WishKind
from harness.spec import Budget as Budget
from harness.spec import Guard as Guard
from harness.spec import Limits as Limits
from harness.spec import Metric as Metric
from harness.spec import Stop as Stop
from harness.spec import Task as Task
from harness.stint import Stint as Stint
from harness.value import Value as Value
from harness.variant import Sibling as Sibling
from harness.variant import Variant as Variant

Status = Literal["keep", "discard", "crash", "invalid", "void"]
State = Literal["proposing", "measuring", "closed"]


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
    """What became of an experiment, why in a sentence, and the figures behind it, in the metric's unit.

    `gain`, with standard deviation `gain_sd`, is what is believed of the true gain, `probability` that it is real; `observed` is
    the measured difference, `error` its standard error. `value`, with `value_sd`, is what is believed of the candidate's true
    value, which the next has to beat. `sigma`: the noise of one run then; `runs`: how many it rests on. `simpler`: for less code.
    """

    status: Status
    reason: str
    gain: float | None = None
    gain_sd: float | None = None
    probability: float | None = None
    observed: float | None = None
    error: float | None = None
    sigma: float | None = None
    value: float | None = None
    value_sd: float | None = None
    runs: int = 0
    simpler: bool = False


class Try(Value):
    """One earlier attempt at a proposal, and why the agent was asked again.

    With a `verdict` it had become a candidate that failed: `tree` is its tree, `branch` the branch that it had, `files` what it
    changed as in Proposal, and `base` the incumbent that it was made on. Where the next attempt had another one, the candidate
    could not be joined with what was merged meanwhile.
    """

    outcome: Outcome
    seconds: float
    verdict: Verdict | None = None
    base: str | None = None
    commit: str | None = None
    tree: str | None = None
    branch: str | None = None
    files: dict[str, str | None] = {}


class Proposal(Value):
    """What an agent returned. `files` maps the changed paths to git blob ids, None where a file was deleted.

    `added` counts tokens of code, without comments; negative where the change removes some. `network`: how the agent reached
    its LLM provider, through the `gateway` or, weaker, past it as `provider`; empty for one that has none. `reverts`: the
    experiment whose merge this takes back; `only_measured`: to know what that one is still worth, and not to be merged.
    """

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
    network: Literal["", "gateway", "provider"] = ""
    added: int = 0
    reverts: str = ""
    only_measured: bool = False


class Nudge(Value):
    """What an agent was asked for when nothing had been kept for a while, and the experiments that it was pointed to.

    `restart`: its change is made on the code of an earlier incumbent. `nothing`: as always, to compare the others with.
    """

    kind: Literal["combine", "bolder", "restart", "nothing"]
    of: list[str] = []


class Experiment(Value):
    """The identity of one experiment; `base` is the incumbent's commit that the proposal started from.

    When something else was merged meanwhile, `joined` is the merge of the candidate with `onto`, the incumbent's later commit.
    Without `joined`, it is compared with `onto` as it is: it would take the place of what was merged since `base`.
    """

    id: str
    tag: str
    agent: str
    base: str
    commit: str | None = None
    tree: str | None = None
    branch: str | None = None
    onto: str | None = None
    joined: str | None = None


class Record(Value):
    """Everything known of one experiment; one commit below refs/experiments/<tag>/<id> for each state it was in.

    Long texts (prompt, transcript, training logs, curves) lie beside it in that commit. `merge` counts those that were merged,
    in the order of their merges. `revived`: a person asked for the branch of a closed experiment again, so it is not ours to
    delete. `wish`: what of a person's it tries; `nudge`: what else its agent was asked for. `review`: it is, or was, for a person
    to decide whether it is merged. `again_of`: the accepted experiment whose change this is, on top of what was merged since.
    `variant`: which of its proposal's variants it is; `variants`: others that its agent left. `stints`: when it was worked on.
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
    merge: int | None = None
    revived: bool = False
    wish: Wish | None = None
    nudge: Nudge | None = None
    review: Review | None = None
    again_of: str | None = None
    variant: Sibling | None = None
    variants: list[Variant] = []
    stints: list[Stint] = []

    @property
    def submitted(self) -> bool:
        """Whether a person made the change, not an agent."""
        return self.wish is not None and self.wish.kind == "submission"

    @property
    def of_an_agent(self) -> bool:
        """Whether an agent made the change for this experiment, so that it may be sent back to one."""
        return self.proposal is not None and not (self.submitted or self.again_of or self.proposal.reverts)

    @property
    def id(self) -> str:
        """The experiment's number within its tag, zero-padded; "0000" is the baseline."""
        return self.experiment.id

    @property
    def judged(self) -> str | None:
        """The commit that the verdict is about, and whose tree is merged: the candidate's, or the merge that it was joined by."""
        return self.experiment.joined or self.experiment.commit

    @property
    def ground(self) -> str:
        """The incumbent's commit that the judged one is compared with."""
        return self.experiment.onto or self.experiment.base

    @property
    def runs(self) -> list[Measurement]:
        """The measurements of the judged commit; others were made of a candidate before it was joined with a later incumbent."""
        return [run for run in self.measurements if run.commit in ("", self.judged)]

    @property
    def status(self) -> str:
        """In one word: open, waiting for a person, rejected by one, accepted and measured again, or the verdict's."""
        ended = self.review or self.verdict
        return ended.status if ended else "open"

    @property
    def merged(self) -> bool:
        """Whether it is part of the lab branch, or the baseline."""
        return self.status == "keep"

    @property
    def values(self) -> list[float]:
        """The metric of every run that counts."""
        return [m.value for m in self.runs if m.status == "ok" and m.value is not None]

    @property
    def value(self) -> float | None:
        """What is believed of a kept experiment's true value, so that a lucky run flatters nobody; else the mean of `values`."""
        if self.verdict and self.verdict.status == "keep" and self.verdict.value is not None:
            return self.verdict.value
        return sum(values) / len(values) if (values := self.values) else None
