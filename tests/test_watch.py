"""The live view of a night: driven in a real terminal while a night works, ends and is killed, and held to its size."""

from __future__ import annotations

import io
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
from rich.console import Console
from rich.text import Text

from harness import git, locks
from harness.cells import plain
from harness.frame import frame
from harness.ledger import Ledger
from harness.live import Best, Closed, Live, Reader, Work
from harness.models import Stop
from harness.plots import Line, Range, plot

HOSTILE = (
    "\x1b[2J\x1b[31mgone \x07\x9b2J\u202egnp.exe\u2066 [red]markup[/red] [/] \u200bwide 漢字 a\u0301\u0302\u0303 "
    "\U0001f468\u200d\U0001f469 \r\n x"
)
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
    """Every file of repository and state folder, its size and when it last changed."""
    folders = [lab.path, *lab.path.parent.glob("state")]
    found = [path for folder in folders for path in folder.rglob("*")]
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in found)


def test_looking_leaves_no_trace_and_one_frame_does_for_a_pipe(lab: Lab, seen: subprocess.Popen[bytes]) -> None:
    trained(lab, "seen")
    os.kill(seen.pid, signal.SIGSTOP)
    before = traces(lab)
    told = json.loads(lab.harness("status", "--json").stdout)
    once, piped = lab.harness("watch", "--once"), lab.harness("watch")
    assert traces(lab) == before
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
        ended = shown.shows("stopped: 1 experiments are done", "1 of 1", "0001 keep", "better by 1")
        assert "● ended" in ended[0]
        shown.tmux("send-keys", "-t", "w", "q")
        shown.shows("it ended with 0.")
        assert not any("last verdicts" in line for line in shown.lines()), "the screen is as it was before"


def test_a_terminal_that_can_do_little_gets_what_it_can(lab: Lab, seen: subprocess.Popen[bytes]) -> None:
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
    for key, code in (("q", 0), ("\x03", 130)):
        child = pexpect.spawn(command[0], command[1:], cwd=str(lab.path), env={**env, "TERM": "vt100"}, dimensions=(10, 40))
        child.expect("q quits", timeout=60)
        child.send(key)
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == code
        assert child.before.endswith(b"\x1b[?25h") or b"\x1b[?1049l" in child.before


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


def test_asking_whether_a_night_works_is_no_night(tmp_path: Path) -> None:
    """The control is what asking used to be: taking the lock for a moment, which others who ask took for a night."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    repo, ended = git.Repo(str(tmp_path)), threading.Event()
    with locks.hold(repo, "t"):
        assert locks.held(repo, "t")

    def asked(how: Callable[[], bool]) -> bool:
        ended.clear()
        answers: list[bool] = []

        def ask() -> None:
            while not ended.is_set():
                answers.append(how())

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(answers) > 3000)
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

    assert asked(by_taking)
    assert not asked(lambda: locks.held(repo, "t"))
    with locks.hold(repo, "t"):
        assert locks.held(repo, "t")


def busy(title: str, works: int = 2) -> Live:
    """A night in which everything that could be text is `title`."""
    reader = Live.model_validate(BUSY)
    curve = [(n / 50, 9 / (n + 1)) for n in range(50)]
    now = [
        Work(
            experiment=f"{n:04d}",
            title=title,
            agent=title,
            phase=title,
            run=n < 3,
            limited=n > 1,
            elapsed_s=1e9,
            left_s=12.5,
            share=0.4,
        ).model_copy(update={"loss": float("nan") if n else 3.25, "curve": [*curve, (0.7, 1e300), (0.8, -1e300)]})
        for n in range(works)
    ]
    closed = [
        Closed(id=f"{n:04d}", agent=title, title=title, status="discard", reason=title, shown="1.25", believed="-0.1")
        for n in range(40)
    ]
    best = Best(id="0001", title=title, value=1.0, curve=curve)
    told = {"task": title, "profile": title, "latest": closed, "best": best, "tried": [(n, 1 + n % 7) for n in range(90)]}
    history = reader.history.model_copy(update={**told, "kept": [(2, 1.5), (9, 1.0)], "counts": {"discard": 37, "keep": 2}})
    return reader.model_copy(
        update={"now": now, "history": history, "reason": title if works % 2 else "", "usd": 3.2, "stop": Stop(cost_usd=5)}
    )


BUSY = {
    **{
        "tag": "t",
        "running": True,
        "state": "running",
        "since": "2026-11-22T01:00:00+00:00",
        "reason": "",
        "now": [],
        "workers": 2,
    },
    **{"slots": 4, "stop": None, "usd": None, "left_s": 7200.0, "eta_s": 9000.0, "summary": ""},
    "history": {
        **{
            "task": "toy",
            "profile": "cpu",
            "metric": {"name": "loss"},
            "baseline": 2.0,
            "best": {"id": "0", "title": "", "value": 1.0},
        },
        **{"counts": {}, "done": 39, "kept": [], "tried": [], "latest": [], "ends": []},
    },
}


def drawn(lines: list[Text], width: int) -> str:
    """What a terminal is sent."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False, markup=False, emoji=False)
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", crop=True, soft_wrap=True)
    return out.getvalue()


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("works", [0, 1, 2, 9])
def test_no_text_and_no_size_break_a_frame(works: int, ascii_only: bool) -> None:
    for title in (HOSTILE * 3, "漢" * 200, "", "\u0645\u0631\u062d\u0628\u0627 " * 30):
        live = busy(title, works)
        for width, height in ((40, 10), (41, 11), (79, 24), (100, 30), (139, 14), (300, 80), (1, 1), (12, 3)):
            lines = frame(live, width, height, "q quits", ascii_only)
            assert len(lines) == height or height < 4
            assert max(line.cell_len for line in lines) <= width
            sent = drawn(lines, width)
            assert sent.count("\n") == len(lines)
            assert not set(sent) & {
                chr(code) for code in (*range(10), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0x200B, 0x200D)
            }
            assert sent.isascii() or not ascii_only


def test_what_agents_wrote_is_shown_and_obeyed_by_nobody() -> None:
    """The control shows what each of these would do where it is printed as it is."""
    sent = drawn([Text(HOSTILE)], 200)
    assert "\x1b[2J" in sent
    assert "\u202e" in sent
    markup = io.StringIO()
    Console(file=markup, width=100).print("[red]markup[/red]")
    assert markup.getvalue() == "markup\n"
    shown = "".join(line.plain for line in frame(busy(HOSTILE), 160, 40, "q"))
    assert "␛[2J␛[31mgone ␇" in shown
    assert "[red]markup[/red] [/]" in shown
    assert plain("a\u0301\u0302\u0303") == "\u00e1\u0302"
    assert plain("\u202egnp") == "\ufffdgnp"


def test_curves_are_where_they_belong() -> None:
    shown = Range(0.0, 1.0, 0.0, 1.0)
    rising = plot([Line([(0.0, 0.0), (1.0, 1.0)], "cyan")], shown, 8, 4, ascii_only=True)
    assert ["".join(char for char, _ in row) for row in rising] == ["      **", "    **  ", "  **    ", "**      "]
    both = plot([Line([(0.0, 0.5), (1.0, 0.5)], "yellow", "dotted"), Line([(0.0, 0.5), (0.5, 0.5)], "cyan")], shown, 8, 3)
    middle = [style for _, style in both[1]]
    assert middle[:4] == ["cyan"] * 4
    assert set(middle[5:]) <= {"yellow", ""}
    assert "yellow" in middle
    outside = plot([Line([(0.0, 5.0), (1.0, 7.0)], "cyan")], shown, 8, 3)
    assert all(char == " " for row in outside for char, _ in row)
