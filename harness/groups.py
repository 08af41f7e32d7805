"""Control groups of the kernel's version 2: where one can be made, what it counts, and how it goes away again."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTROLLERS = {"memory", "pids"}
BUS = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
REMOVE_S = 2.0
_numbers = itertools.count()


class Group:
    """One cgroup. `seen`: the tree was found in it; one that systemd makes has only a name until then."""

    def __init__(self, path: Path) -> None:
        """`path` is absolute when the group is ours, the name of a unit otherwise."""
        self.path, self.seen = path, False
        self._last: dict[str, int] = {}

    def look(self, pid: int) -> None:
        """Whether a process is in this group or in one below it."""
        place = _of(pid)
        for folder in (place, *place.parents) if place else ():
            if folder == self.path or folder.name == str(self.path):
                self.path, self.seen = folder, True

    def event(self, file: str, name: str) -> int:
        """A counter of the group; the last known one when the group is gone."""
        with suppress(OSError, ValueError):
            for line in (self.path / file).read_text().splitlines():
                key, _, value = line.partition(" ")
                self._last[f"{file} {key}"] = int(value)
        return self._last.get(f"{file} {name}", 0)

    def kill(self) -> None:
        """SIGKILL to everything in it."""
        with suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        """Kill what is left and remove the group; one that stays is the next start's to remove."""
        self.kill()
        end = time.monotonic() + REMOVE_S
        while self.path.is_dir():
            try:
                self.path.rmdir()
            except OSError:
                if time.monotonic() > end:
                    return
                time.sleep(0.01)


def parent() -> Path | None:
    """Where groups with limits can be made: our own cgroup, or the nearest above that passes on memory and processes."""
    own = _of(os.getpid())
    for folder in (own, *own.parents) if own else ():
        if not (folder / "cgroup.procs").exists():
            break
        if not all(os.access(folder / name, os.W_OK) for name in (".", "cgroup.procs", "cgroup.subtree_control")):
            continue
        passed = folder / "cgroup.subtree_control"
        with suppress(OSError):  # refused where processes are in it, except in the root
            if folder == own and not set(passed.read_text().split()) >= CONTROLLERS:
                passed.write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
        if set(passed.read_text().split()) >= CONTROLLERS:
            return folder
    return None


def make(above: Path, memory: int, processes: int | None) -> Group:
    """A group with limits, of bytes and of processes, and first remove those of harnesses that are dead."""
    sweep(above)
    group = Group(above / name())
    group.path.mkdir()
    try:
        (group.path / "pids.max").write_text(str(processes or "max"))
        (group.path / "memory.max").write_text(str(memory or "max"))
        (group.path / "memory.oom.group").write_text("1")
        with suppress(OSError):  # not there where swap is not counted
            (group.path / "memory.swap.max").write_text("0" if memory else "max")
    except OSError:
        group.path.rmdir()
        raise
    return group


def sweep(above: Path) -> None:
    """Remove the groups of harnesses of this PID namespace that are dead."""
    for path in above.glob(f"harness.{_namespace()}-*"):
        pid, _, started = path.name.partition("-")[2].partition("-")
        if _started(pid) != started.partition("-")[0]:
            Group(path).remove()


def name() -> str:
    """A name that tells whose group it is: the PID namespace, the pid and its start, a number."""
    return f"harness.{_namespace()}-{os.getpid()}-{_started(str(os.getpid()))}-{next(_numbers)}"


def user_manager() -> bool:
    """Whether a systemd of the user is there and may limit memory and processes."""
    place = Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"), "systemd/private")
    uid = os.getuid()
    passed = Path(f"/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/cgroup.subtree_control")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.connect(str(place))
        return shutil.which("systemd-run") is not None and set(passed.read_text().split()) >= CONTROLLERS
    except OSError:
        return False


def memory_limits() -> Iterator[int]:
    """The memory limits that already hold for this process, in bytes."""
    own = _of(os.getpid())
    for folder in (own, *own.parents) if own else ():
        with suppress(OSError, ValueError):
            yield int((folder / "memory.max").read_text())


def _of(pid: int) -> Path | None:
    """The folder of a process's cgroup; None without version 2 or when it lies out of sight."""
    with suppress(OSError, StopIteration):
        mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
        mount = next(Path(parts[1]) for parts in mounts if parts[2] == "cgroup2")
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        inside = next(line[3:] for line in lines if line.startswith("0::"))
        return mount / inside.lstrip("/") if ".." not in inside else None
    return None


def _started(pid: str) -> str:
    """When a process started, in ticks since the machine did; empty when there is none."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino
