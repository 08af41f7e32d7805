"""The GPUs of this machine: who holds them, and which are dirty. Whether CUDA works in a sandbox is in preflight.py.

A GPU on which a run left something is *dirty*: a process that cannot be killed keeps memory, and what is measured beside it
is wrong. It is taken out of the pool, by a file in the state folder, until the machine is started anew or a person says so.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from harness.folders import base, replace
from harness.models import Task, UserError, Value
from harness.process import Unkillable, clean_env, run
from harness.protocols import Box, Launch

SMI_S, GONE_S = 20.0, 15.0  # what is killed lets go within some seconds
VISIBLE = "CUDA_VISIBLE_DEVICES"
EVERY = "every GPU"
NOWHERE = Path(os.devnull)
TABLE = "--format=csv,noheader"


class Holder(NamedTuple):
    """A process that computes on a GPU."""

    pid: int
    gpu: str


class Dirty(Value):
    """A GPU that is not to be used, why, and since when."""

    gpu: str
    reason: str
    boot: str
    since: str

    @property
    def mark(self) -> Path:
        """The file that says so."""
        return folder() / f"{self.gpu.replace(' ', '-')}.json"

    def __str__(self) -> str:
        clear = f"restart the machine, or run `rm {self.mark}` when `nvidia-smi` shows no process on it"
        return f"{self.gpu} is out of use since {self.since}, because {self.reason}: {clear}"


def folder() -> Path:
    """Where the marks of dirty GPUs lie; they are the machine's, not a repository's."""
    return base() / "gpus"


def present() -> bool:
    """Whether there is an NVIDIA GPU here."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def wanted(task: Task) -> bool:
    """Whether a task's runs get the GPU: in the profile of that name."""
    return task.profile == "gpu"


def names() -> list[str]:
    """The UUIDs of the GPUs; empty where nvidia-smi does not tell."""
    return re.findall(r"^GPU-[\w-]+$", _smi("--query-gpu=uuid", TABLE) or "", re.MULTILINE)


def models() -> str:
    """The GPUs and their driver as nvidia-smi names them, one a line; empty where it does not."""
    return (_smi("--query-gpu=name,driver_version") or "").strip()


def holders() -> frozenset[Holder] | None:
    """Who computes on a GPU now; None where nvidia-smi does not tell, or does not answer."""
    if (told := _smi("--query-compute-apps=pid,gpu_uuid", TABLE)) is None:
        return None
    rows = re.findall(r"^(\d+), ([\w-]+)$", told, re.MULTILINE)
    return frozenset(Holder(int(pid), gpu) for pid, gpu in rows)


def _smi(*query: str) -> str | None:
    if not (program := shutil.which("nvidia-smi")):
        return None
    try:
        ended = run(Launch((program, *query), clean_env(), Path("/")), NOWHERE, SMI_S)
    except Unkillable:
        return None
    return ended.tail if ended.code == 0 else None


def others() -> list[str]:
    """A sentence for each process that computes on a GPU while nothing of ours should."""
    found = sorted(holders() or ())
    return [f"{each.gpu} is also used by process {each.pid} ({_command(each.pid)}): what is measured suffers" for each in found]


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        return "".join(char if char.isprintable() else "?" for char in " ".join(words).strip())[:60] or "no command"
    return "not to be seen from here"


def dirty() -> list[Dirty]:
    """The GPUs that are not to be used. A mark from before the machine was started is removed: its process is gone."""
    found = []
    for path in sorted(folder().glob("*.json")):
        with suppress(OSError, ValueError):
            each = Dirty.model_validate_json(path.read_text())
            if each.boot == _boot():
                found.append(each)
            else:
                path.unlink()
    return found


def mark(gpu: str, reason: str) -> Dirty:
    """Take a GPU out of the pool."""
    each = Dirty(gpu=gpu, reason=reason, boot=_boot(), since=time.strftime("%Y-%m-%d %H:%M"))
    replace(each.mark, each.model_dump_json())
    return each


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Device(NamedTuple):
    """A GPU, or a part of one that is a device of its own (MIG), by the name that CUDA_VISIBLE_DEVICES takes."""

    name: str
    model: str


