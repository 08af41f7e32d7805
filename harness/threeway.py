"""Three-way merges of text, in memory: no work tree, no index on the disk, no merge driver of the user's."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from harness import git
from harness.git import Repo


def merge(repo: Repo, base: str, ours: str, theirs: str) -> str | None:
    """The tree of what two commits made of `base`, their common ancestor, together; None where their texts conflict."""
    ancestor, mine, other = (repo[git.tree(repo, name)].id for name in (base, ours, theirs))
    if repo.merge_trees(ancestor, mine, other).conflicts is not None:
        return None

    def make() -> Any:
        return repo.merge_trees(ancestor, mine, other).write_tree(repo)

    name = git.made(repo, make)
    top: Any = repo[name]
    before = git.entries(repo, ours)
    for entry in repo.merge_trees(ancestor, mine, other):
        if before.get(entry.path, ("", 0))[0] != str(entry.id):
            for part in (entry.path, *map(str, PurePosixPath(entry.path).parents[:-1])):
                repo.remember(top[part].id)
    return name
