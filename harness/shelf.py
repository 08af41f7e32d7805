"""Folders that are shown to one proposal after another, and of which only what changed is written anew.

Some seven files for each of eighty experiments would cost more time than all else that a proposal costs the harness.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness import trees

CLOCK = 5  # CLOCK_REALTIME_COARSE, which goes in steps of some ms, and by which Linux stamps files


class Shelf:
    """The folders of one worker's slot, between two proposals in `store`. Nothing is known of what lies there at first."""

    def __init__(self, store: Path) -> None:
        """Nothing is read or written yet."""
        self._store = store
        self._made: Mapping[str, object] = {}

    @contextmanager
    def lent(self, place: Path, wanted: Mapping[str, object], fill: Callable[[str, Path], None]) -> Iterator[None]:
        """Have the folders `wanted` below `place`: name -> what its contents follow from. `fill` makes one in a new folder.

        They are taken back afterwards, unless somebody touched them: whoever reads them next is to find what was written here.
        """
        made, self._made = self._made, {}  # whatever ends this early, nothing of it is trusted
        if not made or not _moved(self._store, place):
            made = {}
            place.mkdir(parents=True, exist_ok=True)
        for name in made.keys() - wanted.keys():
            trees.remove(place / name)
        for name in [name for name, facts in wanted.items() if made.get(name) != facts]:
            trees.remove(place / name)
            (place / name).mkdir()
            fill(name, place / name)
        sealed = _seal()
        yield
        trees.remove(self._store)
        if untouched(place, sealed) and _moved(place, self._store):
            self._made = dict(wanted)


def _seal() -> int:
    """A time, in ns, after all that was done to files until now and before all that will be."""
    now = time.time_ns()
    while time.clock_gettime_ns(CLOCK) <= now:
        time.sleep(0.001)
    return now


def untouched(folder: Path, since: int) -> bool:
    """Whether nothing in a folder was made, changed or removed after a time, in ns: nobody can set the ctime of a file."""
    try:
        return all(os.lstat(entry).st_ctime_ns <= since for entry in (str(folder), *trees.walk(folder)))
    except OSError:
        return False


def _moved(source: Path, target: Path) -> bool:
    """Move a folder to where nothing is; whether that was possible."""
    if os.path.lexists(target) or not source.is_dir():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    return True
