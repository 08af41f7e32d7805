"""What is taken of an agent's work: changed, new and deleted files that the task means, and no link."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab

from harness.harvest import Harvest, Unusable, harvest, snapshot

FILES = {
    "src/one.py": "1\n",
    "src/two.py": "2\n",
    "src/deep/three.py": "3\n",
    "src/read.me": "frozen\n",
    "main.py": "main\n",
    "other/x.py": "x\n",
}
LIMIT = 64 << 10
PATTERNS = ["main.py", "src/**/*.py"]
Work = Callable[[Path], object]


def harvested(folder: Path, work: Work, patterns: list[str] = PATTERNS) -> Harvest:
    """What is taken after `work` was done in a folder of a few files."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "src/large.py").write_text("#" * 100_000)
    (folder / "src/image.py").write_bytes(b"\xff\0")
    (folder / "src/link.py").symlink_to("/etc/passwd")
    before = snapshot(folder, patterns, LIMIT)
    work(folder)
    return harvest(folder, patterns, LIMIT, before, "")


def test_changed_new_and_deleted_files(tmp_path: Path) -> None:
    def work(top: Path) -> None:
        (top / "src/one.py").write_text("11\n")
        (top / "src/two.py").unlink()
        (top / "src/new/er").mkdir(parents=True)
        (top / "src/new/er/four.py").write_text("4\n")
        (top / "src/new/notes.txt").write_text("x")
        (top / "src/AGENTS.md").write_text("obey")
        (top / "src/__pycache__").mkdir()
        (top / "extra").mkdir()
        (top / "other/new.py").write_text("x")

    taken = harvested(tmp_path, work)
    assert taken.files == {"src/one.py": b"11\n", "src/new/er/four.py": b"4\n"}
    assert taken.deleted == ["src/two.py"]
    assert taken.dropped == ["extra", "src/AGENTS.md", "src/new/notes.txt"]


def test_what_was_there_before_is_no_change_even_if_it_could_not_be_taken(tmp_path: Path) -> None:
    assert harvested(tmp_path, lambda top: None).files == {}


def test_a_link_that_was_there_before_may_be_deleted_in_vain(tmp_path: Path) -> None:
    taken = harvested(tmp_path, lambda top: (top / "src/link.py").unlink())
    assert (taken.files, taken.deleted) == ({}, [])


def test_a_folder_behind_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.py").write_text("secret")
    taken = harvested(tmp_path / "top", lambda top: (top / "src/out").symlink_to(tmp_path / "outside"))
    assert (taken.files, taken.dropped) == ({}, ["src/out"])


def rewrite(name: str, make: Work) -> Work:
    """Put something else in the place of a file."""

    def work(top: Path) -> None:
        (top / name).unlink()
        make(top / name)

    return work


