"""The live view of a night: driven in a real terminal while a night works, ends and is killed, and held to its size."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import long_night
import pexpect
import pytest
from conftest import Lab, make_lab

from harness import git, locks, refs
from harness.ledger import Ledger
from harness.reader import Reader

REFEREE = """\
import json, sys, time
from pathlib import Path
from harness.models import Measurement, Request
from harness.referee import serve

wait = Path("{wait}")

def measure(request: Request) -> Measurement:
    text, curve = (request.tree / "toy/solution.py").read_text(), []
    for step in range(1, 41):
        curve.append((step, 2 + 8 / step))
        state = {{"phase": "train", "left_s": 0.05 * (40 - step), "loss": curve[-1][1]}}
        request.progress.with_suffix(".part").write_text(json.dumps(state))
        request.progress.with_suffix(".part").replace(request.progress)
        while wait.exists() and "X = 4.0" in text:
            time.sleep(0.05)
            if step != 28:
                break
    value = abs(float(text.split("X = ")[1].split()[0]) - 3)
    return Measurement(status="ok", value=value, seed=request.seed, curve=curve)

sys.exit(serve(measure, sys.argv[1:]))
"""


def until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class Terminal:
    """`harness watch` in tmux, which shows what a terminal would; the shell that started it says how it ended."""

    def __init__(self, lab: Lab, columns: int, rows: int, *args: str, **env: str) -> None:
        self.server = ["tmux", "-L", f"watch-{os.getpid()}-{id(self)}", "-f", "/dev/null"]
        command = " ".join(f"'{word}'" for word in lab.command("watch", *args))
        told = {**lab.env, "LANG": "C.UTF-8", "TERM": "xterm-256color", **env}
        shell = f"cd '{lab.path}'; trap : INT; {command}; echo \"it ended with $?.\"; sleep 100"
        size = ("-x", str(columns), "-y", str(rows))
        subprocess.run([*self.server, "new-session", "-d", "-s", "w", *size, "sh", "-c", shell], check=True, env=told)

    def tmux(self, *args: str) -> str:
        return subprocess.run([*self.server, *args], check=True, capture_output=True, text=True).stdout

    def lines(self) -> list[str]:
        return self.tmux("capture-pane", "-p", "-t", "w").split("\n")[:-1]

    def shows(self, *texts: str) -> list[str]:
        until(lambda: all(any(text in line for line in self.lines()) for text in texts))
        return self.lines()


@contextmanager
def terminal(lab: Lab, columns: int, rows: int, *args: str, **env: str) -> Iterator[Terminal]:
    shown = Terminal(lab, columns, rows, *args, **env)
    try:
        yield shown
    finally:
        shown.tmux("kill-server")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A toy task whose referee publishes a loss, and holds the runs back while the file `wait` is there."""
    made = make_lab(tmp_path_factory.mktemp("watched"))
    (made.path / "toy/referee.py").write_text(REFEREE.format(wait=made.path.parent / "wait"))
    made.edit("toy/task.yaml", "evaluate: [python, toy/evaluate.py]", "referee: [python, toy/referee.py]")
    made.agent("hostile", "sed -i 's/^X = 5.0/X = 4.0/' toy/solution.py; NOTE", "See [red]red[/red] and [/]")
    made.git("add", ".")
    made.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a referee that tells")
    return made


@contextmanager
def night(lab: Lab, tag: str) -> Iterator[subprocess.Popen[bytes]]:
    """A night whose first candidate's run goes on until the file `wait` is gone."""
    (lab.path.parent / "wait").touch()
    asked = ("run", "--tag", tag, "--agent", "hostile", "--experiments", "1", "--sandbox", "none", "--hours", "5")
    process = lab.start(*asked)
    try:
        yield process
    finally:
        (lab.path.parent / "wait").unlink(missing_ok=True)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def seen(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """The night that most of these tests look at, the last of them when it has ended."""
    with night(lab, "seen") as process:
        trained(lab, "seen")
        yield process


def fits(lines: list[str], columns: int, rows: int) -> bool:
    """Whether a screen has the first line of a frame at its top, the last one at its bottom, and both as wide as it is."""
    top = lines[0].startswith("seen  toy") and len(lines[0].rstrip()) == columns
    bottom = lines[-1].startswith("q quits") and len(lines[-1].rstrip()) == columns
    return top and bottom and len(lines) == rows and sum("at work" in line for line in lines) == 1


def trained(lab: Lab, tag: str) -> None:
    """Wait until a candidate has trained for a while, by what the night itself publishes."""
    until((lab.path / f".git/refs/experiments/{tag}/0001").exists)
    published = lab.state / f"status/{tag}.json"
    until(lambda: any(len(work["curve"]) > 5 for work in json.loads(published.read_text())["activities"]))


def traces(lab: Lab) -> list[tuple[str, int, int]]:
    """Every file of repository and state folder, its size and when it last changed; but for the run at work itself."""
    folders = [lab.path, *lab.path.parent.glob("state")]
    found = [path for folder in folders for path in folder.rglob("*") if "runs" not in path.parts]
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in found)


