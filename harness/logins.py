"""Logins that agents hold themselves (`network: provider`): a HOME of the harness's own for each, lent to one proposal at a time.

Refresh tokens are often good for one use, so a copy would log its owner out, and two proposals each other. A CLI that renews its
login writes into this HOME, where the next proposal finds it, also after a night that was killed. Whatever else an agent left
there is removed before the next one, so that a proposal begins as fresh as any other.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from harness import trees
from harness.folders import base
from harness.models import AgentSpec, UserError
from harness.protocols import Cancel

LARGEST = 256 << 10  # bytes of a file that is a login's
LOOK_S = 0.25
Parts = tuple[str, ...]


def home(name: str) -> Path:
    """The HOME with an agent's login; it belongs to the user, not to one repository."""
    return base() / "logins" / name


def since(spec: AgentSpec) -> float | None:
    """When a login was last renewed, in seconds since 1970; None when there is none."""
    found = [home(spec.name) / name for name in (spec.login.files if spec.login else [])]
    return max((path.lstat().st_mtime for path in found if os.path.lexists(path)), default=None)


def check(spec: AgentSpec) -> None:
    """A UserError when an agent that needs a login has none."""
    if spec.login and since(spec) is None:
        raise UserError(f"agent {spec.name!r} is not logged in: run `harness agents login {spec.name}`")


@contextmanager
def lent(spec: AgentSpec, cancel: Cancel) -> Iterator[Path | None]:
    """The HOME with an agent's login, for its borrower alone; None when it was cancelled while another one had it."""
    mine = home(spec.name)
    mine.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine.parent.chmod(0o700)
    with mine.with_name(f"{spec.name}.lock").open("a") as lock:
        os.set_inheritable(lock.fileno(), True)  # `harness agents login` becomes the program that logs in
        while not _taken(lock.fileno()):
            if cancel():
                yield None
                return
            time.sleep(LOOK_S)
        with trees.opened(str(mine)) as folder:
            _prune(folder, {PurePosixPath(name).parts for name in (spec.login.files if spec.login else [])})
        yield mine


@contextmanager
def home_of(spec: AgentSpec, usual: Path, cancel: Cancel) -> Iterator[Path | None]:
    """The HOME of a proposal: the `usual` one, or the one with its agent's login, as `lent`."""
    if spec.login is None:
        yield usual
        return
    with lent(spec, cancel) as found:
        yield found


def _taken(lock: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _prune(folder: int, kept: set[Parts]) -> None:
    """Remove from a folder what is not `kept`, and what only pretends to be: a link, a second name, a flood."""
    for name in os.listdir(folder):
        below = {parts[1:] for parts in kept if parts[0] == name}
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        plain = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_size <= LARGEST
        if () in below and plain:
            continue
        if below - {()} and stat.S_ISDIR(facts.st_mode):
            with trees.opened(name, folder) as inner:
                _prune(inner, below - {()})
            continue
        trees.remove(Path(f"/proc/self/fd/{folder}/{name}"))
