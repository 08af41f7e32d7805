"""What lives on this machine and can be lost: worktrees, logs, the view repository, locks, the current status.

Everything that matters is in git; this folder is `$XDG_STATE_HOME/harness/<repository>`, closed to other users.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import git
from harness.models import UserError, Value


class Status(Value):
    """What a night is doing now. `left_s` and `loss` come from the referee and may be missing."""

    pid: int
    tag: str
    experiment: str
    phase: str
    agent: str = ""
    started: float
    left_s: float | None = None
    loss: float | None = None


class StateFolder:
    """The folder of one repository."""

    def __init__(self, repo: git.Repo) -> None:
        """Make the folder when it is not there."""
        top = git.root(repo)
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "harness"
        self.path = base / f"{top.name}-{hashlib.sha256(str(top).encode()).hexdigest()[:8]}"
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.view = self.path / "view.git"

    def worktree(self, tag: str, experiment: str) -> Path:
        """Where the worktree of a proposal is made."""
        return self.path / "worktrees" / f"{tag}-{experiment}"

    def run(self, tag: str, experiment: str, number: int) -> Path:
        """The folder of one run, empty."""
        path = self.path / "runs" / tag / f"{experiment}-{number}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def home(self, tag: str, agent: str) -> Path:
        """An agent's private HOME, empty: a link that an earlier proposal left could lead our own writing anywhere."""
        path = self.path / "homes" / f"{tag}-{agent}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def log(self, tag: str, experiment: str) -> Path:
        """The transcript of a proposal."""
        return self.path / "logs" / tag / f"{experiment}.log"

    def trusted(self, repo: git.Repo, commit: str) -> Path:
        """The files of the lab's first commit, exported once: what referees run from."""
        target = self.path / "trusted" / commit
        if not target.exists():
            partial = target.with_name(f"{commit}.{os.getpid()}")
            partial.mkdir(parents=True)
            git.export(repo, commit, partial)
            partial.rename(target)
        return target

    def clear(self, tag: str) -> None:
        """Remove what a harness that died left of this tag; only the holder of the lock may."""
        for path in self.path.glob(f"worktrees/{tag}-*"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.path / "runs" / tag, ignore_errors=True)
        self._status(tag).unlink(missing_ok=True)

    @contextmanager
    def lock(self, tag: str) -> Iterator[None]:
        """One harness for each tag. The lock dies with its holder, so a killed night never blocks the next."""
        path = self.path / f"{tag}.lock"
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another harness is at work on {tag!r}: wait for it, or choose another --tag") from None
            yield

    def running(self, tag: str) -> bool:
        """Whether a living harness holds the lock."""
        try:
            with self.lock(tag):
                return False
        except UserError:
            return True

    def tell(self, status: Status) -> None:
        """Publish what is going on, for `harness status`."""
        path = self._status(status.tag)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(status.model_dump_json())
        partial.replace(path)

    def told(self, tag: str) -> Status | None:
        """What a night last published; None when none is at work."""
        with suppress(OSError, ValueError):
            return Status.model_validate_json(self._status(tag).read_text()) if self.running(tag) else None
        return None

    def tags(self) -> list[str]:
        """Tags that were worked on from this machine, the latest last."""
        return [path.stem for path in sorted(self.path.glob("*.lock"), key=lambda path: path.stat().st_mtime)]

    def _status(self, tag: str) -> Path:
        return self.path / "status" / f"{tag}.json"


def progress_of(path: Path) -> dict[str, object]:
    """What a referee last wrote of its progress; empty when there is nothing readable."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) else {}
    return {}
