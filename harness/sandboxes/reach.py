"""What another user of this machine could read, enter or replace, by the modes of files. Nothing is changed here."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

READ, WRITE, ENTER = 4, 2, 1


@dataclass(frozen=True)
class Who:
    """A user that is not root, with all its groups."""

    uid: int
    groups: tuple[int, ...]

    def may(self, path: Path, want: int) -> bool:
        """Whether the mode of `path` alone, without the folders above it, gives all of `want`."""
        facts = path.stat()
        shift = 6 if facts.st_uid == self.uid else 3 if facts.st_gid in self.groups else 0
        return facts.st_mode >> shift & want == want


def closed_above(path: Path, who: Who) -> list[Path]:
    """The folders on the way to `path`, links and all, that `who` cannot enter."""
    above = dict.fromkeys((*reversed(path.absolute().parents), *reversed(path.resolve().parents)))
    return [folder for folder in above if folder.exists() and not who.may(folder, ENTER)]


def barriers(path: Path, who: Who) -> list[Path]:
    """What keeps `who` from reading `path`, outermost first: folders that cannot be entered, or the path. Empty: it is read."""
    true = path.resolve()
    itself = [true] if true.exists() and not who.may(true, READ | ENTER if true.is_dir() else READ) else []
    return [*closed_above(path, who), *itself]


def reaches(path: Path, who: Who) -> bool:
    """Whether `who` could learn anything of a path that is there, if only by guessing the names of what is in it."""
    true = path.resolve()
    return not closed_above(true, who) and who.may(true, ENTER if true.is_dir() else READ)


def exposed(secret: Path, needed: Iterable[Path], who: Who) -> list[Path]:
    """What has to be closed so that `who` reads nothing of `secret`, a folder that is there, except what is `needed`."""
    true, wanted = secret.resolve(), [path.resolve() for path in needed]
    if any(not who.may(folder, ENTER) for folder in true.parents):
        return []
    return _exposed(true, wanted, who)


def _exposed(path: Path, needed: list[Path], who: Who) -> list[Path]:
    if path.is_symlink() or any(path.is_relative_to(each) for each in needed):
        return []
    if not any(each.is_relative_to(path) for each in needed):
        kinds = (READ, WRITE, ENTER) if path.is_dir() else (READ, WRITE)
        return [path] if any(who.may(path, kind) for kind in kinds) else []
    below = sorted(path.iterdir()) if who.may(path, ENTER) else []
    return [found for entry in below for found in _exposed(entry, needed, who)]


def replaceable(path: Path, who: Who) -> Path | None:
    """The first folder above `path` in which `who` could rename what leads to it, and put something else in its place."""
    for folder in reversed(path.resolve().parents):
        if folder.exists() and who.may(folder, WRITE) and not folder.stat().st_mode & stat.S_ISVTX:
            return folder
    return None
