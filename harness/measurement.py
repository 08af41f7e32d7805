"""What a referee is asked and what it answers: a Request and a Measurement, one JSON document each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.spec import Task
from harness.value import Described, Value

Split = Literal["validation", "test"]
PROGRESS = "progress.json"


class Audit(Described):
    """What a referee checked besides the score."""

    passed: bool
    """Whether the score counts."""
    summary: str
    """What was found, as agents and merge messages may say it."""
    figures: dict[str, float] = {}
    """The figures behind it, which agents are not shown."""


class Measurement(Described):
    """The metric with its evidence: what a referee writes. Numbers compare where `harness` and `trusted` are the same."""

    version: Literal[1] = 1
    """Of this form."""
    status: Literal["ok", "crash", "invalid", "void", "stopped"]
    """`void`: the infrastructure failed, not the idea. `stopped`: the harness ended a hopeless run; referees do not say so."""
    reason: str = ""
    """Why it is not ok, in a sentence."""
    value: float | None = None
    """The metric."""
    seed: int = 0
    """The seed of the run."""
    split: Split = "validation"
    """What it was scored on."""
    profile: str = ""
    """The profile of the task."""
    sandbox: str = ""
    """What confined the candidate."""
    limits: str = ""
    """Who held it to its limits."""
    seconds: dict[str, float] = {}
    """Wall-clock seconds by phase; a name with a dot is a part of another: "startup.import" of "startup"."""
    cpu_s: float = 0.0
    """CPU seconds of the run."""
    peak_memory_mb: float = 0.0
    """The most memory that one process of the run had, in MiB."""
    figures: dict[str, float] = {}
    """The task's own numbers of the run, which agents are shown."""
    hidden_figures: dict[str, float] = {}
    """The task's own numbers of the evaluation: they may tell of the score, so people see them, never agents."""
    notes: dict[str, str] = {}
    """What the candidate said of itself."""
    curve: list[tuple[int, float]] = []
    """(step, loss) as the candidate logged it; for pictures only."""
    log_tail: str = ""
    """The end of what the candidate printed."""
    referee_tail: str = ""
    """The end of what measured it: it may tell of scores, so it is shown to people, never to agents."""
    audit: Audit | None = None
    """What was checked besides the score."""
    checkpoint: str = ""
    """SHA-256 of what was scored."""
    artefacts: dict[str, str] = {}
    """SHA-256 of each file that the run left for `harness export`, by its name."""
    hardware: dict[str, str] = {}
    """What it ran on."""
    versions: dict[str, str] = {}
    """Of the interpreter, the libraries and the data."""
    commit: str = ""
    """What was run."""
    harness: str = ""
    """The version of the harness."""
    trusted: str = ""
    """Hashes of what measured: the frozen files, the terms of the task, and programs outside the repository."""

    @property
    def phases(self) -> dict[str, float]:
        """Wall-clock seconds by phase, without parts of phases, and without what a referee calls "total"."""
        return {name: seconds for name, seconds in self.seconds.items() if name != "total" and "." not in name}

    def facts(self) -> Measurement:
        """The measurement without curve and logs, which are kept beside the record: ten thousand have to fit into memory."""
        return self.model_copy(update={"curve": [], "log_tail": "", "referee_tail": ""})

    def texts(self, run: str) -> dict[str, str]:
        """Logs and curve by the names that they have beside a record, with the number of the run in them."""
        curve = "".join(f"{step}\t{loss:.5f}\n" for step, loss in self.curve)
        return {f"train-{run}.log": self.log_tail, f"referee-{run}.log": self.referee_tail, f"curve-{run}.tsv": curve}


class Against(Value):
    """What a referee may compare a run with: the baseline's runs, and a file of the incumbent's value of each item."""

    baseline: list[Measurement] = []
    items: Path | None = None


class Place(Value):
    """Where a run is made: on which GPUs, by uuid or number, and on which cores of the CPU; empty for all that there are."""

    gpus: list[str] = []
    cpus: list[int] = []


class Request(Value):
    """What a referee is asked: measure the tree at `tree` once. `work` is the run's own directory, for logs and results.

    Sandboxes may read the task's `inputs`, which are absolute here, and what its interpreter needs: both are in `readable`.
    `hidden` wins over everything. `caches` is the master of the task's caches (caches.py); it may be missing. `split` is "test"
    only for what agents never learn of: certificates and promotions. A run that has needed `cpu_s` CPU seconds is invalid
    whatever it comes to, and can be ended there.
    """

    task: Task
    tree: Path
    work: Path
    commit: str
    seed: int
    sandbox: str
    split: Split = "validation"
    against: Against = Against()
    place: Place = Place()
    hidden: list[Path] = []
    readable: list[Path] = []
    caches: Path | None = None
    cpu_s: float | None = None

    @property
    def result(self) -> Path:
        """Where the referee writes its one Measurement."""
        return self.work / "measurement.json"

    @property
    def progress(self) -> Path:
        """Where the referee may write what is going on: {"phase": str, "left_s": float, "loss": float, "tokens": int}.

        `tokens` is the data that a run with a budget in seconds has seen by now, in the unit of the figure of that name.
        """
        return self.work / PROGRESS

    @property
    def items(self) -> Path:
        """Where the referee may leave the metric's value of each item, float32 [N], as .npy: the next one's `against`."""
        return self.work / "items.npy"

    @property
    def artefacts(self) -> Path:
        """The folder in which the referee may leave what the run made, such as a model: for people, never for other runs."""
        return self.work / "artefacts"

    @property
    def left_caches(self) -> Path:
        """The folder in which the referee may leave what the run compiled: the next master, if its experiment is kept."""
        return self.work / "left-caches"


class Export(Value):
    """What a task's `export` program is asked: to fill the folder `to` with what a run made and what it takes to use that.

    `artefacts` holds what the referee of `measurement` left. `request` is one for the same commit, whose files are at
    `request.tree`; code of them runs in a sandbox only. With a `sample`, a text, it also prints how the model goes on.
    """

    request: Request
    measurement: Measurement
    artefacts: Path
    to: Path
    sample: str | None = None
