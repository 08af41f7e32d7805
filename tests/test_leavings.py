"""Variants that an agent left are read as strictly as the editable files: each is taken or refused by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import heavy
from test_harvest import FILES, LIMIT, PATTERNS, Work

from harness.harvest import snapshot
from harness.leavings import Left, leavings
from harness.models import Task

TASK = {"name": "toy", "program": "p.md", "metric": {"name": "m"}, "command": ["true"]}


def left(folder: Path, work: Work, patterns: list[str] = PATTERNS, most: int = 4) -> tuple[dict[str, Left], list[str]]:
    """The variants by their folder, and what is dropped, after `work` was done beside a few files."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "src/link.py").symlink_to("/etc/passwd")
    task = Task.model_validate({**TASK, "editable": patterns})
    before = snapshot(folder, patterns, LIMIT)
    (folder / "variants").mkdir()
    work(folder / "variants")
    found, dropped = leavings(folder, task, before, most)
    return {each.folder: each for each in found}, dropped


def put(top: Path, name: str, text: str = "X = 2\n") -> Path:
    (top / name).parent.mkdir(parents=True, exist_ok=True)
    (top / name).write_text(text)
    return top / name


def test_files_by_their_paths_and_what_else_lies_there(tmp_path: Path) -> None:
    def work(top: Path) -> None:
        put(top, "10/main.py", "ten\n")
        put(top, "2/main.py", "two\n")
        put(top, "2/src/new/er.py", "new\n")
        put(top, "2/EXPERIMENT.md", "Two\n\nBecause.\n")
        for stray in ("2/evaluate.py", "2/src/x.txt", "2/src/AGENTS.md", "2/notes/n.py", "02/main.py", "x/main.py", "..main.py"):
            put(top, stray)
        put(top, "-1")

    found, dropped = left(tmp_path, work)
    assert list(found) == ["2", "10"]
    assert found["2"] == Left("2", {"main.py": b"two\n", "src/new/er.py": b"new\n"}, "Two\n\nBecause.")
    assert found["10"].files == {"main.py": b"ten\n"}
    below = ["2/evaluate.py", "2/notes/n.py", "2/src/AGENTS.md", "2/src/x.txt"]
    assert dropped == [f"variants/{name}" for name in ("-1", "..main.py", "02", "x", *below)]


def test_the_last_part_of_a_single_editable_file_is_enough(tmp_path: Path) -> None:
    found, _ = left(tmp_path, lambda top: put(top, "1/one.py"), ["src/one.py"])
    assert found["1"].files == {"src/one.py": b"X = 2\n"}
    (other, _) = left(tmp_path / "glob", lambda top: put(top, "1/one.py"), ["src/*.py"])
    assert other["1"].refused == "variants/1 holds no editable file"


def test_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    assert left(tmp_path, lambda top: top.rmdir()) == ({}, [])


def test_there_are_no_more_than_may_be(tmp_path: Path) -> None:
    found, _ = left(
        tmp_path, lambda top: [*(put(top, f"{n}/main.py") for n in "1234"), *((top / f"{n}").mkdir() for n in range(5, 1001))]
    )
    assert [each for each in found if not found[each].refused] == ["1", "2", "3", "4"]
    assert found["5 to 1000"].refused == "4 variants are the most"
    none, _ = left(tmp_path / "off", lambda top: put(top, "3/main.py"), most=0)
    assert none["3"].refused == "none are taken now"


def deep(top: Path) -> None:
    """A path that no system call takes in one piece."""
    handle = os.open(top, os.O_RDONLY)
    for name in ["1", *["d" * 250] * 20]:
        os.mkdir(name, dir_fd=handle)
        inner = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)


def instead(top: Path, make: Work) -> None:
    top.rmdir()
    make(top)


def outside(top: Path, name: str = "main.py") -> Path:
    """A folder elsewhere with a file of somebody else's."""
    return put(top.parent.parent / "outside", name, "secret\n").parent


