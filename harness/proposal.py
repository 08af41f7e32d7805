"""What an agent left in its worktree -> a Proposal, in words a person can read. Text of agents is bounded and printable."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from harness import static
from harness.harvest import Harvest, Snapshot, Unusable, harvest
from harness.models import Proposal, Task, Verdict
from harness.protocols import Exit

TITLE_CHARS = 100
TEXT_CHARS = 8000


def take(folder: Path, task: Task, before: Snapshot, notebook: str) -> tuple[Harvest | None, str]:
    """The harvest of a dead agent's worktree, and the reason why it cannot be used if there is one."""
    try:
        found = harvest(folder, task.editable, task.limits.editable_kb << 10, before, notebook)
    except Unusable as reason:
        return None, str(reason)
    refused = (static.problem(name, data, task.limits) for name, data in found.files.items())
    return found, next(filter(None, refused), "")


def describe(ended: Exit, found: Harvest | None, refused: str, version: str, ok: list[int]) -> Proposal:
    """What the agent said of its change: EXPERIMENT.md, or else the end of its output. `ok` are exit codes that mean success."""
    said = (found.experiment if found else "") or ended.tail.strip()[-2000:]
    first, _, rest = said.partition("\n")
    return Proposal(
        title=printable(first).lstrip("# ").strip()[:TITLE_CHARS] or "untitled change",
        hypothesis=printable(rest).strip()[:TEXT_CHARS],
        agent_version=version,
        seconds=round(ended.seconds, 3),
        exit_code=ended.code,
        outcome="refused_file"
        if refused
        else "timeout"
        if ended.timed_out
        else "failed"
        if ended.exceeded or ended.code not in ok
        else "changed",
        reason=refused or ended.exceeded,
        dropped=[printable(name) for name in (found.dropped if found else [])],
        notebook=printable(found.notebook if found else ""),
    )


def nothing_changed(ended: Exit, ok: list[int]) -> Verdict:
    """Void when the agent failed or ran out of time or room: then no idea was tried. Otherwise it chose to change nothing."""
    if ended.exceeded:
        return Verdict(status="void", reason=f"the agent {ended.exceeded}")
    if ended.timed_out:
        return Verdict(status="void", reason=f"the agent changed nothing within {ended.seconds:.0f} s")
    if ended.code not in ok:
        last = next((line.strip() for line in reversed(ended.tail.splitlines()) if line.strip()), "it printed nothing")
        return Verdict(status="void", reason=f"the agent failed with exit code {ended.code}: {printable(last)[:300]}")
    return Verdict(status="invalid", reason="the agent changed nothing")


def printable(text: str) -> str:
    """Text without control characters, so that it can neither move a cursor nor forge a line of a log."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char)[0] != "C")


def slug(title: str) -> str:
    """A title as the end of a branch name."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "change"
