"""What one sandboxed process tree may use, who holds it to that on this machine, and what is said when it does not.

Three ways, the best one that the machine has: a cgroup, a scope of the user's systemd, or resource limits of each process
and a watchdog that looks four times a second and may therefore be late. Files, folders and bytes written are the
watchdog's in all three.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from harness import groups
from harness.profiles import PROFILES
from harness.profiles import Role as Role
from harness.spec import Limits
from harness.usage import Scratch, Tree, memory, threads, unlinked, written

MIB = 1 << 20
TICK_S = 0.25
WATCHDOG, CGROUP, SYSTEMD = "rlimits and watchdog", "cgroup", "systemd"
SPARE = 16  # at least; beyond what is allowed, so that the watchdog sees who goes over before the kernel refuses
OURS = 2  # bubblewrap itself and the init inside


def settle(wanted: Limits, role: Role) -> Limits:
    """The limits of a sandbox: what the task says, else those of the role's profile on this machine."""
    said = {name: value for name, value in wanted.model_dump().items() if value is not None}
    return Limits(**{**PROFILES[role].limits(machine_mb()), **said})


def rlimits(limits: Limits) -> list[str]:
    """What the kernel limits for each process or user, as options of the init; -1 is no limit."""
    most = limits.processes
    wanted = {"NPROC": most and most + max(SPARE, most // 8), "NOFILE": limits.open_files}
    wanted["FSIZE"] = limits.file_mb and limits.file_mb * MIB + 1  # one byte, by which the watchdog knows who went over
    return [part for name, value in wanted.items() for part in ("--limit", f"{name}={value or -1}")]


class Watchdog:
    """Looks at what a tree uses. It is asked four times a second, and once when the tree is dead."""

    name = WATCHDOG
    prefix: tuple[str, ...] = ()
    env: dict[str, str] = {}

    def __init__(self, limits: Limits, places: tuple[Path, ...]) -> None:
        """`places` are the folders and files outside that the tree may write to; what lies there now is not counted."""
        self.limits, self.places = limits, places
        self._tree: Tree | None = None
        self._before = written(places, 1 << 40)

    def begin(self, pid: int, inside: bool) -> None:
        """The tree lives: its first process on the host, and whether that is the init of a PID namespace."""
        self._tree = Tree(pid, inside)

    def exceeded(self, code: int | None = None) -> str:
        """What the tree did too much of, as the end of a sentence, or nothing. `code` is its exit code when it is dead."""
        tree = self._tree if code is None and self._tree else Tree(0, False)
        processes = tree.processes()
        if crowded := self.crowded(processes):
            return crowded
        scratch, most = tree.scratch(), 16 * (self.limits.open_files or 65536)
        nameless = unlinked(processes, scratch.devices, most)
        if nameless.descriptors > most:
            return f"opened more than {most} files at a time"
        if full := self.full(processes, scratch.size + nameless.memory):
            return full
        large = code in (128 + signal.SIGXFSZ, -signal.SIGXFSZ)
        return self._flooded(scratch, nameless.disk) or (self._large() if large else "")

    def crowded(self, processes: list[str]) -> str:
        """Too many processes; threads count."""
        most = self.limits.processes
        over = most and (len(processes) > most or threads(processes) > most)
        return f"started more than {most} processes" if over else ""

    def full(self, processes: list[str], held: int) -> str:
        """Too much memory; `held` bytes are in temporary files and memfds."""
        limit = (self.limits.memory_mb or 0) * MIB
        return self.no_memory() if limit and memory(processes, held, limit) > limit else ""

    def _flooded(self, scratch: Scratch, nameless: int) -> str:
        """Too much written: files, bytes, or one file too large."""
        limits, before = self.limits, self._before
        now = written(self.places, before.files + (limits.inodes or 1 << 40))
        if limits.inodes and now.files - before.files + scratch.files > limits.inodes:
            return f"made more than {limits.inodes} files"
        if limits.disk_mb and now.size - before.size + scratch.size + nameless > limits.disk_mb * MIB:
            return f"wrote more than {limits.disk_mb} MB"
        if limits.file_mb and now.largest > max(limits.file_mb * MIB, before.largest):
            return self._large()
        return "nested folders too deeply" if now.deep and not before.deep else ""

    def no_memory(self) -> str:
        """The sentence for a tree that is out of memory."""
        return f"exceeded the memory limit of {self.limits.memory_mb} MB"

    def _large(self) -> str:
        return f"wrote more than {self.limits.file_mb} MB into one file"

    def kill(self) -> None:
        """Nothing beyond what `Process` does."""

    def end(self) -> None:
        """Leave nothing behind."""


class Grouped(Watchdog):
    """A watchdog over a tree whose memory and processes the kernel counts, in a cgroup."""

    group: groups.Group
    killed = False

    def begin(self, pid: int, inside: bool) -> None:
        """Also look whether it is in the group already."""
        super().begin(pid, inside)
        self._entered()

    def crowded(self, processes: list[str]) -> str:
        """By the kernel's count of what it refused."""
        if self.group.event("pids.events", "max"):
            return f"started more than {self.limits.processes} processes"
        return "" if self._entered() else super().crowded(processes)

    def full(self, processes: list[str], held: int) -> str:
        """By the kernel's count of what it killed."""
        if self.group.event("memory.events", "oom_kill"):
            return self.no_memory()
        return "" if self._entered() else super().full(processes, held)

    def _entered(self) -> bool:
        """Whether the tree was seen in the group: its start is a moment before that. Until then the watchdog holds it alone."""
        if not self.group.seen and self._tree:
            self.group.look(self._tree.pid)
        self.name = type(self).name if self.group.seen else WATCHDOG
        return self.group.seen

    def kill(self) -> None:
        """Everything at once, however fast it forks."""
        self.killed = True
        if self._entered():
            self.group.kill()


class Cgroup(Grouped):
    """In a cgroup below the harness's own, or below the nearest one above that is ours to write to."""

    name = CGROUP

    def __init__(self, limits: Limits, places: tuple[Path, ...]) -> None:
        """Make the group."""
        super().__init__(limits, places)
        parent = groups.parent()
        assert parent is not None
        self.group = groups.make(parent, (limits.memory_mb or 0) * MIB, limits.processes and limits.processes + OURS)
        self.prefix = ("sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(self.group.path))

    def end(self) -> None:
        """Remove the group."""
        self.group.remove()


class Scope(Grouped):
    """In a scope that the user's systemd makes, and removes when it is empty."""

    name = SYSTEMD

    def __init__(self, limits: Limits, places: tuple[Path, ...]) -> None:
        """Name the scope; systemd-run makes it."""
        super().__init__(limits, places)
        unit = groups.name().replace(".", "-", 1)
        wanted = ["-p", f"MemoryMax={limits.memory_mb}M", "-p", "MemorySwapMax=0"] if limits.memory_mb else []
        wanted += ["-p", f"TasksMax={limits.processes + OURS}"] if limits.processes else []
        made = shlex.join(["systemd-run", "--user", "--scope", "--quiet", "--collect", *wanted])
        clean = shlex.join(["env", *(part for name in (*groups.BUS, "INVOCATION_ID") for part in ("-u", name))])
        # A manager that answers can still be unable to take a process over: then the watchdog alone holds the tree.
        script = f'{made} true 2>/dev/null && exec {made} --unit={unit} {clean} "$@"; exec {clean} "$@"'
        self.prefix = ("sh", "-c", script, "sh")
        self.env = {name: os.environ[name] for name in groups.BUS if name in os.environ}
        self.group = groups.Group(Path(f"{unit}.scope"))

    def exceeded(self, code: int | None = None) -> str:
        """Systemd ends a scope that is out of memory and removes its counters; nobody inside can kill bubblewrap itself."""
        ended = code in (-signal.SIGTERM, -signal.SIGKILL) and not self.killed and self.group.seen
        return super().exceeded(code) or (self.no_memory() if ended and self.limits.memory_mb else "")


KINDS: dict[str, type[Watchdog]] = {CGROUP: Cgroup, SYSTEMD: Scope, WATCHDOG: Watchdog}


@cache
def available() -> tuple[str, ...]:
    """The ways that this machine has, the best first."""
    usable = {CGROUP: groups.parent() is not None, SYSTEMD: groups.user_manager(), WATCHDOG: True}
    return tuple(name for name in KINDS if usable[name])


def described() -> str:
    """How sandboxes are held to their limits here, for people."""
    best = available()[0]
    late = ", which looks four times a second and may be late: no cgroup v2 to write to and no systemd of the user"
    return f"limits held by {best}{late if best == WATCHDOG else ''}"


@contextmanager
def guard(limits: Limits, places: tuple[Path, ...], how: str = "") -> Iterator[Watchdog]:
    """Who holds one tree to its limits, the best way there is or the one named; leaves nothing behind."""
    kinds = (how,) if how else available()
    for name in kinds:
        try:
            found = KINDS[name](limits, places)
            break
        except OSError:  # a cgroup that cannot be made after all: the next best
            if name == kinds[-1]:
                raise
    try:
        yield found
    finally:
        found.end()


def machine_mb() -> int:
    """Memory of the machine, or of the cgroup that holds the harness, in MiB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB
    return min([total, *(limit // MIB for limit in groups.memory_limits())])
