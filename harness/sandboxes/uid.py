"""Confinement by a user id of its own, for containers that run as root where neither namespaces nor mounts are allowed.

Weaker than bubblewrap, and used only when it is asked for by name. A uid that owns nothing else, no capability, limits, a
filter for system calls that leaves no socket, and the modes of files: the command reads what every user of the machine can
read and what the box names, and writes what the box names. What has to stay secret must be closed to other users, and this
module refuses to start where it is not. Our init stays root and ends every process of the uid; see init.py.
"""

from __future__ import annotations

import fcntl
import grp
import json
import os
import pwd
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from harness import gpus, trees
from harness.folders import base
from harness.limits import rlimits
from harness.models import UserError
from harness.process import PACKAGE, clean_env, run
from harness.protocols import Box, Launch
from harness.sandboxes import files, seccomp
from harness.sandboxes.init import KILLER, alive
from harness.sandboxes.reach import READ, WRITE, Who, barriers, closed_above, exposed, replaceable

INIT = Path(__file__).with_name("init.py")
PASSAGE = 60900  # the group of every such sandbox: it may pass through the harness's own folders
UIDS = range(60901, 60933)  # one a sandbox at work; KILLER above them are those that end them
LOCKS = Path("/run/harness-uid")
NEEDED = {0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 6: "SETGID", 7: "SETUID", 8: "SETPCAP"}  # what Docker leaves to root
GIT = {"safe.directory": "*", "user.name": "agent", "user.email": "agent@localhost"}  # git distrusts folders of other users
OURS = {"USER": "agent", "LOGNAME": "agent", "GIT_CONFIG_COUNT": str(len(GIT))}
OURS |= {
    f"GIT_CONFIG_{part}_{i}": text
    for i, pair in enumerate(GIT.items())
    for part, text in zip(("KEY", "VALUE"), pair, strict=True)
}
TRIAL = [sys.executable, "-I", "-S", "-c", ""]
NOWHERE = Path(os.devnull)
SYSTEM = tuple(Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"))


class Uid:
    """A dedicated user id, for root in a container."""

    name = "uid"
    network: Literal["own", "host", "none"] = "none"

    def problem(self, secret: tuple[Path, ...] = ()) -> str | None:
        """None if a trivial command runs as another user here, and none such could read home or `secret`."""
        who = Who(UIDS[0], (UIDS[0], PASSAGE))
        found = _not_root() or _interpreter(who) or _state(who) or _secrets(secret, who)
        if found:
            return f"the sandbox uid {found}"
        try:
            with self.wrap(TRIAL, Box(cwd=Path("/"))) as launch:
                ended = run(launch, NOWHERE, 20)
        except (OSError, UserError) as error:
            return f"the sandbox uid cannot start: {error}"
        return None if ended.code == 0 else f"the sandbox uid cannot confine anything here ({ended.tail.strip()[-200:]})"

    @contextmanager
    def wrap(self, argv: list[str], box: Box) -> Iterator[Launch]:
        """`argv` under an init that becomes another user for it. What the box names is given, and taken back at the end."""
        with _lease() as (uid, lock), ExitStack() as stack:
            who = Who(uid, (uid, PASSAGE))
            scratch = Path(tempfile.mkdtemp(prefix="harness-uid-"))
            stack.callback(_clear, uid, lock, scratch, argv == TRIAL)
            os.chown(scratch, uid, uid)
            stack.enter_context(files.open_to(box, who, base(), PASSAGE))
            stack.callback(_ended, uid, lock)
            devices = [path for path in sorted(Path("/dev").glob("nvidia*")) if path.is_char_device()] if box.gpu else []
            if closed := [path for path in devices if not who.may(path, READ | WRITE)]:
                raise UserError(f"the sandbox uid cannot use the GPU: run `chmod o+rw {_quoted(closed)}`")
            files.hide(box.hidden, who, (*SYSTEM, *_interpreters()))
            env = {**OURS, "TMPDIR": str(scratch), **gpus.visible(box), **box.env, "HOME": str(box.home or scratch)}
            handle = stack.enter_context(_settings(uid, lock, env))
            bounds = rlimits(box.limits) if box.limits else []
            fds, places = (*box.fds, handle, lock), (*box.places, scratch)
            yield Launch(_init(handle, argv, bounds), clean_env(), box.cwd, fds, box.limits, places)


def _clear(uid: int, lock: int, scratch: Path, ours: bool) -> None:
    """Leave no file of a uid of which nothing lives any more; a command of `ours` leaves none."""
    trees.remove(scratch)
    if not ours:
        files.sweep(uid)
    os.ftruncate(lock, 0)


def _init(handle: int, argv: list[str], bounds: list[str]) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(INIT), "--alone", str(handle), *bounds, "--", *argv)