def test_looking_leaves_no_trace_and_one_frame_does_for_a_pipe(lab: Lab, seen: subprocess.Popen[bytes]) -> None:
    os.kill(seen.pid, signal.SIGSTOP)
    try:
        before = traces(lab)
        told = json.loads(lab.harness("status", "--json").stdout)
        once, piped = lab.harness("watch", "--once"), lab.harness("watch")
        assert traces(lab) == before
    finally:
        os.kill(seen.pid, signal.SIGCONT)
    assert (told["tag"], told["running"], told["state"], told["stop"]["hours"]) == ("seen", True, "running", 5.0)
    assert 4.9 * 3600 < told["left_s"] <= 5 * 3600
    assert once.stdout.startswith("seen  toy, profile default")
    assert "\x1b" not in once.stdout + piped.stdout
    assert max(map(len, once.stdout.splitlines())) <= 100
    assert once.stderr == ""
    assert piped.stderr.startswith("no terminal that could be drawn anew")


def test_no_night_is_one_sentence_and_leaves_no_folder(tmp_path: Path) -> None:
    none = make_lab(tmp_path)
    assert none.harness("watch", code=1).stderr == "harness: there is no night here yet: start one with `harness run`\n"
    assert not Path(none.env["XDG_STATE_HOME"]).exists()
    assert not (none.path / ".git/harness").exists()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux, which shows what a terminal would, is not installed")
def test_a_night_is_watched_in_any_size_until_it_ends(lab: Lab, seen: subprocess.Popen[bytes]) -> None:
    with terminal(lab, 100, 30) as shown:
        wide = shown.shows(
            "0001 hostile  See [red]red[/red] and [/]", "training", "loss of 0001, dotted: incumbent 0000", "0 of 1"
        )
        assert wide[0].startswith("seen  toy, profile default")
        assert wide[0].rstrip().endswith(("s", "min"))
        assert "● at work for" in wide[0]
        assert any(re.search(r"training  ━+.*left  loss 2\.\d", line) for line in wide), wide
        assert sum(any("\u2801" <= char <= "\u28ff" for char in line) for line in wide) > 4
        assert wide[29].startswith("q quits")
        for columns, rows in ((40, 10), (300, 80), (60, 16), (100, 30)):
            shown.tmux("resize-window", "-t", "w", "-x", str(columns), "-y", str(rows))
            until(lambda size=(columns, rows): fits(shown.lines(), *size))
            time.sleep(0.6)  # it is drawn once more
            assert fits(shown.lines(), columns, rows), "nothing was wrapped or scrolled"
        (lab.path.parent / "wait").unlink()
        assert seen.wait(60) == 0
        ended = shown.shows("stopped: 1 experiment is done", "1 of 1", "0001 keep", "better by 1")
        assert "● ended" in ended[0]
        shown.tmux("send-keys", "-t", "w", "q")
        shown.shows("it ended with 0.")
        assert not any("last verdicts" in line for line in shown.lines()), "the screen is as it was before"


