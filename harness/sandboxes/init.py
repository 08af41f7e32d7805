"""The first process of a sandbox: gives up every privilege, starts the command, reaps orphans, ends when the command ends.

As PID 1 of a PID namespace its death takes every other process along. It is not dumpable, so that nobody inside can
write to its memory. Run by itself (`--subtree`, for the sandbox `none`) it kills its descendants when it is told to end. For the
sandbox `uid` (`--alone FD`, settings as JSON) it stays root, and whatever ends, it or the command, ends every process of
the command's uid.

With `--relay PORT` connections to that port of the sandbox's loopback lead to the gateway's socket; see relay.py.

Whatever is started in a sandbox waits until this is loaded, so it imports little (no pathlib), and late what few sandboxes need.

    python -I -S init.py [--uid N | --alone FD] [--subtree] [--relay PORT] [--limit NPROC=100] -- true
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
import warnings as warnings  # os.execvp asks for it when the interpreter may be out of our reach
from contextlib import suppress
from functools import partial

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 24, 36, 38
CAPABILITY_VERSION_3 = 0x20080522
MAX_PROCESSES, MAX_FILES, MAX_FILE_BYTES = 4096, 4096, 8 << 30
GATEWAY = "/run/gateway.sock"  # where a sandbox has the gateway's socket
KILLER = 100  # the distance from a sandbox's uid to the one that its killer has


def main(args: list[str]) -> int:
    """Run the command after `--`; the exit code is the command's, 128 + n for signal n."""
    options, argv = args[: args.index("--")], args[args.index("--") + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # a machine that is out of memory takes the sandbox first
    if "--uid" in options:
        drop_privileges(libc, int(options[options.index("--uid") + 1]))
    alone = settings(int(options[options.index("--alone") + 1])) if "--alone" in options else None
    if alone:
        signal.signal(signal.SIGTERM, partial(end_alone, alone.uid))
    elif "--subtree" in options:
        signal.signal(signal.SIGTERM, end_subtree)
    given = dict(value.split("=") for value in options if "=" in value)
    if not alone:
        limit(given, "--subtree" in options)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if "--relay" in options:
        start_relay(int(options[options.index("--relay") + 1]))
    child = os.fork()
    if child == 0:
        if alone:
            confine(libc, alone, given)
        execute(argv)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    while True:
        pid, status = os.wait()
        if pid == child:
            break
    if alone:
        end_uid(alone.uid)
    elif "--subtree" in options:
        kill_descendants()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def start_relay(port: int) -> None:
    """Listen on the loopback at once, and let a process of its own answer."""
    import socket

    with socket.create_server(("127.0.0.1", port), backlog=512) as listening:
        if os.fork():
            return
        silent = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(silent, standard)
        os.set_inheritable(listening.fileno(), True)
        relay = os.path.join(os.path.dirname(__file__), "relay.py")
        execute([sys.executable, "-I", "-S", relay, str(listening.fileno()), GATEWAY])


class Alone:
    """What `--alone` is told: the uid and its groups, the environment, the filter in hex, the lock to hold on to."""

    def __init__(self, uid: int, groups: list[int], env: dict[str, str], filter: str, lock: int) -> None:
        self.uid, self.groups, self.env, self.filter, self.lock = uid, groups, env, filter, lock


def settings(handle: int) -> Alone:
    """What a descriptor holds."""
    import json

    with os.fdopen(handle, "rb") as file:
        return Alone(**json.load(file))


def confine(libc: ctypes.CDLL, alone: Alone, given: dict[str, str]) -> None:
    """Become the sandbox's user: limits, no privilege, a filter for system calls, an environment that is not ours."""
    os.close(alone.lock)
    limit(given, subtree=False)
    drop_privileges(libc, alone.uid, alone.groups)
    code = bytes.fromhex(alone.filter)
    held = ctypes.create_string_buffer(code, len(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(len(code) // 8, ctypes.addressof(held))), 0, 0):
        os.write(2, f"the filter for system calls was refused: {os.strerror(ctypes.get_errno())}\n".encode())
        os._exit(126)
    os.environ.clear()
    os.environ.update(alone.env)


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("count", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def drop_privileges(libc: ctypes.CDLL, uid: int, groups: list[int] | None = None) -> None:
    """Become `uid` for good: no group of anybody else's, no capability, none to be regained."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups(groups or [])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # The change of uid clears all sets but the inheritable one.
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    if os.getresuid() != (uid, uid, uid) or capabilities():
        os._exit(126)


def read(path: str) -> str:
    """The text of a file of /proc."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def capabilities() -> int:
    """The union of the capability sets that this process could still use."""
    lines = read("/proc/self/status").splitlines()
    return max(int(line.split()[1], 16) for line in lines if line.startswith(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")))


def effective() -> int:
    """The capabilities that this process could use at once."""
    lines = read("/proc/self/status").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))


def limit(given: dict[str, str], subtree: bool) -> None:
    """Bounds that need no cgroup; -1 is none. No address-space limit: CUDA reserves far more than it uses."""
    usual = {"CORE": 0, "NPROC": MAX_PROCESSES, "NOFILE": MAX_FILES, "FSIZE": MAX_FILE_BYTES}
    for name, value in {**usual, **{name: int(value) for name, value in given.items()}}.items():
        if subtree and (name == "NPROC" or name not in given):
            continue  # the user's own processes count, and nobody asked for more
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = hard if value < 0 else min(value, hard)
        resource.setrlimit(kind, (value, value))


def execute(argv: list[str]) -> None:
    """Replace this process by the command, or exit 127 with a sentence."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"cannot start {argv[0]}: {error.strerror}\n".encode())
        os._exit(127)


def end_subtree(_signal: int, _frame: object) -> None:
    """SIGTERM, or the death of the harness: take every descendant along."""
    kill_descendants()
    os._exit(128 + signal.SIGTERM)


def end_alone(uid: int, _signal: int, _frame: object) -> None:
    """SIGTERM, or the death of the harness: take every process of the uid along."""
    end_uid(uid)
    os._exit(128 + signal.SIGTERM)


def end_uid(uid: int) -> None:
    """SIGKILL every process of `uid` until none is left, and reap what is ours.

    kill(-1) takes them all in one step, so no fork bomb outruns it, and needs no pid that somebody else may have by now. It
    reaches what the real and the effective uid reach: the effective one is theirs, the real one nobody's, and since neither
    that nor the saved one is theirs, they cannot kill us. Without a fork, which may fail while their processes fill a limit.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        os.setresuid(uid + KILLER, uid, 0)
        try:
            if effective() or uid + KILLER != os.getuid() or uid != os.geteuid():
                os._exit(126)  # with a capability left, or as root, it would take the whole machine
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        finally:
            os.setresuid(0, 0, 0)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not alive(uid):
            return
        time.sleep(0.005)


def alive(uid: int) -> list[int]:
    """The processes of a user, by any of its uids; not the dead that nobody has reaped."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            facts = dict(line.split(":", 1) for line in read(f"/proc/{pid}/status").splitlines() if ":" in line)
            if str(uid) in facts["Uid"].split() and facts["State"].split()[0] not in "ZX":
                found.append(int(pid))
    return found


def kill_descendants() -> None:
    """SIGKILL children until there are none; as a subreaper this process inherits its grandchildren."""
    while children := read(f"/proc/self/task/{os.getpid()}/children").split():
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        for child in children:
            os.waitpid(int(child), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
