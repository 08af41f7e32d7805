"""What a command has to begin with to run on another kind of machine: with a readable interpreter, in a container."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from harness.process import PACKAGE
from harness.sandboxes.reach import Who, closed_above

# A filter as Docker has it, by x86-64's numbers: argv[1] lists what fails with EPERM.
FILTER = """
import ctypes, os, struct, sys
step = lambda code, value, yes=0, no=0: struct.pack("=HBBI", code, yes, no, value)
code = step(0x20, 0) + b"".join(step(0x15, int(n), 0, 1) + step(6, 0x50001) for n in sys.argv[1].split(",")) + step(6, 0x7FFF0000)
class Program(ctypes.Structure): _fields_ = [("count", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc, held = ctypes.CDLL(None), ctypes.create_string_buffer(code, len(code))
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, ctypes.addressof(held))), 0, 0) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"""
DOCKERS_CAPS = (
    "chown,dac_override,fsetid,fowner,mknod,net_raw,setgid,setuid,setfcap,setpcap,net_bind_service,sys_chroot,kill,audit_write"
)
NAMESPACES = ("165", "272", "308", "166", PIVOT_ROOT := "155")  # mount, unshare, setns, umount2, pivot_root
ANYBODY = Who(60901, (60901, 60900))


def readable() -> list[str]:
    """Where every user can run our Python: a mount namespace in which a closed folder, such as root's home, shows only it."""
    needed = dict.fromkeys((sys.base_prefix, sys.prefix, str(PACKAGE.parent)))
    shut = list(dict.fromkeys(top for path in needed for top in closed_above(Path(path), ANYBODY)[:1]))
    if not shut:
        return []
    kept = [path for path in needed if any(Path(path).is_relative_to(top) for top in shut)]
    lines = ["set -e", "mount --make-rprivate /", "stash=$(mktemp -d)", "mount -t tmpfs stash $stash"]
    for index, path in enumerate(map(shlex.quote, kept)):
        lines += [f"mkdir $stash/{index}", f"mount --bind {path} $stash/{index}"]
    lines += [f"mount -t tmpfs -o mode=711 closed {shlex.quote(str(top))}" for top in shut]
    for index, path in enumerate(map(shlex.quote, kept)):
        lines += [f"mkdir -p {path}", f"mount --bind $stash/{index} {path}"]
    lines += ["umount -l $stash", "rmdir $stash", 'exec "$@"']
    return ["unshare", "-m", "sh", "-c", "; ".join(lines), "sh"]


def missing() -> str:
    """Why the sandbox cannot be tried here; empty when it can."""
    if os.getuid():
        return "the sandbox uid needs root"
    return "" if shutil.which("unshare") else "unshare is not installed"


def filtered(*calls: str) -> list[str]:
    return ["/usr/bin/python3", "-c", FILTER, ",".join(calls)]


def with_caps(*extra: str) -> list[str]:
    caps = ",".join(f"+{name}" for name in (*DOCKERS_CAPS.split(","), *extra))
    return ["setpriv", "--bounding-set", f"-all,{caps}", "--inh-caps", "-all"]
