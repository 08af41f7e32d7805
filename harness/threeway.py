"""Changes of commits on top of other commits, by git's three-way merge: no work tree, no index on the disk, no merge driver."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness import git

SUBMODULE = 0o160000


@dataclass(frozen=True)
class Combined:
    """What comes out: a tree, and the blobs in which it differs from what it was put upon, None where a file was removed.

    With `conflicts`, the files that a person would have to merge, there is no tree.
    """

    tree: str = ""
    changed: dict[str, str | None] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)


def on_top(repo: git.Repo, onto: str, commit: str, base: str) -> Combined:
    """What `commit` changed since `base`, made again on `onto`."""
    ancestor, ours, theirs = (repo[git.tree(repo, name)].id for name in (base, onto, commit))
    index = repo.merge_trees(ancestor, ours, theirs)
    if index.conflicts is not None:
        names = {entry.path for sides in index.conflicts for entry in sides if entry}
        return Combined(conflicts=sorted(names))
    before = git.entries(repo, onto)
    after = {entry.path: (str(entry.id), int(entry.mode)) for entry in index if entry.mode != SUBMODULE}
    changed: dict[str, str | None] = {path: entry[0] for path, entry in after.items() if before.get(path) != entry}
    changed |= dict.fromkeys(before.keys() - after.keys())
    for blob in filter(None, changed.values()):
        git.write(repo, git.read(repo, blob))  # so that it is remembered: no ref names it yet
    return Combined(git.tree_with(repo, onto, changed), changed)
