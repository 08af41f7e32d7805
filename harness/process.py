"""The one place that spawns processes: own session, deadline, whole-tree kill, bounded log.

Killing goes through the PID namespace where there is one: bubblewrap reports the pid of the namespace's init, a pidfd
to it is opened at once, and it becomes readable only when every process of the namespace is dead.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from harness import limits
from harness import usage as used
from harness.models import UserError
from harness.protocols import Cancel, Exit, Launch

PACKAGE = Path(__file__).resolve().parent
LOG_BYTES = 4 << 20
TAIL_BYTES = 16 << 10
KILL_WAIT_S = 15.0
TERM_WAIT_S = 10.0
Pipes = tuple[int, int]
UNKILLABLE = 75  # the exit code of a referee that could not end a tree
ENV_ALLOWED = ("PATH", "LANG", "LC_ALL", "TZ", "TERM", "HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")


def clean_env(**extra: str) -> dict[str, str]:
    """The environment of a trusted child: an allow-list of ours, no key and no GIT_* variable, plus `extra`."""
    kept = {name: os.environ[name] for name in ENV_ALLOWED if name in os.environ}
    return {**kept, **extra}


def inner_env(interpreter: str = "", **extra: str) -> dict[str, str]:
    """The environment inside a sandbox: a PATH with the interpreters, the harness, nothing of the user's."""
    first = [str(Path(interpreter).parent)] if interpreter else []
    path = os.pathsep.join([*first, str(Path(sys.prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    fixed = {"LANG": "C.UTF-8", "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    return {"PATH": path, "PYTHONPATH": str(PACKAGE.parent), **fixed, **extra}


def python(argv: list[str], interpreter: str = "") -> list[str]:
    """`argv` with a leading `python` replaced by the given interpreter, or the one that runs the harness."""
    return [interpreter or sys.executable, *argv[1:]] if argv[0] in ("python", "python3") else list(argv)


class Unkillable(UserError):
    """Something survives SIGKILL, which is a fault of the kernel or of a driver; its machine has to be started anew."""


class Process:
    """A process tree under a deadline. Use as a context manager: leaving it kills what still lives.

    The thread that creates it has to outlive it: the parent-death signal belongs to the thread, not to the process.
    """

    def __init__(
        self, launch: Launch, log: Path, stdin: bytes = b"", terminal: int | None = None, pipes: Pipes | None = None
    ) -> None:
        """Start `launch`, feed it `stdin` and close it; the first megabytes of stdout and stderr go to `log`.

        With a `terminal`, a descriptor, it is all three of them, and the caller reads and writes at its other end;
        `pipes` are its stdin and its stdout likewise, and the log is left to stderr.
        """
        self._exit: Exit | None = None
        self._tail = b""
        self._exceeded = ""
        self._ended = threading.Event()
        self._undo = ExitStack()
        self._guard: limits.Watchdog | None = None
        if launch.limits:
            self._guard = self._undo.enter_context(limits.guard(launch.limits, launch.places, launch.enforce))
        try:
            self._start(launch, log, stdin, terminal, pipes)
        except BaseException:
            self._undo.close()
            raise

    def _start(self, launch: Launch, log: Path, stdin: bytes, terminal: int | None, pipes: Pipes | None) -> None:
        self.started = time.monotonic()
        info_read, info_write = os.pipe()
        argv = [part.replace("{info_fd}", str(info_write)) for part in launch.argv]
        namespaced = argv != list(launch.argv)
        if self._guard:
            argv = [*self._guard.prefix, *argv]
        if setpriv := shutil.which("setpriv"):
            argv = [setpriv, "--pdeathsig", "TERM" if not namespaced else "KILL", "--", *argv]
        if terminal is not None:
            argv = ["setsid", "--ctty", *argv]  # the terminal has to be the controlling one of its session
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._child = subprocess.Popen(
                argv,
                env={**launch.env, **(self._guard.env if self._guard else {})},
                cwd=launch.cwd,
                stdin=pipes[0] if pipes else subprocess.PIPE if terminal is None else terminal,
                stdout=pipes[1] if pipes else subprocess.PIPE if terminal is None else terminal,
                stderr=subprocess.PIPE if pipes else subprocess.STDOUT,
                pass_fds=(*launch.fds, *([info_write] if namespaced else [])),
                start_new_session=terminal is None,
            )
        except BaseException:
            os.close(info_read)
            raise
        finally:
            os.close(info_write)
        kept = launch.limits.output_mb if launch.limits else None
        self._threads = [
            threading.Thread(target=self._read, args=(log, LOG_BYTES if kept is None else kept << 20), daemon=True),
            threading.Thread(target=self._write, args=(stdin,), daemon=True),
        ]
        if terminal is not None or pipes:
            self._threads = self._threads[: 1 if pipes else 0]
        for thread in self._threads:
            thread.start()
        init = used.init_of(info_read) if namespaced else None
        os.close(info_read)
        self._handle: int | None = init[1] if init else os.pidfd_open(self.pid)
        self._signal = signal.SIGKILL if init else signal.SIGTERM
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.tree = used.Tree(init[0] if init else self.pid, init is not None)
        if self._guard:
            self._guard.begin(self.tree.pid, self.tree.inside)
            self._watcher.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The pid of the spawned process itself, on the host."""
        return self._child.pid

    def wait(self, seconds: float) -> Exit | None:
        """The tree's exit, or None if it has not ended within `seconds`."""
        end = time.monotonic() + seconds
        while self._exit is None:
            pid, status, usage = os.wait4(self._child.pid, os.WNOHANG)
            if pid:
                self._finish(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
            elif time.monotonic() >= end:
                return None
            else:
                time.sleep(min(0.01, max(0.0, end - time.monotonic())))
        return self._exit

    def kill(self) -> Exit:
        """End the whole tree and return only when it is dead. Harmless on a tree that has ended."""
        if self._exit is None:
            self._strike()
        ended = self.wait(KILL_WAIT_S if self._signal == signal.SIGKILL else TERM_WAIT_S)
        if ended is None:
            os.killpg(self.pid, signal.SIGKILL)
            ended = self.wait(KILL_WAIT_S)
        self._stop_watching()
        if self._handle is not None:
            select.select([self._handle], [], [], KILL_WAIT_S)
            os.close(self._handle)
            self._handle = None
        self._undo.close()
        if ended is None:
            raise Unkillable(
                f"process {self.pid} cannot be killed: see `ps -o stat,wchan -p {self.pid}`, then restart the machine"
            )
        return ended

    def _strike(self) -> None:
        """Ask the tree to end, in the firmest way that reaches all of it."""
        assert self._handle is not None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, self._signal)
            if self._signal != signal.SIGKILL:
                signal.pidfd_send_signal(self._handle, signal.SIGCONT)  # somebody inside may have stopped it
        if self._guard:
            self._guard.kill()

    def _watch(self) -> None:
        """Ask four times a second whether a limit is exceeded; a look that took long is followed by a longer pause."""
        assert self._guard is not None
        pause = limits.TICK_S
        while not self._ended.wait(pause):
            began = time.monotonic()
            self._exceeded = self._exceeded or self._guard.exceeded()
            if self._exceeded:
                self._strike()
            pause = max(limits.TICK_S, 10 * (time.monotonic() - began))

    def _stop_watching(self) -> None:
        self._ended.set()
        if self._watcher.ident is not None:
            self._watcher.join()

    def tail(self) -> str:
        """The last bytes of the output so far."""
        return self._tail.decode("utf-8", "replace")

    def _finish(self, code: int, cpu_s: float, memory_mb: float) -> None:
        self._child.returncode = code
        seconds = time.monotonic() - self.started
        if self._handle is not None:
            select.select([self._handle], [], [], KILL_WAIT_S)
        self._stop_watching()
        for thread in self._threads:
            thread.join(2.0)
        exceeded, held_by = "", ""
        if self._guard:
            exceeded, held_by = self._exceeded or self._guard.exceeded(code), self._guard.name
        cpu_s = max(cpu_s, self.tree.seen_s)
        self._exit = Exit(code, seconds, cpu_s, memory_mb, self.tail(), exceeded=exceeded, limits=held_by)

    def _read(self, log: Path, limit: int) -> None:
        source = self._child.stdout or self._child.stderr
        assert source is not None
        with log.open("wb", buffering=0) as file, source as pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]
                with suppress(OSError):  # a full disk costs the log; the pipe is emptied, or the child would hang
                    file.write(chunk[: max(0, limit)])
                limit -= len(chunk)

    def _write(self, data: bytes) -> None:
        assert self._child.stdin is not None
        try:
            with self._child.stdin as pipe:
                pipe.write(data)
        except OSError:
            pass  # the child ended or closed its stdin without reading: its right


def run(launch: Launch, log: Path, deadline_s: float, cancel: Cancel = lambda: False, stdin: bytes = b"") -> Exit:
    """Run `launch` to its end, to `deadline_s` seconds or until `cancel()`, which is asked four times a second."""
    with Process(launch, log, stdin) as process:
        while (ended := process.wait(0.25)) is None:
            timed_out = time.monotonic() - process.started > deadline_s
            if timed_out or cancel():
                return replace(process.kill(), timed_out=timed_out, cancelled=not timed_out)
        return ended
