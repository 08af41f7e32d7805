"""Version managers put a stand-in for each program on PATH, which looks for the real one anew at each start, all over the home.

No sandbox shows them a home. So they are asked out here, once, which program they mean: pyenv, nodenv, asdf, mise and Volta.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from harness.process import run
from harness.protocols import Launch

ASK_S = 20.0
SCRIPT = re.compile(r'\bexec\s+"?([^\s"]*\b(?:pyenv|nodenv|asdf|mise))"?\s+exec\b')
BINARIES = {"volta-shim": "volta", "mise": "mise"}  # what a stand-in is a link to, and whom to ask


def manager(path: Path) -> str:
    """The program of the version manager that a file on PATH is a stand-in of; empty when it is none."""
    true = path.resolve()
    if true.name in BINARIES and path.name not in ("mise", "volta"):
        return str(true.with_name(BINARIES[true.name]))
    try:
        with path.open("rb") as file:
            head = file.read(2048)
    except OSError:
        return ""
    found = SCRIPT.search(head.decode("utf-8", "replace")) if head.startswith(b"#!") else None
    return found[1] if found else ""


@cache
def behind(path: Path) -> Path | None:
    """The program that a file on PATH stands for: itself, as a rule; None for a stand-in with nothing behind it."""
    if not (asked := manager(path)):
        return path
    try:
        ended = run(Launch((asked, "which", path.name), dict(os.environ), Path.cwd()), Path(os.devnull), ASK_S)
    except OSError:
        return None
    lines = [Path(line) for line in ended.tail.split("\n") if line.startswith("/")]
    return lines[-1] if ended.code == 0 and lines and os.access(lines[-1], os.X_OK) else None
