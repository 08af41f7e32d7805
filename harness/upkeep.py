"""Keeps the disk in order: packs what the harness wrote into git, and removes what nobody will look at again.

Nothing here removes a record, a commit or a branch: those are the history. What goes can be made again or has been copied
into a record.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from harness import git, locks, trees
from harness.ledger import Ledger
from harness.process import clean_env, run
from harness.protocols import Launch
from harness.state import MEASURE, StateFolder

LOOSE_OBJECTS = 6700  # where `git gc --auto` begins, too
PACK_S = 600.0
MODEL = "what a run made; `harness replicate` makes it again"
KINDS = {
    "runs": "files of a void run",
    "worktrees": "worktree of a killed harness",
    "shelves": "what agents of a killed harness read",
    "homes": "an agent's home",
    "sessions": "ids of agents' sessions",
    "items": "values of single items",
}


@dataclass(frozen=True)
class Waste:
    """Something below the state folder that can go: what it is, and its size in bytes."""

    path: Path
    what: str
    size: int


def pack_if_needed(repo: git.Repo, state: StateFolder) -> None:
    """Pack loose objects and refs when there are many: packed ones are read ten times as fast, and a loose file takes a block."""
    if loose_objects(repo) > LOOSE_OBJECTS:
        pack(repo, state)
        repo.recent.clear()  # packed, and named by refs: nobody deletes them any more


def pack(repo: git.Repo, state: StateFolder) -> str:
    """Git's own packing, which drops nothing and leaves large packs as they are. Its complaint, if it had one.

    It runs in the user's git directory, which no agent can write to.
    """
    for command in (("repack", "--geometric=2", "-d", "-q"), ("pack-refs", "--all")):
        argv = ("git", f"--git-dir={git.common(repo)}", "-c", "core.hooksPath=/dev/null", *command)
        ended = run(Launch(argv, clean_env(), Path("/")), state.path / "logs" / "pack.log", PACK_S)
        if ended.code:
            return ended.tail.strip() or f"`git {command[0]}` failed with exit code {ended.code}"
    return ""


def waste(state: StateFolder, days: float, models: int) -> list[Waste]:
    """What can go: runs, worktrees and homes of tags that nobody works on, transcripts older than `days`, and of each night
    what was made by others than the `models` experiments that were kept last."""
    found, alive = [], {tag for tag in locks.tags(state.repo) if locks.held(state.repo, tag)}
    if any(Path(f"/proc/{path.name}").exists() for path in state.path.glob(f"runs/{MEASURE}/*")):
        alive.add(MEASURE)
    for kind, what in KINDS.items():
        left = [path for path in sorted(state.path.glob(f"{kind}/*")) if path.name not in alive]
        found += [Waste(path, what, trees.size(path)) for path in left if not path.is_dir() or any(path.iterdir())]
    if not alive:
        found += [Waste(path, "trusted files, exported", trees.size(path)) for path in sorted(state.path.glob("trusted/*"))]
        found += [Waste(path, "compiled code; runs fill it again", trees.size(path)) for path in sorted(state.caches.glob("*"))]
    oldest = time.time() - days * 86400
    logs = [log for log in sorted(state.path.glob("logs/*/*.log")) if log.stat().st_mtime < oldest]
    what = "transcript; its end is in the record"
    found += [Waste(log, what, trees.size(log)) for log in logs if log.parent.name not in alive]
    nights = sorted(state.models.glob("*"))
    return found + [Waste(path, MODEL, trees.size(path)) for night in nights for path in old_models(state.repo, night, models)]


def old_models(repo: git.Repo, night: Path, models: int) -> list[Path]:
    """What can go below the folder of a night: what closed experiments made, but for the last `models` that were merged, and for
    those that a person may still merge."""
    records = Ledger(repo, night.name).records()
    merged = [record.id for record in sorted(records, key=lambda record: record.merge or 0) if record.merged]
    needed = {*merged[-models:], *(record.id for record in records if record.status == "waiting" or record.state != "closed")}
    return [path for path in sorted(night.iterdir()) if path.name not in needed]


def remove(found: list[Waste]) -> None:
    """Remove it."""
    for each in found:
        trees.remove(each.path)


def loose_objects(repo: git.Repo) -> int:
    """About how many loose objects there are: one of 256 folders, counted, as git itself estimates it."""
    folder = git.common(repo) / "objects" / "17"
    return 256 * len(list(folder.iterdir())) if folder.is_dir() else 0


def git_megabytes(repo: git.Repo) -> float:
    """The size of the repository's objects."""
    return trees.size(git.common(repo) / "objects") / 1e6
