"""Sandboxes that outlived their harness.

bubblewrap dies with its parent, and what it runs dies with it. But between making the process inside and waking it there is a
moment in which its own death is not noticed in there: that process then waits for ever, before it has run anything.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def end(folders: Iterable[Path]) -> list[int]:
    """End every bubblewrap that shows something below the folders, which nobody else works in; the ids of these processes."""
    names = [f"{os.path.normpath(folder)}/".encode() for folder in folders]
    found = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit() and _shows(each, names)]
    for process in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    return found


def _shows(process: Path, names: list[bytes]) -> bool:
    with suppress(OSError):
        program, *args = (process / "cmdline").read_bytes().split(b"\0")
        return program.rpartition(b"/")[2] == b"bwrap" and any((arg + b"/").startswith(name) for arg in args for name in names)
    return False
