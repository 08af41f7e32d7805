"""Refs: what is named. Every change is a compare-and-swap of one ref, patient with whoever holds its lock for a moment."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.git import Commit, GitError, Repo, common, ensure
from harness.models import UserError

RELEASED = 3
LOCK_WAIT_S = 5.0  # `git gc` holds the lock of packed-refs for moments; a lock that stays belongs to a process that died
FRESH_NS = 2_000_000_000  # a folder that changed so lately may have changed again within the tick of its clock


class RefMoved(UserError):
    """Somebody else moved a ref between our reading and our writing it."""

    def __init__(self, ref: str) -> None:
        super().__init__(
            f"{ref} was moved by somebody else while the harness worked with it: "
            f"see what moved it with `git reflog {ref}`, put it back if it was a mistake, then run `harness resume`"
        )


def checked_out(repo: Repo, ref: str) -> bool:
    """Whether some work tree of the repository has `ref` checked out."""
    heads = [common(repo) / "HEAD", *(common(repo) / "worktrees").glob("*/HEAD")]
    return any(head.exists() and head.read_text().strip() == f"ref: {ref}" for head in heads)


def resolve(repo: Repo, ref: str) -> str | None:
    """The commit that `ref` points at, or None."""
    try:
        return str(repo.references[ref].peel(Commit).id)
    except KeyError:
        return None


def below(repo: Repo, *prefixes: str) -> dict[str, str]:
    """Every ref below any of `prefixes`, sorted, with the id it points at."""
    found = {ref.name: str(ref.target) for ref in repo.references.iterator() if ref.name.startswith(prefixes)}
    return dict(sorted(found.items()))


class Glance:
    """Whether refs may have moved since they were read, by when their folders changed: it costs the same with ten thousand."""

    def __init__(self, repo: Repo, *folders: str) -> None:
        """Folders from `refs/` on; an asterisk stands for any name."""
        self._root, self._folders = common(repo), ("packed-refs", *folders)
        self._found: list[tuple[str, int, int, int]] = []
        self._read: list[tuple[str, int, int, int]] | None = None
        self._again = 0

    def moved(self) -> bool:
        """Whether to read them; once more, too, when the tick of the clock is over in which they changed last."""
        paths = [
            path for name in self._folders for path in (sorted(self._root.glob(name)) if "*" in name else [self._root / name])
        ]
        self._found = [(str(path), *_stat(path)) for path in paths]
        return self._found != self._read or 0 < self._again <= time.time_ns()

    def settle(self) -> None:
        """They have been read as they were at the last `moved`, or later."""
        calm = max(changed for _, _, changed, _ in self._found) + FRESH_NS
        self._read, self._again = self._found, calm if calm > time.time_ns() else 0


def _stat(path: Path) -> tuple[int, int, int]:
    """What changes when a file or the entries of a folder do; zeros where there is none."""
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return 0, 0, 0


def swap(repo: Repo, ref: str, new: str, old: str | None) -> None:
    """Move `ref` from `old` to `new`; None creates it. RefMoved when it is not at `old` any more."""
    ensure(repo)
    try:
        if old is None:
            with _creating(repo):
                _patiently(lambda: repo.references.create(ref, new))
        else:
            reference = repo.references[ref]
            if str(reference.target) != old:
                raise RefMoved(ref)
            _patiently(lambda: reference.set_target(new))
    except (KeyError, ValueError) as error:
        raise RefMoved(ref) from error


@contextmanager
def _creating(repo: Repo) -> Iterator[None]:
    """Create a ref while no other harness does: libgit2 looks whether there is one before it takes the ref's lock, not under it,
    so of two that create the same ref at once the second would take the place of the first.
    """
    folder = common(repo) / "harness"
    folder.mkdir(exist_ok=True)
    with (folder / "creating").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def delete(repo: Repo, ref: str, old: str | None = None) -> None:
    """Delete `ref`; harmless when it is gone, or when it is not at `old` any more."""
    with suppress(KeyError):
        _patiently(lambda: _drop(repo, ref, old), lambda: _drop(Repo(repo.path), ref, old))


def _drop(repo: Repo, ref: str, old: str | None) -> None:
    reference = repo.references[ref]
    if old is None or str(reference.target) == old:
        reference.delete()  # libgit2 compares once more, under the ref's lock


def _patiently(change: Callable[[], object], again: Callable[[], object] | None = None) -> None:
    """Make a change of a ref, waiting for another process that holds its lock.

    `again` is done instead from the second time on: libgit2 forgets a packed ref that it failed to delete, unless it is
    opened anew.
    """
    end = time.monotonic() + LOCK_WAIT_S
    released = 0
    while True:
        try:
            change()
            return
        except (OSError, GitError) as error:
            lock = re.search(r"'(.+\.lock)'", str(error))
            if not lock or (not Path(lock[1]).exists() and (released := released + 1) > RELEASED):
                raise  # else its holder let go of it just now
            if time.monotonic() > end:
                raise UserError(f"another git process holds {lock[1]}: end it, or delete that file if none runs") from error
            time.sleep(0.02)
            change = again or change
