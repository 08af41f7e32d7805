"""Folders in which a run remembers what it compiled: private to each sandbox, begun from a copy of the harness's own.

The harness's own, the *master*, belongs to one set of trusted files, one kind of machine and one set of libraries. A cache
that candidates could write would be a way to talk to the next run. So a run gets a copy, and the master is replaced by a
run's copy only when that run's experiment was kept, after the verdict: what another candidate wrote reaches nobody. A
referee with a clock takes the copy before it shows any data (`take`), so that not even a kept run can put knowledge into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import gpus, trees
from harness.models import Request, Task

MASTER_BYTES, FILES, DEEPEST = 512 << 20, 20_000, 8
FICLONE = 0x40049409  # of linux/fs.h: share the blocks of another file, where the file system can
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Private:
    """The caches of one sandbox: a folder for each variable of the task's `caches`, and what lay in them at first."""

    folder: Path
    names: tuple[str, ...]
    given: frozenset[str]

    @property
    def env(self) -> dict[str, str]:
        """The variables that lead to them."""
        return {name: str(self.folder / name) for name in self.names}

    @property
    def writable(self) -> tuple[Path, ...]:
        """What the sandbox may write to."""
        return tuple(self.folder / name for name in self.names)

    def new(self) -> int:
        """How many files were added."""
        return len([name for name in files(self.folder) if name not in self.given])


def private(request: Request, name: str, source: Path | None = None) -> Private:
    """Caches of one sandbox of a run, filled from `source` or else from the master, which may be missing."""
    folder, source = request.work / "caches" / name, source or request.caches
    trees.remove(folder)
    if source and request.task.caches:
        copy(source, folder)
    for each in request.task.caches:
        (folder / each).mkdir(parents=True, exist_ok=True)
    return Private(folder, tuple(request.task.caches), frozenset(files(folder)))


def take(request: Request, caches: Private) -> None:
    """Copy what a sandbox has in its caches now, also while it works, for the master; nothing when it is too much."""
    trees.remove(request.left_caches)
    if request.task.caches and not copy(caches.folder, request.left_caches):
        trees.remove(request.left_caches)


def fill(master: Path, taken: Path) -> None:
    """Put what was taken from a kept experiment's run in the place of the master."""
    if not taken.is_dir():
        return
    old = master.with_name(f"{master.name}.old")
    trees.remove(old)
    master.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        master.rename(old)
    with suppress(OSError):  # another night was quicker
        taken.rename(master)
    trees.remove(old)


def copy(source: Path, target: Path, most: int = MASTER_BYTES) -> bool:
    """Copy the regular files of a folder that somebody may be changing meanwhile; whether they fit into `most` bytes.

    No link is followed: each folder is opened below the handle of the one above. What vanishes on the way is left out.
    """
    room = [most, FILES]
    target.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        handle = os.open(source, READ | os.O_DIRECTORY)
        try:
            _copy_folder(handle, target, room, DEEPEST)
        finally:
            os.close(handle)
    return min(room) >= 0


def _copy_folder(source: int, target: Path, room: list[int], depth: int) -> None:
    with os.scandir(source) as entries:
        names = [entry.name for entry, _ in zip(entries, range(FILES + 1), strict=False)]
    for name in names:
        with suppress(OSError):
            handle = os.open(name, READ, dir_fd=source)
            try:
                facts = os.fstat(handle)
                if stat.S_ISDIR(facts.st_mode) and depth:
                    (target / name).mkdir(exist_ok=True)
                    _copy_folder(handle, target / name, room, depth - 1)
                elif stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                    room[:] = room[0] - facts.st_size, room[1] - 1
                    if min(room) >= 0:
                        _copy_file(handle, target / name, facts)
            finally:
                os.close(handle)
        if min(room) < 0:
            return


def _copy_file(source: int, target: Path, facts: os.stat_result) -> None:
    """The first `facts.st_size` bytes: sharing blocks where the file system can, never the file itself."""
    with target.open("wb") as file:
        try:
            fcntl.ioctl(file, FICLONE, source)
            file.truncate(facts.st_size)
        except OSError:
            offset = 0
            while offset < facts.st_size and (sent := os.sendfile(file.fileno(), source, offset, facts.st_size - offset)):
                offset += sent
    target.chmod(0o755 if facts.st_mode & 0o111 else 0o644)


def files(folder: Path) -> list[str]:
    """What was compiled: the files with something in them, by their paths in the folder."""
    return [str(Path(path).relative_to(folder)) for path in trees.walk(folder) if _filled(path)]


def _filled(path: str) -> bool:
    with suppress(OSError):
        facts = os.lstat(path)
        return stat.S_ISREG(facts.st_mode) and facts.st_size > 0
    return False


def key(task: Task, trusted: str, sandbox: str) -> str:
    """The name of the master: what is compiled by other files, libraries, machines or without confinement is another's."""
    prefix = Path(task.python).parents[1] if task.python else Path(sys.prefix)
    libraries = sorted(path.name for path in prefix.glob("lib*/python3*/site-packages/*.dist-info"))
    hardware = [platform.machine(), processor(), gpus.models() if gpus.wanted(task) else ""]
    return hashlib.sha256(json.dumps([trusted, sandbox, hardware, sys.version, libraries]).encode()).hexdigest()[:16]


def processor() -> str:
    """The processor's own name where Linux tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
