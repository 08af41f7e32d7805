"""The interpreter where every user can run it, for the tests of the sandbox `uid`: below a closed home nobody else may enter."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from harness.process import PACKAGE
from harness.sandboxes.reach import Who, closed_above

ANYBODY = Who(60901, (60901, 60900))


def prefix() -> list[str]:
    """What a command has to begin with so that others can run our Python: a namespace in which a closed folder shows only it."""
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
