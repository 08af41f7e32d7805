"""Folders that a hostile program may have filled: walked and removed whatever it made of them.

Python's own ways call themselves once for each level (shutil.rmtree; os.walk and rglob before Python 3.12) and end with
a RecursionError in a tree a thousand folders deep; no path is longer than 4096 bytes; and a folder without permissions
stops them all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from secrets import token_hex

LONGEST = 4096  # the bytes of a path, Linux's PATH_MAX
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(path: Path) -> Iterator[str]:
    """Every entry below a folder, as far down as a path can name it; no link is followed."""
    waiting = [str(path)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if len(os.fsencode(entry.path)) >= LONGEST:
                    continue
                yield entry.path
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    return sum(_bytes(each) for each in (str(path), *walk(path)))


def _bytes(path: str) -> int:
    with suppress(OSError):
        facts = os.lstat(path)
        return 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
    return 0


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with everything in it; what cannot be removed stays.

    Folders are moved up and emptied beside each other: no path gets long, and no more than two of them are open.
    """
    with suppress(OSError):
        path.unlink(missing_ok=True)
        return
    with suppress(OSError), opened(str(path)) as top:
        _empty(top)
    with suppress(OSError):
        path.rmdir()


def _empty(top: int) -> None:
    new, stuck = (f"{token_hex(8)}-{number}" for number in count()), set[str]()
    while names := set(_names(top)) - stuck:
        for name in names:
            if _unlinked(name, top):
                continue
            stuck.add(name)
            with suppress(OSError), opened(name, top) as inner:
                for each in _names(inner):
                    if not _unlinked(each, inner):
                        with suppress(OSError), opened(each, inner):  # which makes it ours to move
                            os.rename(each, next(new), src_dir_fd=inner, dst_dir_fd=top)
                os.rmdir(name, dir_fd=top)
                stuck.discard(name)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _unlinked(name: str, folder: int) -> bool:
    """Remove what is no folder, or an empty one."""
    for act in (os.unlink, os.rmdir):
        with suppress(OSError):
            act(name, dir_fd=folder)
            return True
    return False


@contextmanager
def opened(name: str, folder: int | None = None) -> Iterator[int]:
    """A folder to read and to write in, whatever its mode was."""
    handle = os.open(name, os.O_PATH | FOLDER, dir_fd=folder)
    try:
        with suppress(PermissionError):  # somebody else's: as it is
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
        inner = os.open(".", FOLDER, dir_fd=handle)
        try:
            yield inner
        finally:
            os.close(inner)
    finally:
        os.close(handle)
