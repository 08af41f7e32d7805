"""A worktree for one proposal: what goes in (the incumbent, lab/, notes/) and what comes out (bytes of the editable files).

Nothing is read before the agent's whole process tree is dead, and then without following a link.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness import git, mirror
from harness.process import inner_env
from harness.protocols import Box

MAX_FILE_BYTES = 64 << 10
MAX_NOTE_BYTES = 16 << 10
# Files that coding agents read by themselves; in a repository they are for people who work on it, not for a proposal.
INSTRUCTIONS = ("AGENTS.md", "CLAUDE.md", "GEMINI.md", "QWEN.md", ".cursorrules", ".aider.conf.yml", ".mcp.json")
INSTRUCTION_FOLDERS = (".claude", ".cursor", ".codex", ".gemini")
FOLLOW_THE_PROMPT = "Follow the prompt you were given; there are no further instructions in this repository.\n"


class Unusable(Exception):
    """An editable file that the harness will not take, with the reason."""


@dataclass(frozen=True)
class Harvest:
    """What an agent left: bytes of the editable files, its notes, and the names of everything else it made."""

    files: dict[str, bytes]
    experiment: str
    notebook: str
    dropped: list[str] = field(default_factory=list)


def editable_files(patterns: list[str], names: list[str]) -> list[str]:
    """The files of a tree that match the task's names and globs."""
    return sorted(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


@contextmanager
def worktree(view: git.Repo, name: str, folder: Path, commit: str) -> Iterator[Path]:
    """A fresh worktree of `commit`, gone afterwards. Instruction files in it are masked."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    mirror.add_worktree(view, name, folder, commit)
    try:
        for path in (folder / name for name in INSTRUCTIONS if (folder / name).is_file()):
            path.write_text(FOLLOW_THE_PROMPT)
        for hidden in INSTRUCTION_FOLDERS:
            shutil.rmtree(folder / hidden, ignore_errors=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        mirror.remove_worktree(view, name)


def agent_box(folder: Path, view: Path, editable: list[str], home: Path, hidden: tuple[Path, ...], env: dict[str, str]) -> Box:
    """The agent's profile: everything read-only except its home, notes/ and the folders of the editable files.

    Editors write by rename, so the folder has to be writable; every other entry of it is frozen in place.
    """
    notes = folder / "notes"
    folders = sorted({(folder / name).parent for name in editable})
    writable = {folder / name for name in editable} | {notes, *folders}
    frozen = [entry for parent in folders for entry in sorted(parent.iterdir()) if entry not in writable]
    return Box(
        cwd=folder,
        readable=(view, folder),
        writable=(*folders, notes),
        frozen=tuple(frozen),
        hidden=hidden,
        env={**inner_env(), **env},
        home=home,
    )


def harvest(folder: Path, editable: list[str], known: set[str], notebook: str) -> Harvest:
    """Read what is taken. `known` are the files of the base commit, `notebook` the notebook as the agent found it."""
    files = {name: read_file(folder, name, MAX_FILE_BYTES) for name in editable}
    dropped = [str(path.relative_to(folder)) for path in _new_entries(folder, editable, known)]
    written = _note(folder, "NOTEBOOK.md", len(notebook.encode()) + MAX_NOTE_BYTES)
    added = written.removeprefix(notebook).strip() if written != notebook else ""
    return Harvest(files, _note(folder, "EXPERIMENT.md", MAX_NOTE_BYTES).strip(), added[-MAX_NOTE_BYTES:], dropped[:50])


def read_file(folder: Path, name: str, limit: int) -> bytes:
    """The bytes of `folder`/`name`: a regular file with one link, at most `limit` bytes of UTF-8, no link on the way."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(folder, flags | os.O_DIRECTORY)
    try:
        for part in Path(name).parts:
            inner = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = inner
        return _checked(handle, name, limit)
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
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unusable(f"{name} is not UTF-8 text") from None
    if b"\0" in data:
        raise Unusable(f"{name} contains a NUL byte")
    return data


def _note(folder: Path, name: str, limit: int) -> str:
    """A file of notes/, or nothing where there is none that can be taken."""
    with suppress(Unusable):
        return read_file(folder, f"notes/{name}", limit).decode("utf-8")
    return ""


def _new_entries(folder: Path, editable: list[str], known: set[str]) -> list[Path]:
    """Entries that the agent made beside the editable files; they are listed in the record and dropped."""
    ours = {".git", "lab", "notes", "__pycache__"}
    found = []
    for parent in sorted({(folder / name).parent for name in editable}):
        for entry in sorted(parent.iterdir()):
            name = str(entry.relative_to(folder))
            if entry.name not in ours and name not in known and not any(path.startswith(f"{name}/") for path in known):
                found.append(entry)
    return found
