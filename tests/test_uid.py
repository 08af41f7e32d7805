"""What the sandbox `uid` promises without namespaces: attacks on it, and controls that show the attacks to work elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Lab, make_lab
from machine import ANYBODY, NAMESPACES, filtered, missing, readable, with_caps

from harness.models import UserError
from harness.process import inner_env, run
from harness.protocols import Box, Exit
from harness.sandboxes import SANDBOXES, files, reach
from harness.sandboxes.init import alive
from harness.sandboxes.uid import PASSAGE, UIDS

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
PYTHON = "/usr/bin/python3"  # the interpreter of the tests may lie where nobody else can run it
CHANGE = "sed -i 's/5.0/4.0/' toy/solution.py"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="harness-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


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


@pytest.mark.parametrize(
    ("modes", "reachable", "exposes"),
    [
        ({"": 0o700}, False, []),
        ({"": 0o755}, True, [""]),
        ({"": 0o711}, True, [""]),
        ({"a": 0o700}, True, [""]),
        ({"": 0o711, "a": 0o711, "a/needed": 0o755}, True, ["a/file", "file"]),
        ({"": 0o711, "a": 0o711, "a/file": 0o600, "file": 0o640, "a/needed": 0o755}, True, []),
        ({"": 0o711, "a": 0o700, "file": 0o600, "a/needed": 0o755}, True, []),
    ],
)
def test_reach(place: Path, modes: dict[str, int], reachable: bool, exposes: list[str]) -> None:
    top = place / "secret"
    (top / "a/needed").mkdir(parents=True)
    for name in ("file", "a/file", "a/needed/file"):
        (top / name).write_text("x")
    for name, mode in modes.items():
        (top / name).chmod(mode)
    needed = [top / "a/needed"] if "a/needed" in modes else []
    assert reach.reaches(top, ANYBODY) == reachable
    assert reach.exposed(top, needed, ANYBODY) == [top / name for name in exposes]


class Readable(Lab):
    """A lab whose harness runs with an interpreter that other users can run, too, and with what `machine` begins with."""

    machine: tuple[str, ...] = ()

    def command(self, *args: str) -> list[str]:  # type: ignore[override]
        return [*readable(), *self.machine, *Lab.command(*args)]


@pytest.fixture
def lab(place: Path) -> Lab:
    made = make_lab(place)
    made.path.chmod(0o700)
    Path(made.env["HOME"]).mkdir(mode=0o700)
    (Path(made.env["HOME"]) / ".ssh").mkdir()
    (Path(made.env["HOME"]) / ".ssh/id_rsa").write_text("secret")
    return Readable(made.path, made.env)


def night(lab: Lab, script: str, *options: str) -> dict[str, object]:
    lab.agent("hostile", script)
    lab.harness("run", "--tag", "t", "--agent", "hostile", "--experiments", "1", "--sandbox", "uid", *options)
    return json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))


def test_a_night_is_recorded_as_what_it_is(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "better", "--agent", "crash", "--experiments", "2", "--sandbox", "uid")
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "crash"]
    record = json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))
    assert (record["sandbox"], record["measurements"][0]["sandbox"]) == ("uid", "uid")
    assert "uid sandbox" in lab.git("log", "-1", "--format=%B", "autoresearch/t")
    lab.harness("resume", "--tag", "t", "--experiments", "3")
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "4", "--sandbox", "bubblewrap")
    assert [row[3] for row in lab.rows()][-1] != "void"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter has x86-64's numbers")
def test_a_night_in_the_confinement_that_docker_gives_to_root(lab: Lab) -> None:
    lab.machine = (*with_caps(), *filtered(*NAMESPACES))  # type: ignore[attr-defined]
    run_it = ("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert "cannot make namespaces" in lab.harness(*run_it, code=1).stderr
    lab.harness(*run_it, "--sandbox", "uid")
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]
    checks = {each["check"]: each["problem"] for each in json.loads(lab.harness("doctor", "--json", code=1).stdout)}
    assert "cannot make namespaces" in checks["sandbox bubblewrap, which a night uses here unless --sandbox names another"]
    assert any(check.startswith("sandbox uid could be used: weaker") for check in checks)
    (Path(lab.env["HOME"]) / ".config/harness").mkdir(parents=True)
    (Path(lab.env["HOME"]) / ".config/harness/config.yaml").write_text("sandbox: uid\n")
    checks = {each["check"]: each["problem"] for each in json.loads(lab.harness("doctor", "--json").stdout)}
    assert checks["sandbox uid, which a night uses here unless --sandbox names another"] is None


def test_a_night_of_attacks(lab: Lab) -> None:
    home, lab.env["API_KEY"] = lab.env["HOME"], "secret"
    secrets = (
        f"{home}/.ssh/id_rsa",
        f"{lab.path}/.git/HEAD",
        f"{lab.path}/program.md",
        "../../../logs/t/0000.log",
        "/etc/shadow",
    )
    reads = "; ".join(f"cat '{path}' && echo READ" for path in (*secrets, "../../../settings/t.json", "../../../hidden.log"))
    lists = "; ".join(f"ls '{path}' && echo LISTED" for path in (home, lab.path, "..", "../..", "../../.."))
    body = "import os; print('uid', os.getuid(), os.access('../request.json', os.R_OK), os.access('../..', os.R_OK))"
    late = "(setsid sh -c 'sleep 0.3; echo late >> toy/solution.py' >/dev/null 2>&1 &)"
    leaves = f"printenv API_KEY && echo READ; git log -1 --format=GIT-%s; {late}; echo x > AGENTS.md"
    record = night(lab, f'{reads}; {lists}; {leaves}; {CHANGE}; echo "{body}" >> toy/solution.py')
    seen = lab.git("show", "refs/experiments/t/0001:transcript.txt")
    assert "READ" not in seen
    assert "LISTED" not in seen
    assert "GIT-" in seen
    assert record["verdict"]["status"] == "keep"  # type: ignore[index]
    assert "late" not in lab.git("show", "autoresearch/t:toy/solution.py")
    told = lab.git("show", "refs/experiments/t/0001:train-1.log")
    assert "uid 609" in told
    assert "False False" in told


def test_a_hidden_file_of_the_system_refuses_the_night(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "outputs:", "hidden: [sh, -c, 'echo /usr/share/common-licenses/BSD']\noutputs:")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "hide")
    done = lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1", "--sandbox", "uid", code=1)
    assert "the sandbox uid cannot hide /usr/share/common-licenses/BSD: every user can read it" in done.stderr


def test_what_others_could_read_or_not_enter_is_one_sentence_with_its_mend(lab: Lab) -> None:
    run_it = ("run", "--tag", "t", "--agent", "better", "--experiments", "1", "--sandbox", "uid")
    home, state = Path(lab.env["HOME"]), Path(lab.env["XDG_STATE_HOME"])
    lab.path.chmod(0o755)
    assert f"could read {lab.path}: run `chmod 700 '{lab.path}'`" in lab.harness(*run_it, code=1).stderr
    lab.path.chmod(0o700)
    home.chmod(0o750 | 1)
    assert f"could read {home}: run `chmod 700 {home}`" in lab.harness(*run_it, code=1).stderr
    home.chmod(0o700)
    state.mkdir(exist_ok=True)
    state.chmod(0o700)
    said = lab.harness(*run_it, code=1).stderr
    assert (
        f"cannot enter {state}: put it elsewhere with `export XDG_STATE_HOME=/var/lib/harness`, or run `chmod o+x {state}`"
        in said
    )
    state.chmod(0o755)
    home.parent.chmod(0o777)
    assert f"since everybody may write to {home.parent}: run `chmod o-w {home.parent}`" in lab.harness(*run_it, code=1).stderr
    home.parent.chmod(0o755)
    if readable():
        done = subprocess.run(Lab.command(*run_it), cwd=lab.path, env=lab.env, capture_output=True, text=True)
        assert "as another user, who cannot enter" in done.stderr
        assert "install it below /usr or /opt, or run `chmod o+x" in done.stderr
    lab.harness(*run_it)


def test_an_ordinary_user_is_told(lab: Lab) -> None:
    code = "from harness.sandboxes import get; get('uid')"
    done = subprocess.run(
        [*readable(), "setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", code], capture_output=True
    )
    assert b"the sandbox uid needs root" in done.stderr


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