def _not_root() -> str | None:
    """What is missing to become another user."""
    if sys.platform != "linux" or seccomp.unsupported():
        return f"exists on Linux on x86-64 and ARM only, and this is {sys.platform} on {os.uname().machine}"
    if os.getuid():
        return "needs root, which alone can become another user: it is for containers that run as root"
    lines = Path("/proc/self/status").read_text().splitlines()
    have = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))
    if missing := [name for bit, name in NEEDED.items() if not have >> bit & 1]:
        flags = " ".join(f"--cap-add {name}" for name in missing)
        return f"needs capabilities that this root does not have: start the container with `{flags}`"
    mapped = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    if not any(first <= PASSAGE and UIDS[-1] + KILLER < first + count for first, _, count in mapped):
        return f"needs the user ids {PASSAGE} to {UIDS[-1] + KILLER}, which this container does not have: give it 65536 of them"
    return None


def _interpreters() -> list[Path]:
    """The folders of the Python that runs the harness."""
    return list(dict.fromkeys(Path(name) for name in (sys.prefix, sys.base_prefix)))


def _interpreter(who: Who) -> str | None:
    """Whether the sandbox's user can run our Python and import the harness."""
    for path in (Path(sys.executable), *_interpreters(), PACKAGE.parent, PACKAGE):
        if closed := barriers(path, who):
            mend = f"chmod {'o+rx' if closed == [path.resolve()] else 'o+x'} {_quoted(closed)}"
            return f"runs {path} as another user, who cannot enter {closed[0]}: install it below /usr or /opt, or run `{mend}`"
        if loose := replaceable(path / "inside", who):
            return f"could replace {path}, since everybody may write to {loose}: run `chmod o-w {_quoted([loose])}`"
    return None


def _state(who: Who) -> str | None:
    """Whether the way to the harness's own folder is open: what lies above it is not ours to change."""
    if closed := closed_above(base() / "repository", who):
        mend = f"put it elsewhere with `export XDG_STATE_HOME=/var/lib/harness`, or run `chmod o+x {_quoted(closed)}`"
        return f"works in {base()} as another user, who cannot enter {closed[0]}: {mend}"
    return None


def _secrets(secret: tuple[Path, ...], who: Who) -> str | None:
    """What other users could read of the home folder and of `secret`."""
    homes = {Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir)} - {Path("/")}
    needed = [*_interpreters(), Path(sys.executable), PACKAGE, base()]
    for folder in (*secret, *sorted(homes), base()):
        if loose := replaceable(folder, who):
            return f"could replace {folder}, since everybody may write to {loose}: run `chmod o-w {_quoted([loose])}`"
    for folder in (*secret, *sorted(homes)):
        if found := exposed(folder, needed, who):
            rest = f" and {len(found) - 1} more" if len(found) > 1 else ""
            return f"could read {found[0]}{rest}: run `chmod {_closing(found, folder)}`"
    return None


def _closing(found: list[Path], folder: Path) -> str:
    """The arguments of chmod that close what was found."""
    if found == [folder.resolve()]:
        return f"700 {_quoted(found)}"
    return f"o-rwx {_quoted(found)}"


def _quoted(paths: list[Path]) -> str:
    return " ".join(shlex.quote(str(path)) for path in paths)


@contextmanager
def _lease() -> Iterator[tuple[int, int]]:
    """A uid that nobody else has, and the descriptor that keeps it: it is free when we and our init have closed it."""
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    for uid in UIDS:
        if any(_known(number) for number in (uid, uid + KILLER)):
            continue
        lock = os.open(LOCKS / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _taken(lock) or not _ended(uid, lock):
                continue
            if os.fstat(lock).st_size:  # whoever had it was killed
                files.sweep(uid)
            os.write(lock, b"at work\n")
            yield uid, lock
            return
        finally:
            os.close(lock)
    raise UserError(f"all {len(UIDS)} user ids of the sandbox uid are at work: wait, or see `ls {LOCKS}` and `ps -eo uid,args`")


def _taken(lock: int) -> bool:
    """Lock a descriptor, unless somebody else has."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _known(number: int) -> bool:
    """Whether a number is the id of a user or a group that has a name."""
    for look in (pwd.getpwuid, grp.getgrgid):
        with suppress(KeyError):
            look(number)
            return True
    return False


def _ended(uid: int, lock: int) -> bool:
    """Whether nothing of a uid lives, after an end has been made of what an init that was killed left."""
    if alive(uid):
        with _settings(uid, lock, {}) as handle:
            run(Launch(_init(handle, ["/bin/true"], []), clean_env(), Path("/"), (handle, lock)), NOWHERE, 15)
    return not alive(uid)


@contextmanager
def _settings(uid: int, lock: int, env: dict[str, str]) -> Iterator[int]:
    """What our init is told, in a descriptor to be inherited: the command's environment is nobody else's to read."""
    told = {"uid": uid, "groups": [PASSAGE], "env": env, "filter": seccomp.program(seccomp.ALONE).hex(), "lock": lock}
    handle = os.memfd_create("harness")
    try:
        os.write(handle, json.dumps(told).encode())
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)
