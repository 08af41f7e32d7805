"""What an agent left in its worktree -> a Proposal, in words a person can read. Text of agents is bounded and printable."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from harness import git, static
from harness.harvest import Harvest, Snapshot, Unusable, harvest
from harness.models import Outcome, Proposal, Task, Verdict
from harness.outcome import Said
from harness.protocols import Exit
from harness.simplicity import tokens

TITLE_CHARS = 100
TEXT_CHARS = 8000


def take(folder: Path, task: Task, before: Snapshot, notebook: str, litter: list[str]) -> tuple[Harvest | None, str]:
    """The harvest of a dead agent's worktree without the CLI's litter, and the reason why it cannot be used if there is one."""
    try:
        found = harvest(folder, task.editable, task.limits.editable_kb << 10, before, notebook)
    except Unusable as reason:
        return None, str(reason)
    left = [name for name in found.dropped if not any(fnmatchcase(name, glob) for glob in litter)]
    refused = (static.problem(name, data, task.limits) for name, data in found.files.items())
    return replace(found, dropped=left), next(filter(None, refused), "")


def describe(ended: Exit, said: Said, found: Harvest | None, outcome: Outcome, version: str) -> Proposal:
    """What the agent said of its change: EXPERIMENT.md, or else its last message."""
    spoke = outcome.kind in ("changed", "unchanged", "refused_file")
    title, hypothesis = titled((found.experiment if found else "") or (said.text if spoke else ""))
    return Proposal(
        title=title or ("untitled change" if spoke else "no proposal"),
        hypothesis=hypothesis,
        agent_version=version,
        seconds=round(ended.seconds, 3),
        exit_code=ended.code,
        outcome=Outcome(kind=outcome.kind, reason=printable(outcome.reason)),
        dropped=[printable(name) for name in (found.dropped if found else [])],
        notebook=printable(found.notebook if found else ""),
    )


def titled(text: str) -> tuple[str, str]:
    """What an agent wrote of its change, as title and hypothesis; empty where it wrote none."""
    first, _, rest = text.partition("\n")
    return printable(first).lstrip("# ").strip()[:TITLE_CHARS], printable(rest).strip()[:TEXT_CHARS]


def nothing_changed(outcome: Outcome) -> Verdict:
    """Invalid when the agent chose to change nothing. Void when it failed or was kept from working: no idea was tried."""
    return Verdict(status="invalid" if outcome.kind == "unchanged" else "void", reason=printable(outcome.reason))


def added(repo: git.Repo, before: dict[str, str], changed: dict[str, str | None]) -> int:
    """Tokens of code that a change adds."""
    count = 0
    for name, blob in changed.items():
        count += tokens(name, git.read(repo, blob) if blob else None)
        count -= tokens(name, git.read(repo, before[name]) if name in before else None)
    return count


def printable(text: str) -> str:
    """Text without control characters, so that it can neither move a cursor nor forge a line of a log."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char)[0] != "C")


def slug(title: str) -> str:
    """A title as the end of a branch name."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "change"
