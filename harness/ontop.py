"""Changes of commits on top of other commits, in memory: no work tree and no index of anybody is touched."""

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
    """What `commit` changed since `base`, made again on `onto`: git's three-way merge of the trees."""
    index = repo.merge_trees(git.tree(repo, base), git.tree(repo, onto), git.tree(repo, commit))
    if index.conflicts:
        names = {entry.path for sides in index.conflicts for entry in sides if entry}
        return Combined(conflicts=sorted(names))
    before = git.entries(repo, onto)
    after = {entry.path: (str(entry.id), int(entry.mode)) for entry in index if entry.mode != SUBMODULE}
    changed: dict[str, str | None] = {path: entry[0] for path, entry in after.items() if before.get(path) != entry}
    changed |= dict.fromkeys(before.keys() - after.keys())
    for blob in filter(None, changed.values()):
        git.write(repo, git.read(repo, blob))  # so that it is remembered: no ref names it yet
    return Combined(git.tree_with(repo, onto, changed), changed)


def descends(repo: git.Repo, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` lies in the history of a commit, or is it."""
    return commit == ancestor or bool(repo.descendant_of(commit, ancestor))


def held_by(repo: git.Repo, tip: str, commit: str) -> str | None:
    """The commit on a branch's first-parent line by which it holds `commit`: a merge of it, itself, or a copy of its tree."""
    tree, base, now = git.tree(repo, commit), git.parents(repo, commit)[:1], tip
    while [now] != base:
        first, *others = git.parents(repo, now) or [""]
        if now == commit or commit in others or git.tree(repo, now) == tree:
            return now
        if not first:
            return None
        now = first
    return None


def author_of(repo: git.Repo, commit: str) -> str:
    """The name and address of a commit's author."""
    found = repo[commit].peel(git.Commit).author
    return f"{found.name} <{found.email}>"
