"""What the sandbox `uid` promises without namespaces: attacks on it, and controls that show the attacks to work elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from machine import missing

from harness.models import UserError
from harness.process import inner_env, run
from harness.protocols import Box, Exit
from harness.sandboxes import SANDBOXES, files
from harness.sandboxes.init import alive
from harness.sandboxes.uid import PASSAGE, UIDS

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
PYTHON = "/usr/bin/python3"  # the interpreter of the tests may lie where nobody else can run it


def confined(place: Path, script: str, sandbox: str = "uid", deadline_s: float = 10.0, **fields: object) -> Exit:
    (place / "box").mkdir(exist_ok=True)
    box = replace(Box(cwd=place / "box", writable=(place / "box",), env=inner_env()), **fields)  # type: ignore[arg-type]
    with SANDBOXES[sandbox]().wrap(["sh", "-c", script], box) as launch:
        return run(launch, place / "log", deadline_s)


def python(code: str) -> str:
    return f"{PYTHON} - <<'EOF'\n{code}\nEOF\n"


def test_it_is_nobody_with_no_way_back(place: Path) -> None:
    seen = confined(place, "id; cat /proc/self/status").tail
    assert f"uid={UIDS[0]}" in seen or any(f"uid={uid}" in seen for uid in UIDS)
    assert f",{PASSAGE}\n" in seen
    for line in ("CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in seen


def test_two_at_once_are_two_users_who_cannot_touch_each_other(place: Path) -> None:
    seen = []
    with ExitStack() as stack:
        for name in ("a", "b"):
            (place / name).mkdir(mode=0o755)
            box = Box(cwd=place / name, writable=(place / name,), env=inner_env())
            script = f"id -u; echo x > {place / 'a' / 'file'} && echo wrote"
            launch = stack.enter_context(SANDBOXES["uid"]().wrap(["sh", "-c", script], box))
            seen.append(run(launch, place / "log", 10).tail)
    assert seen[0].endswith("wrote\n")
    assert "wrote" not in seen[1]
    assert seen[0].split()[0] != seen[1].split()[0]


FORKS = {
    "a bomb": "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 60",
    "a daemon": "(trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; (sleep 60 &) ; sleep 60' & ) ; sleep 60",
    "killers of the killer": python(
        "import os\nfor _ in range(6): os.fork()\nwhile True:\n  try: os.kill(-1, 9)\n  except OSError: 0"
    ),
    "one that stops itself": "kill -STOP $$",
}


@pytest.mark.parametrize("what", FORKS)
def test_nothing_lives_after_the_deadline(place: Path, what: str) -> None:
    started = time.monotonic()
    ended = confined(place, f"id -u > uid; {FORKS[what]}", deadline_s=1.0)
    assert ended.timed_out or what == "killers of the killer"
    assert not alive(int((place / "box/uid").read_text()))
    assert time.monotonic() - started < 20


def listeners(place: Path) -> tuple[list[socket.socket], str]:
    """A server on the loopback device, one with an abstract name and one in a file, and the code that reaches each of them."""
    tcp, name, path = socket.socket(), f"\0harness-{place.name}", place / "socket"
    tcp.bind(("127.0.0.1", 0))
    abstract, file = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    abstract.bind(name)
    file.bind(str(path))
    path.chmod(0o777)
    for server in (tcp, abstract):
        server.listen()
    code = f"""
import socket
def tcp(): socket.create_connection(("127.0.0.1", {tcp.getsockname()[1]}), 2)
def abstract(): socket.socket(socket.AF_UNIX).connect({name!r})
def file(): socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", {str(path)!r})
def pair(): socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", {str(path)!r})
def stream(): a = socket.socketpair()[0]; a.connect({name!r})
def vsock(): socket.socket(socket.AF_VSOCK if hasattr(socket, "AF_VSOCK") else 40)
for attack in (tcp, abstract, file, pair, stream, vsock):
    try: attack(); print("REACHED", attack.__name__)
    except OSError as error: print(attack.__name__, error)
