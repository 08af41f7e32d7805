"""What a run could learn from the machine or leave to the next one, with a control without the sandbox in which it does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from secrets import token_hex

import pytest
from course import ROOT, Course, bare, changed, course

from nanochat_train import corpus
from nanochat_train.hidden import libraries
from nanochat_train.prepare import prepare

__all__ = ["bare", "course"]

KEEP = """
    import ctypes
    libc = ctypes.CDLL(None)
    paths = {{place: os.path.join(os.path.expanduser(place), {mark!r}) for place in {places!r}}}
    found = [place for place, path in paths.items() if os.path.exists(path)]
    for place, path in paths.items():
        try:
            if place in found:
                os.unlink(path)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                open(path, "w").close()
        except OSError:
            pass
    memory = libc.shmget(ctypes.c_int(0x{key}), ctypes.c_size_t(4096), 0o666)
    if memory >= 0:
        found.append("System V")
        libc.shmctl(memory, 0, None)
    else:
        libc.shmget(ctypes.c_int(0x{key}), ctypes.c_size_t(4096), 0o1666)
    run.note("found", found)
    run.start()
"""


def test_nothing_that_a_run_leaves_reaches_the_next(course: Course) -> None:
    scratch, mark, key = ("/tmp", "/tmp/torchinductor_me", "/dev/shm"), token_hex(8), f"0{token_hex(4)[1:]}"
    closed = ("/var/tmp", "~", "~/.cache", "~/.triton", sys.prefix, str(ROOT), str(ROOT / "nanochat_train/__pycache__"), ".")
    found = {}
    for sandbox, places in (("none", scratch), ("bubblewrap", (*scratch, *closed))):
        source = changed(("    run.start()\n", KEEP.format(places=places, mark=mark, key=key)))
        found[sandbox] = [course.train(source, sandbox=sandbox).notes["found"] for _ in range(2)]
    Path("/tmp/torchinductor_me").rmdir()
    assert found["bubblewrap"] == ["[]", "[]"]
    assert found["none"] == ["[]", str([*scratch, "System V"])]


SEARCH = """
    found = []
    text = {text!r}[::-1].encode()
    ids = bytes.fromhex({ids!r})[::-1]
    for root in {roots!r}:
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name != "site-packages"]
            for name in files:
                try:
                    content = open(os.path.join(folder, name), "rb").read()
                except OSError:
                    continue
                if text in content or ids in content:
                    found.append(name)
    run.note("found", sorted(found))
    raise LookupError("searched")
"""


def test_training_finds_no_validation_text_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    lab = Course(tmp_path / "work")
    prepare("cpu")
    split = corpus.standard_library()
    training = "".join(document.text for document in split.train)
    lines = {line.strip(): document.name for document in split.val for line in document.text.splitlines()}
    longest = sorted(filter(str.isascii, lines), key=len, reverse=True)
    line = next(line for line in longest if line not in training)
    ids = lab.data.rows("val")[0].tobytes()[::-1].hex()
    library = Path(os.__file__).resolve().parent
    roots = [str(tmp_path / "cache"), *dict.fromkeys(str(root) for root in (library, *libraries()))]
    source = changed(("    run.start()\n", SEARCH.format(text=line[::-1], ids=ids, roots=roots)))
    confined, free = (lab.train(source, sandbox=name, startup_s=60) for name in ("bubblewrap", "none"))
    assert "LookupError: searched" in confined.reason
    assert confined.notes["found"] == "[]"
    assert "val.npy" in free.notes["found"]
    assert Path(lines[line]).name in free.notes["found"]
