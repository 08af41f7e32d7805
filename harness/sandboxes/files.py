"""Files in the hands of the sandbox `uid`: given for as long as it works, hidden by their modes, swept up behind it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import trees
from harness.models import UserError
from harness.protocols import Box
from harness.sandboxes.reach import ENTER, WRITE, Who, barriers, reaches

OTHERS = 0o007
SHARED = "mirror.git"  # among the harness's folders the one that every sandbox may read
PUBLIC = tuple(Path(name) for name in ("/tmp", "/var/tmp", "/dev/shm", "/run/lock"))  # where everybody may write


@contextmanager
def open_to(box: Box, who: Who, ours: Path, passage: int) -> Iterator[None]:
    """What the box names, within the reach of `who`; afterwards none of it belongs to it any more.

    `ours` holds the folders of the harness. Below it the way is opened, to the group `passage` and for going through only;
    elsewhere nothing is, and a UserError names what is in the way.
    """
    writable = [*box.writable, *([box.home] if box.home else [])]
    named = [path for path in dict.fromkeys((box.cwd, *box.readable, *writable)) if path.exists()]
    try:
        for path in named:
            if path.is_relative_to(ours) and not any(path != each and path.is_relative_to(each) for each in named):
                _open_way(path, ours, passage)
                _open_end(path, who.uid if path in (box.cwd, box.home) else passage)
        for path in box.writable:
            _give(path, who.uid, frozenset((*box.frozen, *box.hidden)))
        if box.home:
            _own(box.home, os.getuid(), who.uid)
        for path in named:
            if closed := barriers(path, who):
                raise UserError(f"the sandbox uid cannot read {path}: run `chmod o+rx {closed[0]}`, or move it to another folder")
        yield
    finally:
        for path in writable:
            _own(path, who.uid, os.getuid())
        if box.cwd.is_relative_to(ours):
            os.chown(box.cwd, -1, os.getgid())


def hide(paths: tuple[Path, ...], who: Who, fixed: tuple[Path, ...]) -> None:
    """Take from other users what must stay hidden; a UserError where it is not ours to take, such as below `fixed`."""
    for path in (path.resolve() for path in paths if path.exists()):
        if not reaches(path, who):
            continue
        facts = path.stat()
        if facts.st_uid != os.getuid() or any(path.is_relative_to(each.resolve()) for each in fixed):
            why = "every user can read it, and it is not the harness's to close"
            raise UserError(f"the sandbox uid cannot hide {path}: {why}; use bubblewrap, or held-out data that can be closed")
        path.chmod(stat.S_IMODE(facts.st_mode) & ~OTHERS)


def sweep(uid: int) -> None:
    """Remove what a uid of which nothing lives any more left where everybody may write."""
    waiting = [str(path) for path in PUBLIC if path.is_dir()]
    while waiting:
        with suppress(OSError):
            folder = waiting.pop()
            mode = os.lstat(folder).st_mode  # there may be many thousands
            if not mode & ENTER:
                continue
            with os.scandir(folder) as found:
                entries = list(found)
            waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for entry in entries if mode & WRITE else ():
                with suppress(OSError):  # one that vanishes meanwhile is no reason to leave the others
                    if entry.stat(follow_symlinks=False).st_uid == uid:
                        trees.remove(Path(entry.path))


def _open_way(path: Path, ours: Path, passage: int) -> None:
    """Let the group pass through the folders above, and close to it what lies beside the way."""
    for folder in reversed([folder for folder in path.parents if folder.is_relative_to(ours) and folder != ours]):
        with os.scandir(folder) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                if facts.st_mode & OTHERS and not stat.S_ISLNK(facts.st_mode) and entry.name != SHARED:
                    Path(entry.path).chmod(stat.S_IMODE(facts.st_mode) & ~OTHERS)
        os.chown(folder, -1, passage)
        folder.chmod(0o710)


def _open_end(path: Path, group: int) -> None:
    """Let a group read what stands at the end of the way."""
    os.chown(path, -1, group)
    path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o050 if path.is_dir() else 0o040))


def _give(path: Path, uid: int, kept: frozenset[Path]) -> None:
    """Let a uid write a file, or the files of a folder beside new ones; what is `kept` stays as it is.

    Folders stay ours and sticky: what belongs to others in them can be neither removed nor replaced. A file with a second
    name stays ours too, as that may be anywhere.
    """
    facts = path.lstat()
    if stat.S_ISDIR(facts.st_mode):
        os.chown(path, -1, uid)
        path.chmod(0o1770 | stat.S_IMODE(facts.st_mode) & 0o005)
        for entry in path.iterdir():
            if entry not in kept:
                _give(entry, uid, kept)
    elif facts.st_nlink == 1:
        os.chown(path, uid, uid, follow_symlinks=False)


def _own(path: Path, before: int, after: int) -> None:
    """Hand a file, or a folder with everything in it, from one uid and its group to another; no link is followed."""
    for each in (Path(name) for name in (str(path), *trees.walk(path))):
        with suppress(FileNotFoundError):
            facts = each.lstat()
            if before in (facts.st_uid, facts.st_gid) and (stat.S_ISDIR(facts.st_mode) or facts.st_nlink == 1 or not after):
                os.chown(each, after, after, follow_symlinks=False)
