"""What a process tree and the places it may write to use now: read from /proc, and by walking. Sizes are in bytes.

The tree may be hostile: links are never followed, and nothing that it makes takes long to count.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SCRATCH = ("tmp", "dev/shm")
HELD = ("RssAnon", "VmSwap", "RssShmem")
PSS = ("Pss_Anon", "Pss_Shmem", "SwapPss")
DEEPEST = 200


@dataclass(frozen=True)
class Written:
    """What lies in some places. `deep`: below folders nested so deeply that they were not looked into."""

    files: int = 0
    size: int = 0
    largest: int = 0
    deep: bool = False


@dataclass(frozen=True)
class Scratch:
    """What lies in the tmpfs of a sandbox, and their devices."""

    files: int = 0
    size: int = 0
    devices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Unlinked:
    """Open files without a name: `memory` of anonymous ones, `disk` of deleted ones. `descriptors` counts every open file."""

    memory: int = 0
    disk: int = 0
    descriptors: int = 0


@dataclass
class Tree:
    """A process tree by its first process. `inside`: it has a PID namespace of its own, which that process is the init of.

    `seen_s`: the CPU seconds that it was seen to have used.
    """

    pid: int
    inside: bool
    seen_s: float = 0.0

    def processes(self) -> list[str]:
        """The /proc folder of each process below the first; none before the sandbox is made and after it ended."""
        if self.inside:
            proc = f"/proc/{self.pid}/root/proc"
            with suppress(OSError):
                Path(proc, "self").readlink()  # only in our own /proc: the sandbox is not made yet
                return []
            with suppress(OSError):
                return [f"{proc}/{name}" for name in os.listdir(proc) if name.isdigit() and name != "1"]  # noqa: PTH208
        return [f"/proc/{pid}" for pid in self._descendants()]

    def _descendants(self) -> list[str]:
        found: dict[str, None] = {}
        waiting = [str(self.pid)]
        while waiting:
            pid = waiting.pop()
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
                    for child in _read(f"/proc/{pid}/task/{task}/children").split():
                        if child not in found:
                            found[child] = None
                            waiting.append(child)
        return list(found)

    def cpu_s(self) -> float:
        """CPU seconds that it has used, as far as that is seen while it lives: no more than it has.

        In the end the kernel tells those of processes that others have waited for. What had to be killed is not among them.
        """
        found = min(self._cpu_s(), self._cpu_s())  # a child that ends between two files of one look is counted twice
        self.seen_s = max(self.seen_s, found)
        return self.seen_s

    def _cpu_s(self) -> float:
        ticks = 0
        for each in (f"/proc/{self.pid}", *self.processes()):
            with suppress(OSError, ValueError):
                ticks += sum(map(int, _read(f"{each}/stat").rpartition(")")[2].split()[11:15]))  # with those of dead children
        return ticks / os.sysconf("SC_CLK_TCK")

    def scratch(self) -> Scratch:
        """What lies in the sandbox's own tmpfs, which the kernel counts."""
        files = size = 0
        devices = []
        for name in SCRATCH if self.inside else ():
            with suppress(OSError):
                place = f"/proc/{self.pid}/root/{name}"
                device = os.stat(place).st_dev  # noqa: PTH116
                if device != os.stat(f"/{name}").st_dev:  # noqa: PTH116
                    told = os.statvfs(place)
                    files += told.f_files - told.f_ffree - 1
                    size += (told.f_blocks - told.f_bfree) * told.f_frsize
                    devices.append(device)
        return Scratch(files, size, tuple(devices))


def threads(processes: Iterable[str]) -> int:
    """How many processes there are, each thread counted, as the kernel's own limits do."""
    return sum(_numbers(f"{each}/status", ("Threads",)).get("Threads", 0) for each in processes)


