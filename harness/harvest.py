"""What comes out of a worktree: the bytes of the editable files that an agent changed, and its notes.

Nothing is read before the agent's whole process tree is dead, and then without following a link. What changed is told by
two snapshots, from before its work and from after it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.patterns import OURS, editable, may_hold

MAX_NOTE_BYTES = 16 << 10
MAX_CHANGED_FILES = 200
MAX_CHANGED = 16  # full-sized files' worth of bytes together
MAX_NEW_ENTRIES = 5000
MAX_NAME_CHARS = 240
FOLDER, LINK, OTHER = "folder", "link", "other"  # entries of a snapshot that are no editable file

Snapshot = dict[str, str]


class Unusable(Exception):
    """An editable file that the harness will not take, with the reason."""


@dataclass(frozen=True)
class Harvest:
    """What an agent left: bytes of the editable files it wrote, names of those it deleted, its notes, and what is dropped."""

    files: dict[str, bytes]
    experiment: str
    notebook: str
    dropped: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


def snapshot(folder: Path, patterns: list[str], size: int, limit: int | None = None) -> Snapshot:
    """Every entry of the folders that may hold editable files -> what it is; Unusable beyond `limit` entries.

    Files of more than `size` bytes are not read.
    """
    found: Snapshot = {}
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(folder / above) as entries:
            for entry in entries:
                name = f"{above}/{entry.name}" if above else entry.name
                if name in (*OURS, ".git") or entry.name == "__pycache__":
                    continue
                found[name] = _state(entry, editable(patterns, name), size)
                if limit is not None and len(found) > limit:
                    raise Unusable(f"more than {MAX_NEW_ENTRIES} new files were left in the folders of the editable files")
                if found[name] == FOLDER and may_hold(patterns, name):
                    waiting.append(name)
    return dict(sorted(found.items()))


def _state(entry: os.DirEntry[str], taken: bool, size: int) -> str:
    """An entry in a word; of a file that may be taken, what tells whether it was changed."""
    facts = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(facts.st_mode):
        return f"{LINK} {Path(entry.path).readlink()}"
    if stat.S_ISDIR(facts.st_mode):
        return FOLDER
    if not taken or not stat.S_ISREG(facts.st_mode):
        return OTHER
    if facts.st_size > size:  # too large to be taken: it only matters whether it was touched
        return f"file {facts.st_nlink} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns}"
    return f"file {facts.st_nlink} {hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()}"


def harvest(folder: Path, patterns: list[str], size: int, before: Snapshot, notebook: str) -> Harvest:
    """Read what is taken, files of at most `size` bytes.

    `before` is the snapshot that the agent began with, `notebook` the notebook as it found it.
    """
    try:
        after = snapshot(folder, patterns, size, len(before) + MAX_NEW_ENTRIES)
    except OSError as error:
        raise Unusable(f"{os.path.relpath(error.filename or folder, folder)} cannot be read ({error.strerror})") from None
    if gone := [name for name in patterns if name in before and name not in after]:
        raise Unusable(f"{gone[0]} is gone")
    changed = [name for name, state in after.items() if editable(patterns, name) and _differs(state, before.get(name))]
    deleted = [name for name, state in before.items() if state.startswith("file") and name not in after]
    if len(changed) + len(deleted) > MAX_CHANGED_FILES:
        raise Unusable(f"{len(changed) + len(deleted)} files were changed, {MAX_CHANGED_FILES} are the most")
    for name in changed:
        check_place(name, before)
    files = {name: read_file(folder, name, size) for name in changed}
    if sum(map(len, files.values())) > MAX_CHANGED * size:
        raise Unusable(f"the changed files are larger than {MAX_CHANGED * size >> 10} KiB together")
    written = note(folder, "notes/NOTEBOOK.md", len(notebook.encode()) + MAX_NOTE_BYTES)
    added = written.removeprefix(notebook).strip() if written != notebook else ""
    experiment = note(folder, "notes/EXPERIMENT.md").strip()
    return Harvest(files, experiment, added[-MAX_NOTE_BYTES:], _dropped(before, after, patterns)[:50], deleted)


def _differs(state: str, before: str | None) -> bool:
    """Whether an entry was changed. A new folder is none: what lies in it counts."""
    return state != before and not (state == FOLDER and before is None)


def check_place(name: str, before: Snapshot) -> None:
    """Refuse what git would take and nobody wants: odd names, and a file in the place of a folder, a link or another file."""
    if not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise Unusable(f"{name[:80]!r} is not a name for a file")
    if not (known := before.get(name, "file")).startswith("file"):
        raise Unusable(f"{name} was a {known.split()[0]}")
    if any(before.get(str(parent), FOLDER) != FOLDER for parent in PurePosixPath(name).parents):
        raise Unusable(f"{name} takes the place of another file")


def _dropped(before: Snapshot, after: Snapshot, patterns: list[str]) -> list[str]:
    """Entries that the agent made beside the editable files; they are listed in the record and otherwise ignored."""
    new = [name for name in after if name not in before and not editable(patterns, name)]
    return sorted(name for name in new if after[name] != FOLDER or not may_hold(patterns, name))


def read_file(folder: Path, name: str, limit: int, text: bool = True) -> bytes:
    """The bytes of `folder`/`name`: a regular file with one link, at most `limit` bytes (of UTF-8), no link on the way."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(folder, flags | os.O_DIRECTORY)
    try:
        for part in Path(name).parts:
            inner = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = inner
        data = _checked(handle, name, limit)
        return _text(data, name) if text else data
    except FileNotFoundError:
        raise Unusable(f"{name} is gone") from None
    except OSError as error:
        raise Unusable(f"{name} is a link or unreadable ({error.strerror})") from None
    finally:
        os.close(handle)


def _checked(handle: int, name: str, limit: int) -> bytes:
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        raise Unusable(f"{name} is not a regular file")
    if facts.st_nlink != 1:
        raise Unusable(f"{name} is hard-linked to another file")
    data = b""
    while len(data) <= limit and (chunk := os.read(handle, limit + 1 - len(data))):
        data += chunk
    if len(data) > limit:
        raise Unusable(f"{name} is larger than {limit >> 10} KiB")
    return data


def _text(data: bytes, name: str) -> bytes:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unusable(f"{name} is not UTF-8 text") from None
    if b"\0" in data:
        raise Unusable(f"{name} contains a NUL byte")
    return data


def note(folder: Path, name: str, limit: int = MAX_NOTE_BYTES) -> str:
    """A text that an agent wrote for people and for others, or nothing where there is none that can be taken."""
    with suppress(Unusable):
        return read_file(folder, name, limit).decode("utf-8")
    return ""
