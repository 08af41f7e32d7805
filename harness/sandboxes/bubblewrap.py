"""Confinement by bubblewrap: namespaces of its own, no network, few system calls, everything read-only but what the box names.

As an ordinary user the sandbox is a user namespace. As root, where Python may lie below a directory of mode 700 that
another uid could not even enter, root's bubblewrap makes the mounts and our init drops to an unprivileged uid inside,
so candidate code is never real root.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from harness import gpus, trees
from harness.limits import rlimits
from harness.process import clean_env, run
from harness.protocols import Box, Launch
from harness.sandboxes import seccomp
from harness.sandboxes.diagnose import NONE, why
from harness.sandboxes.init import GATEWAY

INIT = Path(__file__).with_name("init.py")
PACKAGE = INIT.parents[1]
EMPTY = INIT.with_name("empty")
OUTER_UID = 60989  # below root's sandbox: a uid that owns nothing else on the machine
INNER_UID = 1000  # in a user namespace: the user's own uid under another number
ETC = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "localtime",
)
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
TMP_BYTES = 1 << 30
MODPROBE = Path("/usr/bin/nvidia-modprobe")  # setuid root, which is nothing in here: the driver would wait for it in vain
GPU_DEVICES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps")


class Bubblewrap:
    """The default sandbox on Linux."""

    name = "bubblewrap"
    network: Literal["own", "host", "none"] = "own"

    def problem(self, secret: tuple[Path, ...] = ()) -> str | None:
        """None if a trivial command runs confined here; otherwise the reason and what mends it."""
        if found := why(secret=secret):
            return found
        if found := seccomp.unsupported():
            return f"{found}; {NONE}"
        with self.wrap(["/usr/bin/true"], Box(cwd=Path("/"))) as launch:
            ended = run(launch, Path(os.devnull), 20)
        if "SECCOMP" in ended.tail:
            return f"no system call filter can be loaded here ({ended.tail.strip()[:200]}): use another machine; {NONE}"
        return None if ended.code == 0 else why(ended.tail or f"exit code {ended.code}", secret)

    @contextmanager
    def wrap(self, argv: list[str], box: Box) -> Iterator[Launch]:
        """`argv` as a bubblewrap command line. Writable paths are handed to the sandbox's uid; nothing else is changed."""
        root = os.getuid() == 0
        if root:
            for path in (*box.writable, *([box.home] if box.home else [])):
                _give(path, OUTER_UID)
            if box.gateway and box.gateway.socket:
                os.chown(box.gateway.socket, OUTER_UID, OUTER_UID)
        with ExitStack() as stack:
            texts = _etc(OUTER_UID if root else INNER_UID)
            etc = {name: stack.enter_context(_in_memory(text.encode())) for name, text in texts.items()}
            calls = stack.enter_context(_in_memory(seccomp.program()))
            command = [*_namespaces(root, box.terminal), *_system(etc), *_mounts(box), *_gateway(box), *_devices(box)]
            command += ["--remount-ro", "/", "--clearenv", *_environment(box), "--chdir", str(box.cwd)]
            init = [sys.executable, "-I", "-S", str(INIT), *(["--uid", str(OUTER_UID)] if root else [])]
            init += ["--relay", str(urlsplit(box.gateway.url).port)] if box.gateway else []
            init += [*(rlimits(box.limits) if box.limits else []), "--"]
            argv = ["bwrap", *command, "--seccomp", str(calls), "--info-fd", "{info_fd}", "--", *init, *argv]
            yield Launch(tuple(argv), clean_env(), Path("/"), (*box.fds, *etc.values(), calls), box.limits, box.places)


def _namespaces(root: bool, terminal: bool) -> list[str]:
    """New namespaces of every kind; `--die-with-parent` and the PID namespace together leave no daemon behind."""
    user = ["--unshare-user", "--disable-userns", "--uid", str(INNER_UID), "--gid", str(INNER_UID)]
    kinds = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    keep = [part for name in ("SETUID", "SETGID", "SETPCAP") for part in ("--cap-add", f"CAP_{name}")]
    death = [
        "--die-with-parent",
        *([] if terminal else ["--new-session"]),
        "--as-pid-1",
        "--hostname",
        "sandbox",
        "--cap-drop",
        "ALL",
    ]
    return [*([] if root else user), *kinds, *death, *(keep if root else [])]