def memory(processes: list[str], held: int, limit: int) -> int:
    """Memory of the processes together; exact only above `limit`, since shared pages take long to attribute.

    `held` is what tmpfs and memfds hold, mapped or not. Files that are mapped do not count: the kernel can drop those pages.
    """
    found = [_numbers(f"{each}/status", HELD) for each in processes]
    private = sum(each.get("RssAnon", 0) + each.get("VmSwap", 0) for each in found)
    rough = private + max(held, sum(each.get("RssShmem", 0) for each in found))
    if rough <= limit:
        return rough
    private = shared = 0
    for each in processes:
        exact = _numbers(f"{each}/smaps_rollup", PSS)
        known = {} if exact else _numbers(f"{each}/status", HELD)  # again: one that has ended meanwhile holds nothing
        private += exact.get("Pss_Anon", known.get("RssAnon", 0)) + exact.get("SwapPss", known.get("VmSwap", 0))
        shared += exact.get("Pss_Shmem", known.get("RssShmem", 0))
    return private + max(held, shared)


def unlinked(processes: Iterable[str], counted: tuple[int, ...], most: int) -> Unlinked:
    """Open files that no folder shows, each counted once, but for those on `counted` devices; stops behind `most` descriptors."""
    sizes: dict[tuple[int, int], int] = {}
    descriptors = 0
    for each in processes:
        with suppress(OSError):
            for name in os.listdir(f"{each}/fd"):  # noqa: PTH208
                descriptors += 1
                if descriptors > most:
                    break
                with suppress(OSError):
                    told = os.stat(f"{each}/fd/{name}")  # noqa: PTH116
                    if stat.S_ISREG(told.st_mode) and not told.st_nlink and told.st_dev not in counted:
                        sizes[told.st_dev, told.st_ino] = told.st_blocks * 512
    anonymous = {key: size for key, size in sizes.items() if key[0] == _memfd_device()}
    return Unlinked(sum(anonymous.values()), sum(sizes.values()) - sum(anonymous.values()), descriptors)


def written(places: Iterable[Path], most: int) -> Written:
    """Files and folders in some places and below; stops behind `most` of them."""
    files = size = largest = 0
    deep = False
    for told in _walk(places):
        if told is None:
            deep = True
            continue
        files, size = files + 1, size + told.st_blocks * 512
        if stat.S_ISREG(told.st_mode):
            largest = max(largest, told.st_size)
        if files > most:
            break
    return Written(files, size, largest, deep)


def _walk(places: Iterable[Path]) -> Iterator[os.stat_result | None]:
    """The status of each entry; None for a folder that is too deep."""
    waiting = [(str(place), 0) for place in places]
    for place, _ in waiting:
        with suppress(OSError):
            yield os.lstat(place)
    while waiting:
        folder, depth = waiting.pop()
        if depth > DEEPEST:
            yield None
            continue
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(OSError):
                        yield entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((entry.path, depth + 1))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                yield None


@cache
def _memfd_device() -> int:
    handle = os.memfd_create("harness")
    try:
        return os.fstat(handle).st_dev
    finally:
        os.close(handle)


def _numbers(path: str, names: tuple[str, ...]) -> dict[str, int]:
    """Numbers of a /proc file of "Name:  1 kB" lines; empty when the process is gone or not ours to look into."""
    found = {}
    with suppress(OSError, ValueError):
        for line in _read(path).splitlines():
            name, _, rest = line.partition(":")
            if name in names:
                value = rest.split()
                found[name] = int(value[0]) << (10 if value[1:] == ["kB"] else 0)
    return found


def _read(path: str) -> str:
    handle = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(handle, 65536), b"")).decode("utf-8", "replace")
    finally:
        os.close(handle)


def init_of(info_read: int) -> tuple[int, int] | None:
    """The pid of the namespace's init from bubblewrap's report and a pidfd of it, or None if it ended before it made one."""
    text = b""
    while chunk := os.read(info_read, 4096):
        text += chunk
    try:
        pid = int(json.loads(text)["child-pid"])
        return pid, os.pidfd_open(pid)
    except (ValueError, KeyError, ProcessLookupError):
        return None
