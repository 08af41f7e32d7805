"""Compiled code between runs: what a candidate writes into its caches reaches another only when it was kept."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Lab

from harness import caches
from harness.config import load_task
from harness.models import UserError

# Prints what earlier runs left, and leaves something itself: x4.0, say, where X is 4.0.
LEAVE = """
place = pathlib.Path({place})
place.mkdir(exist_ok=True)
print("cached", *sorted(path.name for path in place.iterdir()))
(place / f"x{{X}}").write_text("compiled")
"""
OURS = 'os.environ["TOY_CACHE"]'


def with_cache(lab: Lab, place: str) -> None:
    lab.edit("toy/task.yaml", "outputs:", "caches: [TOY_CACHE]\noutputs:")
    with (lab.path / "toy/solution.py").open("a") as file:
        file.write(LEAVE.format(place=place))
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a cache")


def seen(lab: Lab, tag: str) -> list[str]:
    """What each experiment's first run found in its caches."""
    logs = [lab.git("show", f"refs/experiments/{tag}/{row:04d}:train-1.log") for row in range(len(lab.rows(tag)))]
    return [next(line.removeprefix("cached").strip() for line in log.splitlines() if line.startswith("cached")) for log in logs]


NIGHT = ("--agent", "better", "--agent", "worse", "--agent", "better", "--experiments", "3")


def test_a_candidate_reaches_no_other_by_its_caches(lab: Lab) -> None:
    with_cache(lab, OURS)
    lab.harness("run", "--tag", "t", *NIGHT)
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "discard", "keep"]
    assert seen(lab, "t") == ["", "x5.0", "x4.0 x5.0", "x4.0 x5.0"]  # 0002 left x7.0 and was not kept
    (master,) = (path for path in (lab.state / "caches").iterdir() if path.name != "taken")
    assert sorted(caches.files(master)) == ["TOY_CACHE/x3.5", "TOY_CACHE/x4.0", "TOY_CACHE/x5.0"]
    assert not [path for path in (lab.state / "caches/taken").rglob("*") if path.is_file()]
    assert "compiled code; runs fill it again" in lab.harness("gc").stdout
    assert not list((lab.state / "caches").iterdir())


def test_with_a_shared_folder_it_would(lab: Lab) -> None:
    """The control: the same night whose runs share a folder, which takes switching the sandbox off."""
    with_cache(lab, repr(str(lab.path.parent / "shared")))
    lab.harness("run", "--tag", "t", *NIGHT, "--sandbox", "none")
    assert seen(lab, "t")[3] == "x4.0 x5.0 x7.0"


def test_a_cache_is_one_machines_libraries_and_trusted_files(lab: Lab) -> None:
    with_cache(lab, OURS)
    task = load_task(lab.path / "toy/task.yaml")
    keys = {caches.key(task, trusted, sandbox) for trusted in ("a", "b") for sandbox in ("bubblewrap", "none")}
    assert len(keys) == 4
    assert caches.key(task, "a", "none") in keys
    lab.edit("toy/task.yaml", "[TOY_CACHE]", "[../TOY]")
    with pytest.raises(UserError, match="is not the name of an environment variable, as TRITON_CACHE_DIR is"):
        load_task(lab.path / "toy/task.yaml")


def test_what_is_no_plain_file_is_left_out(tmp_path: Path) -> None:
    source, secret = tmp_path / "source", tmp_path / "secret"
    (source / "one/two").mkdir(parents=True)
    secret.mkdir()
    (secret / "key").write_text("secret")
    (source / "one/two/kernel.so").write_bytes(b"code" * 1000)
    (source / "one/two/kernel.so").chmod(0o700)
    (source / "link").symlink_to(secret / "key")
    (source / "folder").symlink_to(secret)
    os.link(secret / "key", source / "hard")
    os.mkfifo(source / "fifo")
    deep = source
    for _ in range(caches.DEEPEST + 2):
        deep /= "d"
        deep.mkdir()
    (deep / "deep").write_text("x")
    assert caches.copy(source, tmp_path / "target")
    assert caches.files(tmp_path / "target") == ["one/two/kernel.so"]
    copied = tmp_path / "target/one/two/kernel.so"
    assert copied.read_bytes() == b"code" * 1000
    copied.write_bytes(b"poison")
    assert (source / "one/two/kernel.so").read_bytes() == b"code" * 1000  # neither a link nor shared blocks that one can write
    assert not caches.copy(source, tmp_path / "small", 3999)
    assert caches.copy(source, tmp_path / "exact", 4000)


def test_a_folder_that_turns_into_a_link_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    """The control is a copy by paths, which looks first and opens later."""
    source, secret = tmp_path / "source", tmp_path / "secret"
    for name in ("source/a", "secret"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / name / f"f{number}").write_text(name)
    (source / "z").symlink_to(secret)
    folder = (source / "a").lstat().st_mode
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for one, other in (("a", "x"), ("z", "a"), ("a", "z"), ("x", "a")):
                (source / one).rename(source / other)

    thread = threading.Thread(target=swap)
    thread.start()
    leaked, end = False, time.monotonic() + 60
    try:
        for _ in range(200):
            shutil.rmtree(tmp_path / "target", ignore_errors=True)
            caches.copy(source, tmp_path / "target")
            assert not [path for path in (tmp_path / "target").rglob("f*") if path.read_text() == "secret"]
        while not leaked and time.monotonic() < end:
            with suppress(OSError):
                leaked = (source / "a").lstat().st_mode == folder and (source / "a/f1").read_text() == "secret"
    finally:
        stop.set()
        thread.join()
    assert leaked
