"""The first process of a sandbox: gives up every privilege, starts the command, reaps orphans, ends when the command ends.

As PID 1 of a PID namespace its death takes every other process along. It is not dumpable, so that nobody inside can
write to its memory. Run by itself (`--subtree`, for the sandbox `none`) it kills its descendants when it is told to end.

    python -I -S init.py [--uid N] [--subtree] [--limit NPROC=100] -- true
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 24, 36, 38
CAPABILITY_VERSION_3 = 0x20080522
MAX_PROCESSES, MAX_FILES, MAX_FILE_BYTES = 4096, 4096, 8 << 30


def main(args: list[str]) -> int:
    """Run the command after `--`; the exit code is the command's, 128 + n for signal n."""
    options, argv = args[: args.index("--")], args[args.index("--") + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # a machine that is out of memory takes the sandbox first
    if "--uid" in options:
        drop_privileges(libc, int(options[options.index("--uid") + 1]))
    if "--subtree" in options:
        signal.signal(signal.SIGTERM, end_subtree)
    limit(dict(value.split("=") for value in options if "=" in value), "--subtree" in options)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        execute(argv)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    while True:
        pid, status = os.wait()
        if pid == child:
            break
    if "--subtree" in options:
        kill_descendants()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def drop_privileges(libc: ctypes.CDLL, uid: int) -> None:
    """Become `uid` for good: no groups, no capability, none to be regained."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # The change of uid clears all sets but the inheritable one.
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    if os.getresuid() != (uid, uid, uid) or capabilities():
        os._exit(126)


def capabilities() -> int:
    """The union of the capability sets that this process could still use."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return max(int(line.split()[1], 16) for line in lines if line.startswith(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")))


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


def kill_descendants() -> None:
    """SIGKILL children until there are none; as a subreaper this process inherits its grandchildren."""
    while children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        for child in children:
            os.waitpid(int(child), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
