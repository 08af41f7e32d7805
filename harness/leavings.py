"""What an agent left in `variants/1/`, `variants/2/`, ...: other versions of the editable files, read as strictly as those.

Each is taken or refused by itself. Names are those of the editable files below the variant's folder; where the task has a
single one, its last part is enough.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness import static
from harness.harvest import (
    MAX_CHANGED,
    MAX_CHANGED_FILES,
    MAX_NAME_CHARS,
    MAX_NEW_ENTRIES,
    Snapshot,
    Unusable,
    check_place,
    note,
    read_file,
)
from harness.models import Task
from harness.patterns import VARIANTS, editable, is_glob

NOTE = "EXPERIMENT.md"
MAX_TOLD = 20  # names of what is dropped


@dataclass(frozen=True)
class Left:
    """One variant: the bytes of its files by the names that they mean, its note, and why it cannot be taken."""

    folder: str
    files: dict[str, bytes] = field(default_factory=dict)
    note: str = ""
    refused: str = ""


@dataclass
class Room:
    """How much more all variants together may hold."""

    size: int  # of one file
    entries: int = MAX_NEW_ENTRIES
    files: int = MAX_CHANGED_FILES
    taken: int = 0  # bytes

    def enter(self) -> None:
        """Count an entry of a folder."""
        self.entries -= 1
        if self.entries < 0:
            raise Unusable(f"more than {MAX_NEW_ENTRIES} files were left in {VARIANTS}/")

    def take(self, data: bytes) -> None:
        """Count a file that is taken."""
        self.files, self.taken = self.files - 1, self.taken + len(data)
        if self.files < 0:
            raise Unusable(f"the variants have more than {MAX_CHANGED_FILES} files together")
        if self.taken > MAX_CHANGED * self.size:
            raise Unusable(f"the variants are larger than {MAX_CHANGED * self.size >> 10} KiB together")


def leavings(folder: Path, task: Task, before: Snapshot, most: int) -> tuple[list[Left], list[str]]:
    """The variants in the order of their numbers, and what else lies there, which is dropped.

    `before` is the snapshot that the agent began with; of more than `most` variants the others are one that is refused.
    """
    room, dropped = Room(task.limits.editable_kb << 10), list[str]()
    try:
        names = [name for name, _ in _entries(folder, VARIANTS, room)]
    except Unusable as reason:
        return [Left("", refused=str(reason))], []
    except FileNotFoundError:
        return [], []
    numbers = sorted((name for name in names if re.fullmatch("[1-9][0-9]{0,3}", name)), key=int)
    dropped += sorted(f"{VARIANTS}/{name}" for name in names if name not in numbers)
    found = [_variant(folder, number, task, before, room, dropped) for number in numbers[:most]]
    if more := numbers[most:]:
        folders = more[0] if len(more) == 1 else f"{more[0]} to {more[-1]}"
        found.append(Left(folders, refused=f"{most} variants are the most" if most else "none are taken now"))
    return found, [name[:MAX_NAME_CHARS] for name in dropped[:MAX_TOLD]]


def _variant(folder: Path, number: str, task: Task, before: Snapshot, room: Room, dropped: list[str]) -> Left:
    inside, files = f"{VARIANTS}/{number}", dict[str, bytes]()
    said = note(folder, f"{inside}/{NOTE}").strip()
    try:
        for name in _below(folder, inside, room):
            meant = _meant(task.editable, name)
            if meant is None:
                dropped += [f"{inside}/{name}"] if name != NOTE else []
                continue
            if meant in files:
                raise Unusable(f"{inside} has {meant} twice")
            check_place(meant, before)
            files[meant] = read_file(folder, f"{inside}/{name}", room.size)
            room.take(files[meant])
            if carried := static.problem(meant, files[meant], task.limits):
                raise Unusable(carried)
        if not files:
            raise Unusable(f"{inside} holds no editable file")
    except (Unusable, OSError) as reason:
        return Left(number, {}, said, str(reason) if isinstance(reason, Unusable) else f"{inside} is gone")
    return Left(number, files, said)


def _meant(patterns: list[str], name: str) -> str | None:
    """Which editable file a name below a variant's folder means."""
    if editable(patterns, name):
        return name
    single = len(patterns) == 1 and not is_glob(patterns[0])
    return patterns[0] if single and name == PurePosixPath(patterns[0]).name else None


def _below(folder: Path, inside: str, room: Room) -> list[str]:
    """The names of everything below a folder that is no folder itself, without it; no link is followed."""
    found, waiting = list[str](), [inside]
    while waiting:
        above = waiting.pop()
        for name, is_folder in _entries(folder, above, room):
            (waiting if is_folder else found).append(f"{above}/{name}")
    return sorted(name.removeprefix(f"{inside}/") for name in found)


def _entries(folder: Path, name: str, room: Room) -> list[tuple[str, bool]]:
    """What lies in a folder, and whether it is one; Unusable where the folder is a link, or anything else."""
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unusable(f"{name[:80]} is not a folder, or unreadable ({error.strerror})") from None
    try:
        found = list[tuple[str, bool]]()
        with os.scandir(handle) as entries:
            for entry in entries:
                room.enter()
                found.append((entry.name, entry.is_dir(follow_symlinks=False)))
        return found
    finally:
        os.close(handle)
