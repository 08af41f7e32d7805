"""Each limit of a sandbox is attacked by a real tree, under each enforcement that this machine has; below it nothing happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import Lab

from harness import groups, limits, sandboxes
from harness.models import Limits
from harness.process import inner_env, run
from harness.protocols import Box, Exit
from harness.usage import Tree, memory

TIGHT = Limits(memory_mb=150, processes=40, file_mb=16, disk_mb=64, inodes=400, open_files=100, output_mb=1)
LOOSE = limits.settle(Limits(), "train")


@dataclass(frozen=True)
class Attack:
    """A program, and what is said of it where it goes too far."""

    program: str
    exceeded: str
    limits: Limits = TIGHT


HOLD = "import time; time.sleep(30)"
ATTACKS = {
    "one process fills memory": Attack(
        f"b = []\nfor _ in range(32): b.append(bytearray(10 << 20))\n{HOLD}", "exceeded the memory limit of 150 MB"
    ),
    "many processes fill memory": Attack(
        f"import os\nfor _ in range(6):\n  if not os.fork():\n    b = bytearray(50 << 20)\n    {HOLD}\n{HOLD}",
        "exceeded the memory limit of 150 MB",
    ),
    "memory without a name": Attack(
        f"import os\nfor _ in range(32): os.write(os.memfd_create('x'), bytes(10 << 20))\n{HOLD}",
        "exceeded the memory limit of 150 MB",
    ),
    "temporary files fill memory": Attack(
        f"for n in range(32): open(f'/dev/shm/{{n}}', 'wb').write(bytes(10 << 20))\n{HOLD}",
        "exceeded the memory limit of 150 MB",
        TIGHT.model_copy(update={"disk_mb": 0}),
    ),
    "a fork bomb": Attack("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", "started more than 40 processes"),
    "a bomb of threads": Attack(
        "import threading, time\nfor _ in range(200): threading.Thread(target=time.sleep, args=(30,)).start()",
        "started more than 40 processes",
    ),
    "a huge file": Attack("open('big', 'wb').write(bytes(20 << 20))", "wrote more than 16 MB into one file"),
    "a huge file, the signal not ignored": Attack(
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nopen('/tmp/big', 'wb').write(bytes(20 << 20))",
        "wrote more than 16 MB into one file",
    ),
    "many large files": Attack(
        f"for n in range(8): open(f'{{n}}', 'wb').write(bytes(10 << 20))\n{HOLD}", "wrote more than 64 MB"
    ),
    "deleted files that stay open": Attack(
        "import os\nkept = []\nfor n in range(8):\n  file = open('file', 'wb')\n  file.write(bytes(10 << 20))\n"
        f"  os.unlink('file')\n  kept.append(file)\n{HOLD}",
        "wrote more than 64 MB",
    ),
    "many small files": Attack("n = 0\nwhile True: open(f'{n}', 'w').close(); n += 1", "made more than 400 files"),
    "many small temporary files": Attack("n = 0\nwhile True: open(f'/tmp/{n}', 'w').close(); n += 1", "made more than 400 files"),
    "nested folders": Attack("import os\nfor _ in range(300): os.mkdir('d'); os.chdir('d')", "nested folders too deeply"),
}
QUICK = ("many processes fill memory", "a fork bomb", "a huge file", "many small temporary files")


@pytest.fixture(params=limits.KINDS)
def how(request: pytest.FixtureRequest) -> str:
    if request.param not in limits.available():
        pytest.skip("not on this machine")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "box").mkdir()
    return tmp_path / "box"


def confined(folder: Path, program: str, bounds: Limits, how: str, sandbox: str = "bubblewrap", deadline_s: float = 20) -> Exit:
    box = Box(cwd=folder, writable=(folder,), env=inner_env(), limits=bounds)
    with sandboxes.get(sandbox).wrap([sys.executable, "-c", program], box) as launch:
        return run(replace(launch, enforce=how), folder.parent / "log", deadline_s)


def left_behind(folder: Path) -> list[str]:
    """Processes and cgroups that outlived their sandbox."""
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    above = groups.parent()
    return [line for line in listing.splitlines() if str(folder) in line] + [
        str(path) for path in (above.glob(f"*-{os.getpid()}-*") if above else ())
    ]


@pytest.mark.parametrize("attack", [each if each in QUICK else pytest.param(each, marks=pytest.mark.heavy) for each in ATTACKS])
def test_what_goes_too_far_is_ended_and_named(attack: str, how: str, folder: Path) -> None:
    ended = confined(folder, ATTACKS[attack].program, ATTACKS[attack].limits, how)
    assert (ended.exceeded, ended.limits, ended.timed_out) == (ATTACKS[attack].exceeded, how, False), ended
    assert ended.seconds < 10
    assert left_behind(folder) == []


ENDLESS = ("a fork bomb", "many small files", "many small temporary files", "nested folders")


@pytest.mark.heavy
@pytest.mark.parametrize("attack", [name for name in ATTACKS if name not in ENDLESS])
def test_the_same_below_the_limits_is_nobodys_business(attack: str, how: str, folder: Path) -> None:
    ended = confined(folder, ATTACKS[attack].program.replace("30)", "0.6)").replace("30,)", "0.6,)"), LOOSE, how)
    assert (ended.exceeded, ended.code) == ("", 0), ended


def test_work_below_the_limits_is_left_alone(how: str, folder: Path) -> None:
    """Memory that children share with their parent counts once, and mapped files not at all."""
    program = (
        "import mmap, os, time\nb = bytearray(60 << 20)\n"
        "files = [open(f'{n}', 'w+b') for n in range(5)]\nfor file in files: file.write(bytes(12 << 20)); file.flush()\n"
        "maps = [mmap.mmap(file.fileno(), 0) for file in files]\nsum(m[::4096][0] for m in maps)\n"
        "for _ in range(8):\n  if not os.fork(): time.sleep(1); os._exit(0)\n"
        "[open(f'/tmp/{n}', 'w').close() for n in range(200)]\ntime.sleep(0.8)"
    )
    room = TIGHT.model_copy(update={"processes": 400})  # rlimits count those of other tests' sandboxes as well
    ended = confined(folder, program, room, how)
    assert (ended.exceeded, ended.code) == ("", 0), ended


def test_memory_of_processes_that_end_meanwhile_is_counted_once() -> None:
    """Children that share their parent's memory and end while somebody counts."""
    program = (
        "import os, time\nb = bytearray(60 << 20)\nprint(flush=True)\n"
        "for n in range(400):\n  if not os.fork(): time.sleep(0.002 * (n % 7)); os._exit(0)\n  time.sleep(0.001)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        parent.stdout.readline()
        most = 0
        while parent.poll() is None:
            processes = [f"/proc/{parent.pid}", *Tree(parent.pid, inside=False).processes()]
            most = max(most, memory(processes, 0, 1))
    assert 60 << 20 < most < 110 << 20, most >> 20


def test_open_files_are_refused_by_the_kernel(how: str, folder: Path) -> None:
    ended = confined(folder, "kept = [open('/dev/null') for _ in range(200)]", TIGHT, how)
    assert (ended.code, ended.exceeded) == (1, "")
    assert "Too many open files" in ended.tail


def test_a_flood_of_output_is_read_and_dropped(how: str, folder: Path) -> None:
    ended = confined(folder, "for _ in range(50): print('x' * (1 << 20))\nprint('the end')", TIGHT, how)
    assert (ended.code, ended.exceeded) == (0, "")
    assert ended.tail.endswith("the end\n")
    assert (folder.parent / "log").stat().st_size <= 1 << 20


def test_without_a_sandbox_the_limits_hold_too(how: str, folder: Path) -> None:
    ended = confined(folder, ATTACKS["many processes fill memory"].program, TIGHT, how, sandbox="none")
    assert ended.exceeded == "exceeded the memory limit of 150 MB"
    assert left_behind(folder) == []


def test_files_that_were_there_before_do_not_count(how: str, folder: Path) -> None:
    for number in range(500):
        (folder / f"{number}").write_text("x")
    (folder / "large").write_bytes(bytes(80 << 20))
    ended = confined(folder, "import time; open('one', 'w').close(); time.sleep(0.4)", TIGHT, how)
    assert (ended.exceeded, ended.code) == ("", 0)


def test_zero_removes_a_limit_and_what_is_not_said_depends_on_the_role() -> None:
    bounds = limits.settle(Limits(memory_mb=0, processes=7), "agent")
    assert (bounds.memory_mb, bounds.processes, bounds.file_mb) == (0, 7, 2048)
    assert 0 < (limits.settle(Limits(), "agent").memory_mb or 0) < (limits.settle(Limits(), "train").memory_mb or 0)
    assert (limits.settle(Limits(), "train").memory_mb or 0) < limits.machine_mb()


def test_a_killed_harness_leaves_a_cgroup_that_the_next_start_removes(folder: Path) -> None:
    if limits.CGROUP not in limits.available():
        pytest.skip("not on this machine")
    above = groups.parent()
    assert above is not None
    program = (
        "import sys; sys.path.insert(0, 'tests')\nfrom pathlib import Path\nfrom test_limits import *\n"
        f"confined(Path({str(folder)!r}), {HOLD!r}, TIGHT, limits.CGROUP)"
    )
    top = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": f"{top}{os.pathsep}{top / 'tests'}"}
    with subprocess.Popen([sys.executable, "-c", program], env=env, cwd=top) as harness:
        mine = f"*-{harness.pid}-*"
        waited(lambda: any((path / "cgroup.procs").read_text() for path in above.glob(mine)))
        harness.send_signal(signal.SIGKILL)
    assert list(above.glob(mine))
    assert confined(folder, "pass", TIGHT, limits.CGROUP).code == 0
    assert not list(above.glob(mine))


def waited(condition: object) -> None:
    end = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_candidate_that_takes_too_much_is_a_crash_with_that_reason(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "budget:", "limits: {memory_mb: 120}\nbudget:")
    lab.agent("hungry", "printf 'import time\\nb = bytearray(300 << 20)\\ntime.sleep(4)\\n' >> toy/solution.py")
    lab.harness("run", "--tag", "t", "--agent", "hungry", "--experiments", "1")
    shown = lab.harness("show", "1").stdout
    assert "verdict   crash: exceeded the memory limit of 120 MB" in shown
    record = json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))
    assert [run["limits"] for run in record["measurements"]] == [limits.available()[0]]
    assert lab.strays() == []


def test_an_agent_that_takes_too_much_is_void_with_that_reason(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "budget:", "limits: {inodes: 100}\nbudget:")
    lab.agent("messy", "for n in $(seq 1000); do echo x > $HOME/$n; done; sleep 5")
    lab.harness("run", "--tag", "t", "--agent", "messy", "--experiments", "1")
    assert "verdict   void: the agent made more than 100 files" in lab.harness("show", "1").stdout
