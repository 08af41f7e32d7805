"""Small flat functions over pygit2, which is imported nowhere else. No hook, filter or fsmonitor ever runs.

Commits and blobs are named by their 40 hex digits. Every change of a ref is a compare-and-swap.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pygit2
from pygit2.enums import FileMode, SortMode

from harness.models import UserError

Repo = pygit2.Repository
HARNESS = ("harness", "harness@localhost")


class RefMoved(Exception):
    """Somebody else moved a ref between our reading and our writing it."""


def open_repo(path: Path) -> Repo:
    """The repository that `path` lies in; it has to have a commit."""
    found = pygit2.discover_repository(str(path))
    if found is None:
        raise UserError(f"{path} is not in a git repository: run `git init` and commit your files, or go to your clone")
    repo = pygit2.Repository(found)
    if repo.head_is_unborn:
        raise UserError(f"the repository at {root(repo)} has no commits: commit the files of your task first")
    return repo


def root(repo: Repo) -> Path:
    """The top of the work tree, or the git directory of a bare repository."""
    return Path(repo.workdir or repo.path).resolve()


def open_view(path: Path) -> Repo:
    """The bare view repository at `path`, made when it is not there; agents may read it, so it holds lab history only."""
    if (path / "HEAD").exists():
        return pygit2.Repository(str(path))
    view = pygit2.init_repository(str(path), bare=True)
    (path / "info").mkdir(exist_ok=True)
    (path / "info" / "exclude").write_text("/lab/\n/notes/\n__pycache__/\n")
    return view


def fetch(view: Repo, source: Repo, ref: str) -> None:
    """Bring `ref` and its history from `source` into `view` under the same name."""
    view.remotes.create_anonymous(source.path).fetch([f"+{ref}:{ref}"])


def head(repo: Repo) -> str:
    """The commit that is checked out."""
    return str(repo.head.peel(pygit2.Commit).id)


def checked_out(repo: Repo, ref: str) -> bool:
    """Whether some work tree of the repository has `ref` checked out."""
    heads = [Path(repo.path) / "HEAD", *(Path(repo.path) / "worktrees").glob("*/HEAD")]
    return any(head.exists() and head.read_text().strip() == f"ref: {ref}" for head in heads)


def resolve(repo: Repo, ref: str) -> str | None:
    """The commit that `ref` points at, or None."""
    try:
        return str(repo.references[ref].peel(pygit2.Commit).id)
    except KeyError:
        return None


def refs(repo: Repo, prefix: str) -> list[str]:
    """Every ref below `prefix`, sorted."""
    return sorted(name for name in repo.references if name.startswith(prefix))


def swap(repo: Repo, ref: str, new: str, old: str | None) -> None:
    """Move `ref` from `old` to `new`; None creates it. RefMoved when it is not at `old` any more."""
    try:
        if old is None:
            repo.references.create(ref, new)
            return
        reference = repo.references[ref]
        if str(reference.target) != old:
            raise RefMoved(ref)
        reference.set_target(new)
    except (KeyError, pygit2.GitError, pygit2.AlreadyExistsError) as error:
        raise RefMoved(f"{ref}: {error}") from error


def delete(repo: Repo, ref: str) -> None:
    """Delete `ref`; harmless when it is gone."""
    with suppress(KeyError):
        repo.references[ref].delete()


def parents(repo: Repo, commit: str) -> list[str]:
    """The parents of a commit."""
    return [str(parent) for parent in _commit(repo, commit).parent_ids]


def tree(repo: Repo, commit: str) -> str:
    """The tree of a commit."""
    return str(_commit(repo, commit).tree.id)


def first_parents(repo: Repo, commit: str) -> Iterator[str]:
    """The commit and its first-parent ancestors."""
    walk = repo.walk(commit, SortMode.TOPOLOGICAL)
    walk.simplify_first_parent()
    return (str(found.id) for found in walk)


def files(repo: Repo, commit: str) -> dict[str, str]:
    """Path -> blob id of every file of a commit; links and submodules are left out."""
    return {path: str(entry.id) for path, entry in _walk(_commit(repo, commit).tree, "") if entry.filemode != FileMode.LINK}


def read(repo: Repo, blob: str) -> bytes:
    """The bytes of a blob."""
    found = repo[blob]
    assert isinstance(found, pygit2.Blob)
    return bytes(found.data)


def write(repo: Repo, data: bytes) -> str:
    """Store `data`; the id of its blob."""
    return str(repo.create_blob(data))


def tree_of(repo: Repo, contents: dict[str, bytes]) -> str:
    """A new flat tree of the given files."""
    builder = repo.TreeBuilder()
    for name, data in contents.items():
        builder.insert(name, repo.create_blob(data), FileMode.BLOB)
    return str(builder.write())


def tree_with(repo: Repo, commit: str, blobs: dict[str, str]) -> str:
    """The tree of `commit` with some files replaced, mode 100644."""
    index = pygit2.Index()
    index.read_tree(_commit(repo, commit).tree)
    for path, blob in blobs.items():
        index.add(pygit2.IndexEntry(path, pygit2.Oid(hex=blob), FileMode.BLOB))
    return str(index.write_tree(repo))


def commit(repo: Repo, tree_id: str, parent_ids: list[str], message: str, author: tuple[str, str] = HARNESS) -> str:
    """A new commit that no ref points at yet; the committer is the harness."""
    return str(repo.create_commit(None, pygit2.Signature(*author), pygit2.Signature(*HARNESS), message, tree_id, parent_ids))


def message(repo: Repo, commit_id: str) -> str:
    """The message of a commit."""
    return _commit(repo, commit_id).message


def diff(repo: Repo, old: str, new: str) -> str:
    """The unified diff between the trees of two commits, as text."""
    return repo.diff(_commit(repo, old), _commit(repo, new)).patch or ""


def export(repo: Repo, commit_id: str, folder: Path) -> None:
    """Write the files of a commit into `folder`: plain files and links, no filter, no submodule."""
    for path, entry in _walk(_commit(repo, commit_id).tree, ""):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.filemode == FileMode.LINK:
            target.symlink_to(os.fsdecode(bytes(entry.data)))
        else:
            target.write_bytes(entry.data)
            target.chmod(0o755 if entry.filemode == FileMode.BLOB_EXECUTABLE else 0o644)


def add_worktree(view: Repo, name: str, folder: Path, commit_id: str) -> None:
    """A work tree of `view` at `folder`, on a branch of the same `name`; what an earlier one left is removed first."""
    remove_worktree(view, name, folder)
    branch = view.branches.local.create(name, _commit(view, commit_id))
    view.add_worktree(name, str(folder), branch)


def remove_worktree(view: Repo, name: str, folder: Path) -> None:
    """Remove folder, registration and branch, in the order that leaves nothing dangling."""
    shutil.rmtree(folder, ignore_errors=True)
    if name in view.list_worktrees():
        view.lookup_worktree(name).prune(True)
    delete(view, f"refs/heads/{name}")


def _commit(repo: Repo, name: str) -> pygit2.Commit:
    found = repo[name]
    assert isinstance(found, pygit2.Commit)
    return found


def _walk(tree_object: pygit2.Tree, prefix: str) -> Iterator[tuple[str, pygit2.Blob]]:
    for entry in tree_object:
        path = f"{prefix}{entry.name}"
        if isinstance(entry, pygit2.Tree):
            yield from _walk(entry, f"{path}/")
        elif isinstance(entry, pygit2.Blob):
            yield path, entry
