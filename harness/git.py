"""Small flat functions over pygit2, which is imported nowhere else. No hook, filter or fsmonitor ever runs.

Commits and blobs are named by their 40 hex digits; refs.py moves what names them.
"""

from __future__ import annotations

import errno
import os
import platform
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import pygit2
from pygit2.enums import FileMode, ObjectType

from harness.models import UserError

Commit = pygit2.Commit
GitError = pygit2.GitError
Callbacks = pygit2.RemoteCallbacks
UserPass = pygit2.UserPass
HARNESS = ("harness", "harness@localhost")
TRIES, VANISHED = 10, "No such file or directory"
RECENT_OBJECTS = 100  # those of the last few experiments
LINK: int = FileMode.LINK


class Repo(pygit2.Repository):
    """A repository that remembers the last objects written: `git gc --prune=now` in another terminal deletes what was
    written, and not yet named by a ref, while it looked. Before a ref is moved they are written again if they are gone.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.recent: deque[tuple[Path, int, bytes]] = deque(maxlen=RECENT_OBJECTS)
        self.objects = common(self) / "objects"

    def remember(self, name: pygit2.Oid) -> None:
        """Keep an object that was just written."""
        kind, data, *_ = self.odb.read(name)
        self.recent.append((self.objects / str(name)[:2] / str(name)[2:], kind, data))


def open_repo(path: Path) -> Repo:
    """The repository that `path` lies in; it has to have a commit."""
    found = pygit2.discover_repository(str(path))
    if found is None:
        raise UserError(f"{path} is not in a git repository: run `git init` and commit your files, or go to your clone")
    repo = Repo(found)
    if repo.head_is_unborn:
        raise UserError(f"the repository at {root(repo)} has no commits: commit the files of your task first")
    return repo


def root(repo: Repo) -> Path:
    """The top of the work tree, or the git directory of a bare repository."""
    return Path(repo.workdir or repo.path).resolve()


def common(repo: Repo) -> Path:
    """The git directory that all work trees of the repository share."""
    pointer = Path(repo.path) / "commondir"
    return (Path(repo.path) / pointer.read_text().strip()).resolve() if pointer.exists() else Path(repo.path)


def init_bare(path: Path) -> None:
    """Make an empty bare repository."""
    pygit2.init_repository(str(path), bare=True)


def head(repo: Repo) -> str:
    """The commit that is checked out."""
    return str(repo.head.peel(pygit2.Commit).id)


def commit_of(repo: Repo, name: str) -> str:
    """The commit of a branch, a tag or an abbreviated id, as people write it."""
    try:
        return str(repo.revparse_single(name).peel(pygit2.Commit).id)
    except (KeyError, ValueError, pygit2.InvalidSpecError) as error:
        raise UserError(f"{name!r} is neither a file nor a commit of {root(repo)}: `git log` lists the commits") from error


def person(repo: Repo) -> str:
    """Who works here, as git would name the author of a commit, or else the user id and the machine."""
    try:
        found = repo.default_signature
        return f"{found.name} <{found.email}>"
    except (KeyError, pygit2.GitError):
        return f"uid {os.getuid()} on {platform.node()}"


def valid_name(ref: str) -> bool:
    """Whether git would take this as the full name of a ref."""
    return bool(pygit2.reference_is_valid_name(ref))


def parents(repo: Repo, commit: str) -> list[str]:
    """The parents of a commit."""
    return [str(parent) for parent in _commit(repo, commit).parent_ids]


def tree(repo: Repo, commit: str) -> str:
    """The tree of a commit."""
    return str(_commit(repo, commit).tree.id)


def files(repo: Repo, commit: str) -> dict[str, str]:
    """Path -> blob id of every file of a commit; links and submodules are left out."""
    return {path: blob for path, (blob, mode) in entries(repo, commit).items() if mode != FileMode.LINK}


def entries(repo: Repo, commit: str) -> dict[str, tuple[str, int]]:
    """Path -> blob id and mode of every file and link of a commit; submodules are left out."""
    return {path: (str(entry.id), entry.filemode) for path, entry in _walk(_commit(repo, commit).tree, "")}


def file(repo: Repo, commit: str, name: str) -> bytes | None:
    """The bytes of one file at the top of a commit, or None."""
    tree = _commit(repo, commit).tree
    found = tree[name] if name in tree else None  # noqa: SIM401 - a tree has no `get`
    return bytes(found.data) if isinstance(found, pygit2.Blob) else None


def read(repo: Repo, blob: str) -> bytes:
    """The bytes of a blob."""
    found = repo[blob]
    assert isinstance(found, pygit2.Blob)
    return bytes(found.data)


def write(repo: Repo, data: bytes) -> str:
    """Store `data`; the id of its blob."""
    name = pygit2.hash(data)
    repo.recent.append((repo.objects / str(name)[:2] / str(name)[2:], ObjectType.BLOB, data))
    return str(_put(repo, ObjectType.BLOB, data))


def tree_of(repo: Repo, contents: dict[str, bytes], before: str | None = None) -> str:
    """A flat tree of the given files, on top of those of the commit `before`."""
    blobs = {name: write(repo, data) for name, data in contents.items()}

    def make() -> pygit2.Oid:
        builder = repo.TreeBuilder(_commit(repo, before).tree) if before else repo.TreeBuilder()
        for name, blob in blobs.items():
            builder.insert(name, pygit2.Oid(hex=blob), FileMode.BLOB)
        return builder.write()

    return made(repo, make)


def tree_with(repo: Repo, commit: str, blobs: Mapping[str, str | None]) -> str:
    """The tree of `commit` with some files replaced, mode 100644, or removed where the blob is None."""

    def make() -> pygit2.Oid:
        index = pygit2.Index()
        index.read_tree(_commit(repo, commit).tree)
        for path, blob in blobs.items():
            if blob is None:
                index.remove(path)
            else:
                index.add(pygit2.IndexEntry(path, pygit2.Oid(hex=blob), FileMode.BLOB))
        return index.write_tree(repo)

    name = made(repo, make)
    above = {str(folder) for path in blobs for folder in PurePosixPath(path).parents[:-1]}
    top = repo[name]
    assert isinstance(top, pygit2.Tree)
    for folder in above:
        if folder in top:
            repo.remember(top[folder].id)
    return name


def commit(repo: Repo, tree_id: str, parent_ids: list[str], message: str, author: tuple[str, str] = HARNESS) -> str:
    """A new commit that no ref points at yet; the committer is the harness."""
    names = pygit2.Signature(*author), pygit2.Signature(*HARNESS)
    return made(repo, lambda: repo.create_commit(None, *names, message, tree_id, parent_ids))


def made(repo: Repo, make: Callable[[], pygit2.Oid]) -> str:
    """The id of a new tree or commit that is really there: it may be gone at once, or what it names may be (see Repo), and on
    a full disk libgit2 1.9 returns an id for a commit that it could not write.
    """
    for _ in range(TRIES):
        try:
            name = make()
            repo.remember(name)
            return str(name)
        except OSError as error:
            if VANISHED not in str(error):
                raise
        except (KeyError, ValueError, pygit2.GitError):
            pass
        ensure(repo)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(repo.objects))


def ensure(repo: Repo) -> None:
    """Write the last objects again if they are gone."""
    for path, kind, data in repo.recent:
        if not path.exists():  # packed, or gone
            _put(repo, kind, data)


def _put(repo: Repo, kind: int, data: bytes) -> pygit2.Oid:
    """Write an object, again when a collection removed the folder that it was to lie in."""
    for left in reversed(range(TRIES)):
        try:
            return repo.odb.write(kind, data)
        except OSError as error:
            if VANISHED not in str(error) or not left:
                raise
    raise AssertionError


def diff(repo: Repo, old: str, new: str) -> str:
    """The unified diff between the trees of two commits, as text."""
    return repo.diff(_commit(repo, old), _commit(repo, new)).patch or ""


def export(repo: Repo, commit_id: str, folder: Path, wanted: Callable[[str], bool] = lambda _path: True) -> None:
    """Write the files of a commit that are wanted into `folder`: plain files and links, no filter, no submodule."""
    for path, entry in _walk(_commit(repo, commit_id).tree, ""):
        if not wanted(path):
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.filemode == FileMode.LINK:
            target.symlink_to(os.fsdecode(bytes(entry.data)))
        else:
            target.write_bytes(entry.data)
            target.chmod(0o755 if entry.filemode == FileMode.BLOB_EXECUTABLE else 0o644)


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