REFUSED: dict[str, tuple[Work, str]] = {
    "named file deleted": (lambda top: (top / "main.py").unlink(), "main.py is gone"),
    "new link": (lambda top: (top / "src/new.py").symlink_to("one.py"), "src/new.py is a link"),
    "file becomes a link": (rewrite("src/one.py", lambda path: path.symlink_to("/etc/passwd")), "src/one.py is a link"),
    "link becomes a file": (rewrite("src/link.py", lambda path: path.write_text("x")), "src/link.py was a link"),
    "file becomes a folder": (rewrite("src/one.py", Path.mkdir), "src/one.py is not a regular file"),
    "new fifo": (lambda top: os.mkfifo(top / "src/new.py"), "src/new.py is not a regular file"),
    "new hard link": (lambda top: (top / "src/new.py").hardlink_to(top / "src/read.me"), "hard-linked"),
    "binary": (lambda top: (top / "src/new.py").write_bytes(b"\xff"), "src/new.py is not UTF-8"),
    "large file changed": (lambda top: (top / "src/large.py").write_text("#" * 100_001), "src/large.py is larger than 64 KiB"),
    "new large file": (lambda top: (top / "src/new.py").write_text("#" * 70_000), "src/new.py is larger than 64 KiB"),
    "odd name": (lambda top: (top / "src/a\nb.py").write_text("x"), "is not a name for a file"),
    "name that is no text": (lambda top: Path(os.fsdecode(os.fsencode(top) + b"/src/\xff.py")).touch(), "not a name for a file"),
    "many files": (lambda top: [(top / f"src/{n}.py").touch() for n in range(201)], "201 files were changed, 200 are the most"),
    "many bytes": (
        lambda top: [(top / f"src/{n}.py").write_text("#" * 60_000) for n in range(18)],
        "the changed files are larger than 1024 KiB together",
    ),
    "flood": (lambda top: [(top / f"src/{n}").touch() for n in range(5001)], "more than 5000 new files"),
    "in another file's place": (
        lambda top: [(top / "src/read.me").unlink(), (top / "src/read.me").mkdir(), (top / "src/read.me/x.py").touch()],
        "takes the place of another file",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str, tmp_path: Path) -> None:
    work, reason = REFUSED[what]
    with pytest.raises(Unusable) as refused:
        harvested(tmp_path, work)
    assert reason in str(refused.value)


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    def work(top: Path) -> None:
        (top / "src/deep/three.py").unlink()
        (top / "src/deep").rmdir()
        (top / "src/deep").write_text("x")

    with pytest.raises(Unusable) as refused:
        harvested(tmp_path, work, ["src/**"])
    assert str(refused.value) == "src/deep was a folder"


def globbed(lab: Lab) -> None:
    """Make the toy's answer the sum of the files that a glob means."""
    lab.edit("toy/task.yaml", "[toy/solution.py]", "[toy/parts/*.txt]")
    lab.edit("toy/solution.py", "X = 5.0", "X = sum(float(part.read_text()) for part in pathlib.Path('toy/parts').glob('*.txt'))")
    (lab.path / "toy/parts/sub").mkdir(parents=True)
    for name, text in {"a.txt": "3", "b.txt": "2", "read.me": "numbers", "sub/c.txt": "9"}.items():
        (lab.path / "toy/parts" / name).write_text(text)
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "parts")


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_an_agent_adds_changes_and_deletes_files_of_a_glob(lab: Lab, sandbox: str) -> None:
    globbed(lab)
    lab.agent(
        "author",
        "cd toy/parts; echo 2.5 > a.txt; rm b.txt; echo 1 > new.txt; mkdir more; echo 1 > more/d.txt\n"
        "(echo x > read.me; echo x > sub/c.txt; echo x > ../evaluate.py) && echo thawed; cd ../..; NOTE",
    )
    lab.agent("second", "echo 0.5 > toy/parts/new.txt; rm toy/parts/a.txt; cat lab/experiments/000*/files/toy/parts/*")
    lab.harness("run", "--tag", "t", "--agent", "author", "--agent", "second", "--experiments", "2", "--sandbox", sandbox)
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "discard"]
    changes = lab.git("diff", "--no-renames", "--name-status", "main", "autoresearch/t").split()
    assert changes == ["M", "toy/parts/a.txt", "D", "toy/parts/b.txt", "A", "toy/parts/new.txt"]
    record = json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))
    assert record["proposal"]["files"].keys() == {"toy/parts/a.txt", "toy/parts/b.txt", "toy/parts/new.txt"}
    assert record["proposal"]["files"]["toy/parts/b.txt"] is None
    assert record["proposal"]["dropped"] == ["toy/parts/more"]
    thawed = lab.git("show", "refs/experiments/t/0001:transcript.txt").endswith("thawed")
    assert thawed == (sandbox == "none")
    assert lab.git("show", "refs/experiments/t/0002:transcript.txt") == "322.5\n1"


def test_a_link_that_a_glob_means_is_refused(lab: Lab) -> None:
    globbed(lab)
    lab.agent("linker", "echo 1 > toy/parts/a.txt; ln -s /etc/passwd toy/parts/passwd.txt; NOTE")
    lab.harness("run", "--tag", "t", "--agent", "linker", "--experiments", "1")
    assert "toy/parts/passwd.txt is a link" in lab.harness("show", "1").stdout
