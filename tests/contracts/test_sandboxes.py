"""What every sandbox promises: the command runs, its tree dies with it, its output and memory stay bounded."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import heavy

from harness import sandboxes
from harness.process import inner_env, run
from harness.protocols import Box, Exit


@pytest.fixture(params=list(sandboxes.SANDBOXES))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "uid" and os.getuid():
        pytest.skip("the sandbox uid needs root")
    return str(request.param)


def confined(name: str, folder: Path, script: str, deadline_s: float = 10.0, stdin: bytes = b"") -> Exit:
    box = Box(cwd=folder, writable=(folder,), env=inner_env(GREETING="hello"))
    with sandboxes.SANDBOXES[name]().wrap(["sh", "-c", script], box) as launch:
        return run(launch, folder.parent / f"{folder.name}.log", deadline_s, stdin=stdin)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in one that every user may enter, as pytest's own are not."""
    above = Path(tempfile.mkdtemp(prefix="harness-test-"))
    above.chmod(0o755)
    (above / "box").mkdir()
    yield above / "box"
    shutil.rmtree(above)


def sleeping(marker: str) -> bool:
    return subprocess.run(["pgrep", "-f", f"^sleep {marker}$"], capture_output=True, check=False).returncode == 0


def test_runs_in_the_folder_with_the_environment_and_stdin_closed(name: str, folder: Path) -> None:
    ended = confined(name, folder, 'echo "$GREETING"; cat; pwd; echo made > file; exit 7', stdin=b"from stdin\n")
    assert ended.code == 7
    assert ended.tail == f"hello\nfrom stdin\n{folder}\n"
    assert (folder / "file").read_text() == "made\n"


def test_the_whole_tree_is_dead_at_the_deadline(name: str, folder: Path) -> None:
    marker = f"98{time.time_ns() % 10**7}"
    script = f"trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep {marker}' & sh -c 'sleep {marker}' & wait"
    started = time.monotonic()
    ended = confined(name, folder, script, deadline_s=0.7)
    assert ended.timed_out
    assert time.monotonic() - started < 10
    assert not sleeping(marker)


def test_what_a_command_leaves_behind_dies_with_it(name: str, folder: Path) -> None:
    marker = f"97{time.time_ns() % 10**7}"
    ended = confined(name, folder, f"setsid sleep {marker} >/dev/null 2>&1 & sleep 0.1; exit 0")
    assert ended.code == 0
    assert not sleeping(marker)


RUNNER = "import os, time\nwhile True: os.fork() and os._exit(0)"
STUBBORN = {
    "a daemon forked twice": "(setsid sh -c '(sleep 60; : {marker}) & sleep 60; : {marker}' >/dev/null 2>&1 &) & exit 0",
    "a daemon that holds the output open": "setsid sh -c 'sleep 60; : {marker}' & exit 0",
    "a runner that forks and exits": f"python3 -c '{RUNNER}; time.sleep(.001)' {{marker}}",
    "the same in sessions of its own": f"python3 -c '{RUNNER}; os.setsid()' {{marker}} & wait",
    "one that ignores SIGTERM": "trap '' TERM HUP INT; while :; do sleep 60; : {marker}; done",
    "one that stops itself": "kill -STOP $$; : {marker}",
    "a whole group that is stopped": "sh -c 'sleep 60; : {marker}' & kill -STOP $! 0; wait",
    "one that stops what guards it": "kill -STOP $PPID 0; : {marker}",
    "one that is stuck in a full pipe": "yes {marker} | (trap '' TERM PIPE; sleep 60; : {marker})",
    "daemons that are stopped": "sh -c 'kill -STOP $$; : {marker}' & setsid sh -c 'kill -STOP $$; : {marker}' & wait",
}


QUICK = ("a daemon that holds the output open", "the same in sessions of its own", "one that stops what guards it")


@pytest.mark.parametrize("how", [*QUICK, *heavy(*(each for each in STUBBORN if each not in QUICK))])
def test_no_way_of_dying_hard_keeps_a_tree_alive_or_the_harness_waiting(how: str, name: str, folder: Path) -> None:
    marker = f"m{time.time_ns()}"
    started = time.monotonic()
    confined(name, folder, STUBBORN[how].replace("{marker}", marker), deadline_s=1.0)
    assert time.monotonic() - started < 15
    assert subprocess.run(["pgrep", "-f", marker], capture_output=True, check=False).returncode == 1


def test_a_flood_of_output_is_bounded_and_its_end_is_kept(name: str, folder: Path) -> None:
    ended = confined(name, folder, "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end")
    assert ended.tail.endswith("the end\n")
    assert (folder.parent / "box.log").stat().st_size <= 4 << 20


def test_a_command_that_is_not_there_says_so(name: str, folder: Path) -> None:
    with sandboxes.SANDBOXES[name]().wrap(["no-such-program"], Box(cwd=folder, readable=(folder,), env=inner_env())) as launch:
        ended = run(launch, folder.parent / "log", 10)
    assert ended.code == 127
    assert "cannot start no-such-program" in ended.tail


ATTACKS = {  # and the sandboxes in which they fail
    "writes beside its folder": ("echo x > ../beside && echo done", ("bubblewrap", "uid")),
    "reads the host's passwd": ("grep -q root: /etc/passwd && echo done", ("bubblewrap",)),
    "sees the host's processes": ('test "$(ls -d /proc/[0-9]* | wc -l)" -gt 6 && echo done', ("bubblewrap",)),
    "kills the host's processes": ("kill -0 {pid} && echo done", ("bubblewrap", "uid")),
    "reads what another process was told": ("cat /proc/{pid}/environ && echo done", ("bubblewrap", "uid")),
    "sees the network": ("cat /proc/net/dev | grep -qv -e lo: -e Inter -e face && echo done", ("bubblewrap",)),
    "uses the network": ("/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_INET)' && echo done", ("uid",)),
    "reads the host's /tmp": ("test -e {outside} && echo done", ("bubblewrap",)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_fail_where_that_is_promised_and_work_without(attack: str, name: str, folder: Path) -> None:
    (folder.parent / "outside").write_text("x")
    script, stopped = ATTACKS[attack]
    ended = confined(name, folder, script.format(outside=folder.parent / "outside", pid=os.getpid()))
    assert ("done" in ended.tail) == (name not in stopped)
