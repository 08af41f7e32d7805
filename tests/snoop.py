"""Looks for numbers like exact scores in everything that it can read, and prints them; ROOT is where it begins.

An agent runs it, and a candidate; see test_disclosure.py. Git objects are looked into wherever a git directory lies.
"""

import itertools
import os
import re
import stat
import subprocess
import sys
import zlib

ROOT = "/"
LIKE_A_SCORE = re.compile(rb"(?<![\d.])[1-9]\d{3}\.\d+")
STATIC = {"/proc", "/sys", "/dev/pts", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", sys.prefix, sys.base_prefix}
found: set[bytes] = set()


def look(data: bytes) -> None:
    found.update(LIKE_A_SCORE.findall(data))


def read(path: str) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return
        with open(path, "rb") as file:  # noqa: PTH123 - links of /proc are files of others
            data = file.read(8 << 20)
        look(data)
        look(zlib.decompress(data) if data[:1] == b"\x78" else b"")
    except (OSError, zlib.error):
        pass


def git(folder: str, *command: str) -> None:
    argv = ["git", "-c", "safe.directory=*", "-C", folder, *command]
    look(subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL).stdout)


look(b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read())  # the prompt
look(repr(os.environ).encode())
for folder, folders, files in itertools.chain(os.walk(ROOT), os.walk(".")):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in STATIC]  # noqa: PTH118
    for name in files:
        read(os.path.join(folder, name))  # noqa: PTH118
    if "objects" in folders or ".git" in [*folders, *files]:
        git(folder, "cat-file", "--batch-all-objects", "--batch")
        git(folder, "log", "--all", "-p", "--format=%B%N")
        git(folder, "log", "--all", "--reflog", "--format=%B")
        git(folder, "for-each-ref", "--format=%(contents)")
for process in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
    for name in ("cmdline", "environ"):
        read(f"/proc/{process}/{name}")
    try:
        handles = os.listdir(f"/proc/{process}/fd")  # noqa: PTH208
    except OSError:
        continue
    for handle in handles:
        read(f"/proc/{process}/fd/{handle}")
print("SEEN", b" ".join(sorted(found)).decode())
