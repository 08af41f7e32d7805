"""What lives on this machine and can be lost: worktrees, logs, the view repository, the current status.

Everything that matters is in git; this folder is `$XDG_STATE_HOME/harness/<repository>`, closed to other users.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import git, orphans, trees
from harness.folders import base, replace
from harness.models import Stop, Value

MEASURE = ".measure"  # in the place of a tag: a run without a night, by the id of its process; no tag begins with a dot


class Activity(Value):
    """One agent or one run at work. `left_s` and `loss` come from the referee and may be missing.

    `share` is how much of the time that the phase has is over, `curve` the losses so far as (share of that time, loss).
    """

    experiment: str
    phase: str
    agent: str = ""
    elapsed_s: float
    left_s: float | None = None
    loss: float | None = None
    share: float | None = None
    curve: list[tuple[float, float]] = []


class Status(Value):
    """What a night is doing now; `usd` is what its agents' models have cost so far.

    `began` and `updated` are times with their zone; `stop` is when it ends by itself. `ended` says why it is over: a night that
    was killed could not say so any more.
    """

    pid: int
    tag: str
    activities: list[Activity] = []
    usd: float | None = None
    began: str = ""
    updated: str = ""
    workers: int = 1
    slots: int = 1
    stop: Stop | None = None
    ended: str = ""


@dataclass(frozen=True)
class Left:
    """What a run leaves here: the values of single items, what it made (artefacts.py) and what it compiled (caches.py)."""

    items: Path
    artefacts: Path
    caches: Path | None


class StateFolder:
    """The folder of one repository."""

    def __init__(self, repo: git.Repo) -> None:
        """Make the folder when it is not there."""
        self.path = place(repo)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.mirror = self.path / "mirror.git"
        self.repo = repo

    def worktree(self, tag: str, experiment: str) -> Path:
        """Where the worktree of a proposal is made."""
        return self.path / "worktrees" / tag / experiment

    def shelves(self, tag: str) -> Path:
        """Where what agents may read of experiments lies between two proposals, a folder for each worker; see shelf.py."""
        return self.path / "shelves" / tag

    def run(self, tag: str, name: str) -> Path:
        """The folder of one run, empty."""
        path = self.path / "runs" / tag / name
        trees.remove(path)
        path.mkdir(parents=True)
        return path

    def home(self, tag: str, who: str) -> Path:
        """The private HOME of an agent in a worker's slot, as its last proposal left it; see sessions.py."""
        return self.path / "homes" / tag / who

    def session(self, tag: str, who: str) -> Path:
        """Where the id of the session is noted that the next proposal of an agent in a worker's slot goes on with."""
        return self.path / "sessions" / tag / who

    def log(self, tag: str, experiment: str) -> Path:
        """The transcript of a proposal."""
        return self.path / "logs" / tag / f"{experiment}.log"

    def trusted(self, repo: git.Repo, commit: str, tag: str) -> Path:
        """The files of the lab's first commit, exported once: what referees run from."""
        target = self.path / "trusted" / commit
        if not target.exists():
            partial = target.with_name(f"{commit}.{tag}")
            trees.remove(partial)
            partial.mkdir(parents=True)
            git.export(repo, commit, partial)
            with suppress(FileExistsError, OSError):  # another tag's harness was quicker
                partial.rename(target)
        return target

    def items(self, tag: str, experiment: str) -> Path:
        """Where the value of each item in an experiment's latest run is kept; it may be missing at any time."""
        folder = self.secret / tag
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / f"{experiment}.npy"

    def forget_items(self, tag: str, but: set[str]) -> None:
        """Remove the items of all experiments of a tag but some."""
        kept = {self.items(tag, experiment) for experiment in but}
        for path in (self.secret / tag).iterdir():
            if path not in kept:
                path.unlink(missing_ok=True)

    def left(self, tag: str, experiment: str, closed: bool = False) -> Left:
        """Where what an experiment's latest run left is kept; it may be missing at any time.

        What a run compiled waits for a verdict; of an experiment that is closed it is not kept.
        """
        compiled = None if closed else self.compiled(tag, experiment)
        return Left(self.items(tag, experiment), self.models / tag / experiment, compiled)

    def compiled(self, tag: str, experiment: str) -> Path:
        """Where what an experiment's latest run compiled waits for the verdict."""
        return self.caches / "taken" / tag / experiment

    @property
    def caches(self) -> Path:
        """The folder of compiled code: a master by its key, and what was taken from runs that have no verdict yet."""
        return self.path / "caches"

    @property
    def models(self) -> Path:
        """The folder that no sandbox may ever show either: a run that begins with a trained model is ahead of its time."""
        return self.path / "artefacts"

    @property
    def secret(self) -> Path:
        """The folder that no sandbox may ever show: values of single validation items lie in it."""
        return self.path / "items"

    def clear(self, tag: str) -> None:
        """Remove what a harness that died left of this tag; only the holder of the lock may."""
        folders = (self.path / "worktrees" / tag, self.path / "runs" / tag, self.shelves(tag))
        orphans.end(folders)
        for path in (*folders, *self.path.glob(f"trusted/*.{tag}")):
            trees.remove(path)
        partial = [path for folder in ("status", "settings") for path in (self.path / folder).glob(f"{tag}.*partial")]
        for path in (*partial, *self.path.glob(f"gateway/{tag}/*.sock")):
            path.unlink(missing_ok=True)
        self.hush(tag)

    def tell(self, status: Status) -> None:
        """Publish what is going on, for `harness status`."""
        replace(self._status(status.tag), status.model_dump_json())

    def hush(self, tag: str) -> None:
        """Nothing is going on any more."""
        self._status(tag).unlink(missing_ok=True)

    def settings(self, tag: str) -> Path:
        """Where the options of a night are kept, for `harness resume`."""
        return self.path / "settings" / f"{tag}.json"

    def _status(self, tag: str) -> Path:
        return status_file(self.repo, tag)


def place(repo: git.Repo) -> Path:
    """Where the folder of a repository lies, whether it is there or not: one for all its work trees, as they share nights."""
    shared = git.common(repo).resolve()
    top = shared.parent if shared.name == ".git" else shared
    return base() / f"{top.name}-{hashlib.sha256(str(top).encode()).hexdigest()[:8]}"


def status_file(repo: git.Repo, tag: str) -> Path:
    """Where a night publishes its status."""
    return place(repo) / "status" / f"{tag}.json"


def status_of(repo: git.Repo, tag: str) -> Status | None:
    """What a night last published, alive or not; None when this machine knows nothing of one. Nothing is written."""
    with suppress(OSError, ValueError):
        return Status.model_validate_json(status_file(repo, tag).read_text())
    return None


def progress_of(path: Path) -> dict[str, object]:
    """What a referee last wrote of its progress; empty when there is nothing readable."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) else {}
    return {}