# What an agent does in variants/, and why; after it, whether the variant beside it is taken all the same.
REFUSED: dict[str, tuple[Work, str, bool]] = {
    "all behind a link": (
        lambda top: instead(top, lambda top: top.symlink_to(outside(top, "1/main.py").parent)),
        "not a folder",
        False,
    ),
    "a fifo": (lambda top: instead(top, os.mkfifo), "variants is not a folder", False),
    "a file": (lambda top: instead(top, Path.touch), "variants is not a folder", False),
    "flood of names": (
        lambda top: [(top / f"n{n}").touch() for n in range(5001)],
        "more than 5000 files were left in variants/",
        False,
    ),
    "one behind a link": (lambda top: (top / "1").symlink_to(outside(top)), "variants/1 is not a folder", True),
    "a fifo as a variant": (lambda top: os.mkfifo(top / "1"), "variants/1 is not a folder", True),
    "linked file": (
        lambda top: ((top / "1").mkdir(), (top / "1/main.py").symlink_to(outside(top) / "main.py")),
        "is a link",
        True,
    ),
    "hard link": (
        lambda top: ((top / "1").mkdir(), (top / "1/main.py").hardlink_to(outside(top) / "main.py")),
        "hard-linked",
        True,
    ),
    "fifo": (lambda top: ((top / "1").mkdir(), os.mkfifo(top / "1/main.py")), "variants/1/main.py is not a regular file", True),
    "folder as a file": (lambda top: (top / "1/main.py").mkdir(parents=True), "holds no editable file", True),
    "folder behind a link": (
        lambda top: ((top / "1").mkdir(), (top / "1/src").symlink_to(outside(top))),
        "no editable file",
        True,
    ),
    "not editable": (lambda top: put(top, "1/other/x.py"), "variants/1 holds no editable file", True),
    "empty": (lambda top: (top / "1").mkdir(), "variants/1 holds no editable file", True),
    "binary": (lambda top: put(top, "1/main.py").write_bytes(b"\xff"), "is not UTF-8", True),
    "NUL": (lambda top: put(top, "1/main.py", "\0"), "contains a NUL byte", True),
    "large": (lambda top: put(top, "1/main.py", "#" * 70_000), "variants/1/main.py is larger than 64 KiB", True),
    "carried data": (lambda top: put(top, "1/main.py", f"X = '{'x' * 9000}'\n"), "a literal of 9,000 bytes", True),
    "odd name": (lambda top: put(top, "1/src/a\nb.py"), "is not a name for a file", True),
    "no text": (lambda top: put(top, os.fsdecode(b"1/src/\xff.py")), "is not a name for a file", True),
    "a link's place": (lambda top: put(top, "1/src/link.py"), "src/link.py was a link", True),
    "another file's place": (lambda top: put(top, "1/src/read.me/x.py"), "takes the place of another file", True),
    "endless path": (deep, "File name too long", True),
    "many files": (lambda top: [put(top, f"1/src/{n}.py") for n in range(201)], "more than 200 files together", False),
    "many bytes": (lambda top: [put(top, f"1/src/{n}.py", "#\n" * 30_000) for n in range(18)], "1024 KiB together", False),
    "flood": (lambda top: [put(top, f"1/{n}") for n in range(5001)], "more than 5000 files", False),
}


@pytest.mark.parametrize("what", [*heavy("flood"), *(what for what in REFUSED if what != "flood")])
def test_what_is_refused(what: str, tmp_path: Path) -> None:
    work, reason, others_are_taken = REFUSED[what]

    def attack(top: Path) -> None:
        work(top)
        if top.is_dir() and not top.is_symlink():
            put(top, "2/main.py", "good\n")

    found, _ = left(tmp_path / "top", attack)
    assert reason in found["1" if "1" in found else ""].refused
    assert found["1" if "1" in found else ""].files == {}
    assert ("2" in found and found["2"].files == {"main.py": b"good\n"}) == others_are_taken


@pytest.mark.parametrize("what", ["all behind a link", "one behind a link", "linked file", "hard link"])
def test_the_control_without_care_would_take_what_lies_elsewhere(what: str, tmp_path: Path) -> None:
    left(tmp_path / "top", REFUSED[what][0])
    assert (tmp_path / "top/variants/1/main.py").read_text() == "secret\n"
