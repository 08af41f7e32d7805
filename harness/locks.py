"""One harness for each tag of a repository, and what to do about the locks that the dead leave behind.

The lock of a tag lies in the git directory that it protects, so it holds for every work tree and every state folder. It
is the kernel's: it dies with its holder, and a killed night never blocks the next.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import git
from harness.models import UserError

TRIES, MOMENT_S = 20, 0.05  # whoever asks whether a tag is held, shares its lock for a moment
STALE_S = 0.5


@contextmanager
def hold(repo: git.Repo, tag: str, tries: int = TRIES) -> Iterator[None]:
    """Work on a tag alone; a UserError when another harness does."""
    folder = _folder(repo)
    folder.mkdir(exist_ok=True)
    with (folder / f"{tag}.lock").open("a+") as file:
        for left in reversed(range(tries)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise UserError(f"another harness is at work on {tag!r}: wait for it, or choose another --tag") from None
                time.sleep(MOMENT_S)
        yield


def held(repo: git.Repo, tag: str) -> bool:
    """Whether a living harness works on a tag. Nothing is written, and whoever else asks at this moment is not taken for one.

    The file is opened to be read, and locked together with all others who only ask, for as long as that call takes: a harness
    that begins at that very moment tries again.
    """
    try:
        with (_folder(repo) / f"{tag}.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def tags(repo: git.Repo) -> list[str]:
    """The tags that were ever worked on, the latest last."""
    return [path.stem for path in sorted(_folder(repo).glob("*.lock"), key=lambda path: path.stat().st_mtime)]


def break_stale(repo: git.Repo, patterns: list[str]) -> None:
    """Remove git's own locks of refs that a killed harness held; others hold one for moments. Only for refs of a held tag."""
    if stale := [lock for pattern in patterns for lock in git.common(repo).glob(f"{pattern}.lock")]:
        time.sleep(STALE_S)
        for lock in stale:
            lock.unlink(missing_ok=True)


def _folder(repo: git.Repo) -> Path:
    return git.common(repo) / "harness"
