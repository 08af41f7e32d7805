"""What runs made, a model for example: kept on this machine for the incumbent and for what was merged before it.

A referee leaves files beside its measurement (`Request.artefacts`). Their hashes are in the record, so it can be told that
a file is what was scored. The files themselves can be lost at any time: whatever made them is in git and can be run again.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from harness import trees

NIGHT_BYTES = 3 << 30  # of one night, which may fill 5 GB of disk in all: the last ten models of 200 to 300 MB


def take(left: Path, place: Path) -> dict[str, str]:
    """Move the folder that a referee left to its place, over an earlier run's; the SHA-256 of each file by its name."""
    trees.remove(place)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    left.rename(place)
    place.chmod(0o700)
    return hashes(place)


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every regular file in a folder, by its path there; empty when there is no folder."""
    found = {}
    for path in map(Path, sorted(trees.walk(folder))):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def trim(night: Path, latest: str, most: int = NIGHT_BYTES) -> None:
    """Remove folders of a night, those filled longest ago first, until all take `most` bytes, but never that of `latest`."""
    folders = sorted(night.iterdir(), key=lambda path: path.stat().st_mtime) if night.is_dir() else []
    sizes = {path: trees.size(path) for path in folders}
    for path in folders:
        if sum(sizes.values()) > most and path.name != latest:
            trees.remove(path)
            del sizes[path]
