"""What agents read of experiments is made once, and nobody can change what the next one reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab

from harness.shelf import Shelf

WANTED = {"0001": "one", "0002": "two"}


class Reader:
    """Takes folders from a shelf for a moment; `made` are those that had to be written for it."""

    def __init__(self, folder: Path) -> None:
        self.shelf, self.folder, self.turn = Shelf(folder / "shelf"), folder, 0
        self.made: list[str] = []

    def read(self, wanted: dict[str, str], act: Callable[[Path], object] = lambda _: None) -> dict[str, str]:
        """Every file that is there at first; `act` is what the reader does with them."""
        self.made, self.turn, place = [], self.turn + 1, self.folder / f"{self.turn + 1}/lab/experiments"

        def fill(name: str, folder: Path) -> None:
            self.made.append(name)
            (folder / "page").write_text(wanted[name])

        with self.shelf.lent(place, wanted, fill):
            found = {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}
            act(place)
        return found


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_only_what_changed_is_made_anew(reader: Reader) -> None:
    assert reader.read(WANTED) == {"0001/page": "one", "0002/page": "two"}
    assert reader.made == ["0001", "0002"]
    assert reader.read(WANTED) == {"0001/page": "one", "0002/page": "two"}
    assert reader.made == []
    assert reader.read({"0002": "TWO", "0003": "three"}) == {"0002/page": "TWO", "0003/page": "three"}
    assert reader.made == ["0002", "0003"]


ATTACKS: dict[str, Callable[[Path], object]] = {
    "writes": lambda place: (place / "0001/page").write_text("all was kept"),
    "writes and sets the time back": lambda place: [
        (place / "0001/page").write_text("one!"),
        os.utime(place / "0001/page", (0, 0)),
    ],
    "replaces by renaming": lambda place: [(place / "new").write_text("x"), (place / "new").rename(place / "0001/page")],
    "adds a file": lambda place: (place / "0002/more").write_text("x"),
    "adds a folder": lambda place: (place / "0004").mkdir(),
    "removes a file": lambda place: (place / "0001/page").unlink(),
    "removes a folder": lambda place: shutil.rmtree(place / "0001"),
    "removes all": shutil.rmtree,
    "keeps another name of a file": lambda place: os.link(place / "0001/page", place.parent / "kept"),
    "closes a file": lambda place: (place / "0001/page").chmod(0),
    "puts a link in its place": lambda place: [shutil.rmtree(place), place.symlink_to("/etc")],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_somebody_touched_is_made_anew(reader: Reader, attack: str) -> None:
    reader.read(WANTED, ATTACKS[attack])
    assert reader.read(WANTED) == {"0001/page": "one", "0002/page": "two"}
    assert reader.made == ["0001", "0002"]
    assert reader.read(WANTED) == {"0001/page": "one", "0002/page": "two"}
    assert reader.made == []


def test_a_proposal_that_breaks_leaves_nothing_that_is_trusted(reader: Reader) -> None:
    def fails(_: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reader.read(WANTED, fails)
    reader.read(WANTED)
    assert reader.made == ["0001", "0002"]


def test_an_agent_without_a_sandbox_cannot_tell_the_next_one_lies(lab: Lab) -> None:
    lab.agent(
        "liar",
        "cat lab/experiments/*/experiment.md; for f in lab/experiments/*/experiment.md; do echo LIE >> $f; done; NOTE",
        "Up",
    )
    lab.agent("proof", "echo LIE >> lab/experiments/0000/experiment.md; cat lab/experiments/0000/experiment.md; NOTE", "Up")
    lab.harness("run", "--tag", "t", "--agent", "proof", "--agent", "liar", "--experiments", "4", "--sandbox", "none")
    seen = [lab.git("show", f"refs/experiments/t/000{n}:transcript.txt").count("LIE") for n in range(1, 5)]
    assert seen == [1, 0, 1, 0], "each of them finds what was written for it"
