"""The view repository: a bare mirror of lab branches, which is all of git that agents may see. Worktrees hang off it.

It holds the history since a lab branch began. The user's git directory is never shown: its refs hold exact scores, every
private branch, the stash and perhaps a token.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import git, locks, refs, trees

# No filters: what an agent edits are the bytes that git has, whatever .gitattributes says of line ends or of LFS.
RAW_BYTES = "* -text -eol -ident -filter -working-tree-encoding\n"
UNTRACKED = "/lab/\n/notes/\n__pycache__/\n"


def open_mirror(path: Path, tag: str) -> git.Repo:
    """The bare repository at `path`, made when it is not there, without what a killed harness left of `tag`."""
    if not (path / "HEAD").exists():
        partial = path.with_name(f"{path.name}.{tag}")
        trees.remove(partial)
        git.init_bare(partial)
        (partial / "info").mkdir(exist_ok=True)
        (partial / "info" / "exclude").write_text(UNTRACKED)
        (partial / "info" / "attributes").write_text(RAW_BYTES)
        with suppress(OSError):  # another tag's harness was quicker
            partial.rename(path)
    mirror = git.Repo(str(path))
    locks.break_stale(mirror, [f"refs/heads/autoresearch/{tag}", f"refs/heads/{tag}-*"])
    for name in mirror.list_worktrees():
        if name.rpartition("-")[0] == tag:
            remove_worktree(mirror, name)
    return mirror


def reflect(mirror: git.Repo, source: git.Repo, ref: str, first: str, base: str) -> None:
    """Bring `ref` up to date with `source`, and `base`. The history begins at the commit `first`, as in a shallow clone.

    Copied by objects rather than by a fetch: it costs the same on a repository of gigabytes, and works from a shallow clone.
    """
    tip, shallow = refs.resolve(source, ref), Path(mirror.path) / "shallow"
    assert tip is not None
    roots = shallow.read_text().split() if shallow.exists() else []
    if first not in roots:
        shallow.write_text("".join(f"{root}\n" for root in [*roots, first]))
    commits, waiting = [], [tip, base]
    while waiting:
        if (name := waiting.pop()) not in mirror and name not in commits:
            commits.append(name)
            waiting += git.parents(source, name) if name != first else []
    for name in reversed(commits):
        _copy_tree(mirror, source, source[git.tree(source, name)])
        _copy(mirror, source, source[name])
    mirror.references.create(ref, tip, force=True)


def _copy_tree(mirror: git.Repo, source: git.Repo, tree: Any) -> None:
    """A tree after everything it names, so that a copy which was killed is never taken for a whole one."""
    if tree.id in mirror:
        return
    for entry in tree:
        if entry.type_str == "tree":
            _copy_tree(mirror, source, entry)
        elif entry.type_str == "blob":
            _copy(mirror, source, entry)
    _copy(mirror, source, tree)


def _copy(mirror: git.Repo, source: git.Repo, found: Any) -> None:
    kind, data, *_ = source.odb.read(found.id)
    mirror.odb.write(kind, data)


def add_worktree(mirror: git.Repo, name: str, folder: Path, commit: str) -> None:
    """A work tree at `folder`, on a branch of the same `name`; what an earlier one left is removed first."""
    trees.remove(folder)
    remove_worktree(mirror, name)
    branch = mirror.branches.local.create(name, mirror.revparse_single(commit).peel(git.Commit))
    mirror.add_worktree(name, str(folder), branch)


def remove_worktree(mirror: git.Repo, name: str) -> None:
    """Remove registration and branch of a worktree whose folder is gone, in the order that leaves nothing dangling."""
    if name in mirror.list_worktrees():
        mirror.lookup_worktree(name).prune(True)
    refs.delete(mirror, f"refs/heads/{name}")