def _system(etc: dict[str, int]) -> list[str]:
    """The operating system read-only: /usr, the few files of /etc that programs need, and empty scratch space."""
    args = ["--ro-bind", "/usr", "/usr", *_parents([Path("/etc") / entry for entry in ETC])]
    for name in SYSTEM:
        path = Path("/") / name
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            args += ["--ro-bind", str(path), str(path)]
    for entry in ETC:
        args += ["--ro-bind-try", f"/etc/{entry}", f"/etc/{entry}"]
    for name, handle in etc.items():
        args += ["--perms", "0644", "--ro-bind-data", str(handle), f"/etc/{name}"]
    args += ["--proc", "/proc", "--dev", "/dev"]
    for scratch in ("/dev/shm", "/tmp"):
        args += ["--size", str(TMP_BYTES), "--perms", "1777", "--tmpfs", scratch]
    return args


def _mounts(box: Box) -> list[str]:
    """The interpreter, the harness and what the box names, each at its own path; later mounts lie over earlier ones."""
    always = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(sys.prefix), PACKAGE}
    readable = [*sorted(path for path in always if not path.is_relative_to("/usr")), *box.readable]
    writable = [*box.writable, *([box.home] if box.home else [])]
    args = _parents([*readable, *writable])
    args += [part for path in readable for part in ("--ro-bind", str(path), str(path))]
    args += [part for path in writable for part in ("--bind", str(path), str(path))]
    args += [part for path in box.frozen for part in ("--ro-bind", str(path), str(path))]
    for path in visible(box.hidden, [Path("/usr"), *readable, *writable]):
        args += ["--tmpfs", str(path), "--remount-ro", str(path)] if path.is_dir() else ["--ro-bind", str(EMPTY), str(path)]
    return args


def _gateway(box: Box) -> list[str]:
    """The socket that a relay of our init leads to: read-only, so it can be talked to and not replaced."""
    if not box.gateway or not box.gateway.socket:
        return []
    return [*_parents([Path(GATEWAY)]), "--ro-bind", str(box.gateway.socket), GATEWAY]


def _parents(paths: list[Path]) -> list[str]:
    """The folders above mounts, made passable: bubblewrap's own would be closed to the sandbox's uid."""
    above = {parent for path in paths for parent in path.parents if parent != Path("/")}
    return [part for path in sorted(above) for part in ("--perms", "0755", "--dir", str(path))]


def visible(paths: Iterable[Path], roots: list[Path]) -> list[Path]:
    """Those of `paths` that exist below one of `roots`, by every path that a sandbox sees them at: only they need a mask."""
    resolved = dict.fromkeys(path.resolve() for path in paths if path.exists())
    aliases = [(root, root.resolve()) for root in roots]
    return list(dict.fromkeys(seen / p.relative_to(true) for p in resolved for seen, true in aliases if p.is_relative_to(true)))


def _devices(box: Box) -> list[str]:
    """The GPU's device files, for boxes that train; CUDA also reads /sys. The rest of /dev is bubblewrap's own."""
    devices = [path for pattern in GPU_DEVICES for path in sorted(Path("/dev").glob(pattern))] if box.gpu else []
    args = [part for path in devices for part in ("--dev-bind", str(path), str(path))]
    args += ["--ro-bind", "/sys", "/sys"] if devices else []
    args += ["--ro-bind", str(EMPTY), str(MODPROBE)] if devices and MODPROBE.exists() else []
    return [*args, "--remount-ro", "/dev"]


def _environment(box: Box) -> list[str]:
    """Exactly `box.env`, and a HOME: the box's private one, else the empty /tmp."""
    env = {"TMPDIR": "/tmp", **gpus.visible(box), **box.env, "HOME": str(box.home or "/tmp")}
    return [part for name, value in sorted(env.items()) for part in ("--setenv", name, value)]


def _etc(uid: int) -> dict[str, str]:
    """The few files of /etc that are ours rather than the host's."""
    return {
        "passwd": f"agent:x:{uid}:{uid}:agent:/tmp:/bin/sh\n",
        "group": f"agent:x:{uid}:\n",
        "hosts": "127.0.0.1 localhost sandbox\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "gitconfig": "[safe]\n\tdirectory = *\n[user]\n\tname = agent\n\temail = agent@localhost\n",
    }


@contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """A file without a place on disk, to be inherited: a harness that is killed leaves none behind."""
    handle = os.memfd_create("harness")
    try:
        os.write(handle, data)
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


def _give(path: Path, uid: int) -> None:
    """Hand a file or a folder with its content to `uid`, following no link."""
    os.chown(path, uid, uid, follow_symlinks=False)
    for each in trees.walk(path):
        os.chown(each, uid, uid, follow_symlinks=False)
