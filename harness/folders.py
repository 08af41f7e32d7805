"""Where this machine keeps what can be lost, and how a file there is written. What is in it is state.py's.

Referees and sandboxes need no more than this, and start sooner without what state.py knows of git.
"""

from __future__ import annotations

import os
from pathlib import Path


def base() -> Path:
    """Where the folders of all repositories lie."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "harness"


def replace(path: Path, text: str) -> None:
    """Write a file in one step: whoever reads it, now or after a crash, sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f"{path.suffix}.partial")
    partial.write_text(text)
    partial.replace(path)