a, b = socket.socketpair(); a.send(b"pairs"); print(b.recv(9))
"""
    return [tcp, abstract, file], code


@pytest.mark.parametrize("sandbox", ["uid", "none"])
def test_no_socket_leads_outside(place: Path, sandbox: str) -> None:
    servers, code = listeners(place)
    seen = confined(place, python(code), sandbox).tail
    for server in servers:
        server.close()
    reached = {line.split()[1] for line in seen.splitlines() if line.startswith("REACHED")}
    assert reached >= {"tcp", "abstract", "file", "pair"} if sandbox == "none" else not reached
    assert "b'pairs'" in seen


def test_an_inherited_socket_works(place: Path) -> None:
    ours, theirs = socket.socketpair()
    ended = confined(
        place, python(f"import socket\nsocket.socket(fileno={theirs.fileno()}).send(b'hello')"), fds=(theirs.fileno(),)
    )
    theirs.close()
    assert (ours.recv(9), ended.code) == (b"hello", 0)
    ours.close()


def test_nothing_is_left_where_everybody_may_write(place: Path) -> None:
    (place / "loose").mkdir()
    (place / "loose").chmod(0o777)
    memory = "import ctypes; print('segment', ctypes.CDLL(None).shmget(4242, 4096, 0o1666))"
    left = [f"{folder}/left-by-{place.name}" for folder in ("/tmp", "/var/tmp", "/dev/shm", place / "loose")]
    seen = confined(place, f"for f in {' '.join(left)}; do mkdir -p $f/deep && echo made; done\n" + python(memory))
    assert seen.tail.splitlines() == ["made"] * len(left) + ["segment -1"]
    assert not any(map(os.path.lexists, left))
    assert not Path(confined(place, "echo $TMPDIR").tail.strip()).exists()


def test_what_it_wrote_is_ours_and_opens_no_way_to_root(place: Path) -> None:
    (place / "theirs").write_text("somebody's")
    os.chown(place / "theirs", 65534, 65534)
    confined(
        place,
        f"cp /bin/sh root; chmod 6755 root; ln -s {place}/theirs link; ln {place}/theirs hard; mkdir -m 0 shut; echo x > file",
    )
    found = {path.name: path.lstat() for path in (place / "box").iterdir()}
    assert found.keys() >= {"root", "link", "shut", "file"}
    assert {facts.st_uid for name, facts in found.items() if name != "hard"} == {0}
    assert not found["root"].st_mode & 0o6000
    assert (place / "theirs").stat().st_uid == 65534


def test_what_is_frozen_can_be_neither_changed_nor_replaced(place: Path) -> None:
    box = place / "box"
    (box / "kept").mkdir(parents=True)
    for name in ("edit.py", "frozen.py", "kept/inner.py"):
        (box / name).write_text("before\n")
    attacks = ("echo x > frozen.py", "rm -f frozen.py", "mv edit2 frozen.py", "mv kept gone", "echo x > kept/new", "chmod 777 .")
    script = "sed 's/before/after/' edit.py > new && mv new edit.py; cp edit.py edit2; " + "; ".join(
        f"{a} && echo BROKEN" for a in attacks
    )
    seen = confined(place, script, frozen=(box / "frozen.py", box / "kept")).tail
    assert "BROKEN" not in seen
    assert [(box / name).read_text() for name in ("edit.py", "frozen.py", "kept/inner.py")] == ["after\n", "before\n", "before\n"]


def test_hidden_files_of_ours_are_closed_and_others_refused(place: Path) -> None:
    for name in ("answers", "folder"):
        (place / name).mkdir()
        (place / name / "file").write_text("3")
    hidden = (place / "answers/file", place / "folder")
    script = f"cat {place}/answers/file {place}/folder/file && echo READ"
    assert confined(place, script).tail == "33READ\n"
    assert "READ" not in confined(place, script, hidden=hidden).tail
    with pytest.raises(UserError, match=r"cannot hide /usr/share/common-licenses/BSD: every user can read it"):
        confined(place, "true", hidden=(Path("/usr/share/common-licenses/BSD"),))
    assert Path("/usr/share/common-licenses/BSD").stat().st_mode & 0o044 == 0o044


def test_a_folder_that_it_cannot_enter_is_named(place: Path) -> None:
    (place / "closed/data").mkdir(parents=True)
    (place / "closed").chmod(0o700)
    with pytest.raises(UserError, match=rf"cannot read {place}/closed/data: run `chmod o\+rx {place}/closed`"):
        confined(place, "true", readable=(place / "closed/data",))


ABANDONED = """
import sys, time
from pathlib import Path
from harness.process import inner_env, Process
from harness.protocols import Box
from harness.sandboxes.uid import Uid
folder = Path(sys.argv[1])
box = Box(folder, writable=(folder,), env=inner_env())
with Uid().wrap(["sh", "-c", f"touch {sys.argv[2]}; id -u > part; mv part uid; setsid sleep 61 & sleep 61"], box) as launch:
    with Process(launch, folder.parent / "log") as process:
        print(process.pid, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("victim", ["harness", "init"])
def test_the_tree_dies_with_the_harness_and_what_a_killed_init_left_is_ended(place: Path, victim: str) -> None:
    (place / "box").mkdir()
    left, told = Path(f"/tmp/left-by-{place.name}"), place / "box/uid"
    argv = [sys.executable, "-c", ABANDONED, str(place / "box"), str(left)]
    harness = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert harness.stdout is not None
    init = int(harness.stdout.readline())
    end = time.monotonic() + 20
    while not told.exists() and time.monotonic() < end:
        time.sleep(0.02)
    uid = int(told.read_text())
    for pid in [init, harness.pid] if victim == "init" else [harness.pid]:
        os.kill(pid, signal.SIGKILL)
    harness.wait()
    harness.stdout.close()
    while victim == "harness" and alive(uid) and time.monotonic() < end:
        time.sleep(0.02)
    assert bool(alive(uid)) == (victim == "init")
    with ExitStack() as stack:  # whoever is the next to get this uid, makes an end of what it left
        while left.exists() and time.monotonic() < end:
            stack.enter_context(SANDBOXES["uid"]().wrap(["true"], Box(cwd=place)))
    assert not alive(uid)
    assert not left.exists()


def test_sweeping_follows_no_link(place: Path) -> None:
    (place / "precious").mkdir()
    (place / "precious/file").write_text("x")
    os.chown(place / "precious/file", UIDS[3], UIDS[3])
    link = Path("/tmp") / f"harness-link-{place.name}"
    link.symlink_to(place / "precious")
    os.chown(link, UIDS[3], UIDS[3], follow_symlinks=False)
    files.sweep(UIDS[3])
    assert not os.path.lexists(link)
    assert (place / "precious/file").exists()


BUSY = """
import os, sys
while True:
    for name in range(300):
        open(f"{sys.argv[1]}/{name}", "w").close()
    for name in range(300):
        os.remove(f"{sys.argv[1]}/{name}")
"""


def test_sweeping_leaves_nothing_because_another_process_removes_files_beside(place: Path) -> None:
    shared = Path("/tmp") / f"harness-shared-{place.name}"
    shared.mkdir()
    shared.chmod(0o1777)
    other = subprocess.Popen([sys.executable, "-c", BUSY, str(shared)])
    try:
        for turn in range(8):
            left = [shared / f"left-{turn}-{each}" for each in range(20)]
            for path in left:
                path.touch()
                os.chown(path, UIDS[3], UIDS[3])
            files.sweep(UIDS[3])
            assert not [path for path in left if path.exists()]
    finally:
        other.kill()
        other.wait()
        shutil.rmtree(shared)