def devices() -> list[Device]:
    """What runs may be made on, as nvidia-smi lists it: where a GPU is split, its parts."""
    found: list[Device] = []
    card = ""
    for line in (_smi("-L") or "").splitlines():
        if gpu := re.match(r"GPU \d+: (.+) \(UUID: (GPU-[\w-]+)\)", line):
            card = gpu[1]
            found.append(Device(gpu[2], card))
        elif part := re.match(r"\s+MIG (\S+) .*\(UUID: (MIG-[\w/-]+)\)", line):
            if found and found[-1].name.startswith("GPU-"):
                found.pop()
            found.append(Device(part[2], f"{card} MIG {part[1]}"))
    return found


def pool(only: list[str] | None = None) -> list[str]:
    """The GPUs that may be used, of `only` some or of all, empty for all; a UserError when none may."""
    spoiled = {each.gpu: each for each in dirty()}
    if only:
        clean = [gpu for gpu in only if gpu not in spoiled and EVERY not in spoiled]
        spoiled = {gpu: each for gpu, each in spoiled.items() if gpu in (*only, EVERY)}
    else:
        clean = [gpu for gpu in names() if gpu not in spoiled] if spoiled and EVERY not in spoiled else []
    if spoiled and not clean:
        raise UserError(f"no GPU is left to run on: {'; '.join(map(str, spoiled.values()))}")
    return clean


@dataclass
class Lease:
    """The GPUs of one run, empty for all; at the end `found` says what is wrong with them. `shared`: who else used them."""

    gpus: list[str]
    found: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """What the run's referee is told, and by it the sandbox."""
        given = {VISIBLE: os.environ[VISIBLE]} if VISIBLE in os.environ else {}  # by which a person keeps one for themselves
        return {VISIBLE: ",".join(self.gpus)} if self.gpus else given

    def spoiled(self, reason: str, *gpus: str) -> None:
        """Take `gpus`, by default all of the lease, out of the pool."""
        for gpu in gpus or self.gpus or [EVERY]:
            mark(gpu, reason)
            self.found.append(f"{gpu} is out of use, because {reason}; `harness doctor` says what to do")


@contextmanager
def lease(task: Task, only: list[str] | None = None) -> Iterator[Lease]:
    """The clean GPUs, of `only` some or of all, for one run of a task that wants them; afterwards those that it did not let
    go of are marked.

    A UserError when there is no clean one.
    """
    if not wanted(task) or not present():
        yield Lease([])
        return
    taken, before = Lease(pool(only)), holders()
    mine = {each for each in before or () if not only or each.gpu in only}
    taken.shared += [f"{each.gpu} with process {each.pid} ({_command(each.pid)})" for each in sorted(mine)]
    try:
        yield taken
    except Unkillable as error:
        taken.spoiled(str(error))
        raise
    if before is None:
        return
    left = _left(before, only)
    if left is None:
        taken.spoiled("nvidia-smi no longer answers after a run")
    for each in sorted(left or ()):
        taken.spoiled(f"process {each.pid} of a run holds it {GONE_S:.0f} s after it was killed", each.gpu)


def _left(before: frozenset[Holder], only: list[str] | None) -> frozenset[Holder] | None:
    """Who came while a run was going on and has not let go, given time; not those that plainly live, which are other people's.

    Everything of the run was killed, so what is left of it is not to be seen any more, dead, or stuck in the kernel.
    """
    end = time.monotonic() + GONE_S
    while (now := holders()) is not None:
        left = frozenset(each for each in now - before if not _lives(each.pid) and (not only or each.gpu in only))
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.5)
    return None


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "RSTtI"
    return False


def visible(box: Box) -> dict[str, str]:
    """What a box with a GPU is told of the lease that its referee was given."""
    return {VISIBLE: os.environ[VISIBLE]} if box.gpu and VISIBLE in os.environ else {}