def test_a_terminal_that_can_do_little_gets_what_it_can(lab: Lab, seen: subprocess.Popen[bytes]) -> None:
    (lab.path.parent / "wait").unlink(missing_ok=True)
    assert seen.wait(60) == 0
    env = {**lab.env, "TERM": "dumb", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = lab.command("watch", "--tag", "seen")
    done = pexpect.spawn(command[0], command[1:], cwd=str(lab.path), env=env, dimensions=(20, 50))
    done.expect(pexpect.EOF)
    done.wait()
    assert done.exitstatus == 0
    assert b"\x1b" not in done.before
    assert done.before.isascii()
    assert b"* ended" in done.before
    child = pexpect.spawn(command[0], command[1:], cwd=str(lab.path), env={**env, "TERM": "vt100"}, dimensions=(10, 40))
    child.expect("q quits", timeout=60)
    child.send("\x03")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 130
    assert b"\x1b[?1049l" in child.before, "the screen is as it was before"


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux, which shows what a terminal would, is not installed")
def test_a_night_that_is_killed_is_said_to_be_and_since_when(lab: Lab) -> None:
    with night(lab, "dead") as process:
        trained(lab, "dead")
        with terminal(lab, 90, 24, "--tag", "dead", NO_COLOR="1") as shown:
            shown.shows("training", "q quits")
            assert "\x1b[3" not in shown.tmux("capture-pane", "-e", "-p", "-t", "w").replace("\x1b[39m", "")
            process.kill()
            process.wait()
            lines = shown.shows("● killed", "`harness resume --tag dead` goes on")
            assert re.search(r"killed \w{3} \d\d \d\d:\d\d:\d\d$", lines[0].rstrip())
            assert "not running: killed at 20" in lab.harness("status", "--tag", "dead").stdout
            shown.tmux("send-keys", "-t", "w", "C-c")
            shown.shows("it ended with 130.")


def test_a_night_of_any_length_costs_nothing_while_nothing_moves(tmp_path: Path) -> None:
    long_night.make(tmp_path / "lab", 300, 8)
    reader = Reader(git.open_repo(tmp_path / "lab"), "t")
    first = reader.look()
    until(lambda: reader.look().history is reader.look().history)
    assert first.history.done == 300
    spent = time.process_time()
    for _ in range(20):
        reader.look()
    assert time.process_time() - spent < 20 * 0.05
    ledger = Ledger(git.open_repo(tmp_path / "lab"), "t")
    last = ledger.records()[-1]
    before = reader.look().history
    tip = subprocess.run(
        ["git", "rev-parse", "refs/experiments/t/0299"], cwd=tmp_path / "lab", check=True, capture_output=True, text=True
    ).stdout
    assert last.id == "0300"
    subprocess.run(["git", "update-ref", "refs/experiments/t/0300", tip.strip()], cwd=tmp_path / "lab", check=True)
    assert reader.look().history is not before, "a ref that moved is seen at the next look"
    gone = str(refs.resolve(ledger.repo, "refs/experiments/t/0017"))
    refs.delete(ledger.repo, "refs/experiments/t/0017")
    assert reader.look().history.done == 299
    refs.swap(ledger.repo, "refs/experiments/t/0017", gone, None)
    assert reader.ledger.get("17").id == "0017"
    assert reader.look().history.done == 300, "also one that was asked for by its number meanwhile"
    refs.delete(ledger.repo, "refs/experiments/t/0017")
    now, anew = reader.look(), Reader(git.open_repo(tmp_path / "lab"), "t").look()
    assert now.history.done == 299
    assert (now.history, now.summary) == (anew.history, anew.summary), "counting what moved gives what counting all gives"


def test_refs_that_change_twice_within_a_tick_are_read_twice(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    folder, glance = tmp_path / ".git/refs/experiments/t", refs.Glance(git.Repo(str(tmp_path)), "refs/experiments/*")
    folder.mkdir(parents=True)
    assert glance.moved()
    assert glance.moved(), "as long as nobody has read them"
    glance.settle()
    assert not glance.moved()
    tick = time.time_ns() - refs.FRESH_NS + 300_000_000  # what changes in the rest of that tick leaves no trace on the folder
    os.utime(folder, ns=(tick, tick))
    assert glance.moved()
    glance.settle()
    until(glance.moved)
    glance.settle()
    assert not glance.moved()
    time.sleep(0.4)
    assert not glance.moved(), "once is enough"


def test_asking_whether_a_night_works_is_no_night(tmp_path: Path) -> None:
    """The control is what asking used to be: taking the lock for a moment, which others who ask took for a night."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    repo, ended = git.Repo(str(tmp_path)), threading.Event()
    with locks.hold(repo, "t"):
        assert locks.held(repo, "t")

    def asked(how: Callable[[], bool], enough: Callable[[list[bool]], bool]) -> bool:
        ended.clear()
        answers: list[bool] = []

        def ask() -> None:
            while not ended.is_set():
                answers.append(how())

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: enough(answers))
        ended.set()
        for thread in threads:
            thread.join()
        return any(answers)

    def by_taking() -> bool:
        try:
            with locks.hold(repo, "t", tries=1):
                return False
        except Exception:
            return True

    assert asked(by_taking, any), "however long that takes: threads have to meet"
    assert not asked(lambda: locks.held(repo, "t"), lambda answers: len(answers) > 3000)
    with locks.hold(repo, "t"):
        assert locks.held(repo, "t")
