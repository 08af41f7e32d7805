"""A worktree for one proposal: what goes in. What comes out is in harvest.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import git, mirror, trees
from harness.patterns import INSTRUCTION_FOLDERS, INSTRUCTIONS, base, editable, is_glob, may_hold
from harness.process import inner_env
from harness.protocols import Box

FOLLOW_THE_PROMPT = "Follow the prompt you were given; there are no further instructions in this repository.\n"
MAX_FROZEN = 300  # each is a mount, and the time that mounts take grows with the square of their number


@contextmanager
def worktree(view: git.Repo, name: str, folder: Path, commit: str) -> Iterator[Path]:
    """A fresh worktree of `commit`, gone afterwards. Instruction files in it are masked."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    mirror.add_worktree(view, name, folder, commit)
    try:
        for path in (folder / name for name in INSTRUCTIONS if (folder / name).is_file()):
            path.write_text(FOLLOW_THE_PROMPT)
        for hidden in INSTRUCTION_FOLDERS:
            trees.remove(folder / hidden)
        yield folder
    finally:
        trees.remove(folder)
        mirror.remove_worktree(view, name)


def link_inputs(tree: Path, inputs: Iterable[str], root: Path) -> None:
    """Make the inputs that lie below the repository's root reachable at the same relative place in another tree of it.

    What is there already stays, and no link is followed: a tree may hold files of agents.
    """
    for path in (Path(name) for name in inputs if Path(name).is_relative_to(root)):
        place = tree / path.relative_to(root)
        above = [parent for parent in reversed(place.parents) if parent.is_relative_to(tree)]
        if not os.path.lexists(place) and all(each.is_dir() and not each.is_symlink() for each in above if os.path.lexists(each)):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)


def show_papers(tree: Path, papers: str) -> tuple[Path, ...]:
    """Make the folder `papers`, if there is one, reachable as lab/papers/; what the sandbox has to show for it."""
    if not papers or not Path(papers).is_dir():
        return ()
    (tree / "lab" / "papers").symlink_to(papers)
    return (Path(papers),)


def agent_box(
    folder: Path,
    patterns: list[str],
    home: Path,
    readable: tuple[Path, ...],
    hidden: tuple[Path, ...],
    env: dict[str, str],
    python: str,
) -> Box:
    """The agent's profile: everything read-only except its home, notes/ and the folders of the editable files.

    Editors write by rename, so the folder has to be writable; every other entry of it is frozen in place.
    """
    notes = folder / "notes"
    folders = writable_folders(folder, patterns)
    return Box(
        cwd=folder,
        readable=(folder, *readable),
        writable=(*[path for path in folders if folders.isdisjoint(path.parents)], notes),
        frozen=tuple(_others(folder, folders, patterns)[:MAX_FROZEN]),
        hidden=hidden,
        env={**inner_env(python), **env},
        home=home,
    )


def writable_folders(folder: Path, patterns: list[str]) -> set[Path]:
    """The folders in which editable files lie or may be added. A glob's is made when its last file was deleted."""
    found = set()
    for pattern in patterns:
        start = folder / base(pattern)
        if is_glob(pattern):
            with suppress(FileExistsError, NotADirectoryError):
                start.mkdir(parents=True, exist_ok=True)
        waiting = [start] if start.is_dir() else []
        while waiting:
            found.add(path := waiting.pop())
            below = [each for each in path.iterdir() if each.is_dir() and not each.is_symlink()]
            waiting += [each for each in below if may_hold([pattern], str(each.relative_to(folder)))]
    return found


def _others(folder: Path, folders: set[Path], patterns: list[str]) -> list[Path]:
    """What lies in writable folders and is not editable, folders first. Links are left out: a mount would follow them."""
    between = {parent for path in folders for parent in path.parents if not folders.isdisjoint(parent.parents)}
    listed = folders | between
    entries = [entry for each in sorted(listed) for entry in sorted(each.iterdir()) if entry not in (*listed, folder / "notes")]
    others = [e for e in entries if not e.is_symlink() and (e.is_dir() or not editable(patterns, str(e.relative_to(folder))))]
    return sorted(others, key=lambda entry: not entry.is_dir())
