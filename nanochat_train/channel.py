"""The referee's end of a sandboxed worker: shared memory it cannot resize, and messages that may be hostile."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from harness import limits
from harness.caches import Private
from harness.models import Request
from harness.process import inner_env
from harness.protocols import Box
from nanochat_train.feed import MESSAGE_BYTES

F_SEAL_FUTURE_WRITE = 0x0010
CPU_THREADS = 2  # fixed, so that a machine with more cores computes the same sums
# Kernels chosen by timing them differ from run to run, and so do scores: by ten times the noise of a run.
NO_TUNING = {f"TORCHINDUCTOR_{name}": "0" for name in ("MAX_AUTOTUNE", "MAX_AUTOTUNE_GEMM", "MAX_AUTOTUNE_POINTWISE")}
NO_TUNING |= {"TORCHINDUCTOR_COORDINATE_DESCENT_TUNING": "0"}
WORKER = ("-m", "nanochat_train.worker")


class Report(Protocol):
    """Told what is going on: the phase, the seconds left of it, and in training the last loss and the tokens seen."""

    def __call__(self, phase: str, left_s: float, loss: float | None, tokens: int | None = None) -> None:
        """At any rate; who is told slows that down."""


class Fault(Exception):
    """The candidate's failure: a status and a sentence. It ends a measurement and becomes its result."""

    def __init__(self, status: Literal["crash", "invalid", "void"], reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Memory:
    """A memfd shared with a worker. Nobody can resize it; with `read_only` only this process, which mapped it first, writes."""

    def __init__(self, size: int, read_only: bool) -> None:
        self.fd = os.memfd_create("shared", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.size = size
        self.bytes = np.frombuffer(mmap.mmap(self.fd, size), dtype=np.uint8)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        if read_only:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self.fd)

    def put(self, rows: npt.NDArray[np.uint16]) -> None:
        """Copy rows to the start of the memory."""
        data = np.ascontiguousarray(rows)
        self.bytes[: data.nbytes].view(np.uint16)[:] = data.reshape(-1)


@dataclass
class Incoming:
    """One message, and the open file that came with it."""

    message: dict[str, Any]
    fd: int | None = None

    def integer(self, name: str, low: int, high: int) -> int:
        """A field that must be an integer between `low` and `high`."""
        value = self.message.get(name)
        if type(value) is not int or not low <= value <= high:
            raise Fault("invalid", f"sent a message whose {name!r} is not an integer between {low} and {high}")
        return value

    def number(self, name: str) -> float:
        """A field that must be a number; the strings "nan", "inf" and "-inf" are."""
        value: Any = self.message.get(name)
        if type(value) in (int, float) or value in ("nan", "inf", "-inf"):
            try:
                return float(value)
            except OverflowError:
                pass
        raise Fault("invalid", f"sent a message whose {name!r} is not a number")

    def text(self, name: str, length: int) -> str:
        """A field as at most `length` printable characters on one line."""
        shown = " ".join(str(self.message.get(name, ""))[: 4 * length].split())
        return "".join(c if c.isprintable() else "?" for c in shown)[:length]


class Channel:
    """The referee's end of the socket pair; `theirs` is the worker's and is closed here once the worker runs."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.closed = False

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.ours.close()
        self.theirs.close()

    def send(self, message: dict[str, Any]) -> None:
        """Answer without ever waiting for a worker that does not read."""
        try:
            self.ours.send(json.dumps(message).encode())
        except BlockingIOError:
            raise Fault("invalid", "does not read the answers to its requests") from None
        except OSError:
            self.closed = True

    def receive(self, wait_s: float) -> Incoming | None:
        """The next message within `wait_s` seconds; None if there is none or the worker has closed its end."""
        if self.closed or not select.select([self.ours], [], [], wait_s)[0]:
            return None
        try:
            data, fds, _, _ = socket.recv_fds(self.ours, MESSAGE_BYTES, 1)
        except OSError:
            self.closed = True
            return None
        try:
            if not data:
                self.closed = True
                return None
            message = json.loads(data)
            if not isinstance(message, dict):
                raise ValueError
            return Incoming(message, fds.pop() if fds else None)
        except (ValueError, RecursionError):
            raise Fault("invalid", "sent a message that the referee does not understand") from None
        finally:
            for fd in fds:
                os.close(fd)


def device(profile: str) -> str:
    """Where a profile trains."""
    return "cuda" if profile == "gpu" else "cpu"


def box(request: Request, role: limits.Role, readable: tuple[Any, ...], compiled: Private, *fds: int) -> Box:
    """The sandbox of a worker: the candidate's tree to read, nothing to write but its own caches, no network."""
    env = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    if device(request.task.profile) == "cpu":
        env |= {name: str(CPU_THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        # Threads that wait sleep: spinning ones multiply time and CPU seconds when something else wants a core.
        env |= {"OMP_WAIT_POLICY": "PASSIVE", "TORCHINDUCTOR_DETERMINISTIC": "1"}
        # Large blocks stay in the process: otherwise a fifth of the time on a CPU goes to page faults.
        env |= {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 26)}
        env |= {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    else:
        env |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    return Box(
        cwd=request.tree,
        readable=(request.tree, *request.readable, *readable),
        writable=compiled.writable,
        hidden=tuple(request.hidden),
        env=inner_env(**env, **NO_TUNING, **compiled.env),
        gpu=device(request.task.profile) == "cuda",
        fds=fds,
        limits=limits.settle(request.task.limits, role),
        role=role,
    )
