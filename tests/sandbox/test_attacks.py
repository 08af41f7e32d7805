"""Carries out attacks.py: nothing is seen outside of the sandbox, the same without it is, and honest work goes on."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from attacks import ALONE, ATTACKS, CALLS, HOST, NONE, WORKS, Attack, Works, argv
from machine import missing
from outside import NOBODY, ROOT, Outside

from harness.process import inner_env, run
from harness.protocols import Box
from harness.sandboxes import SANDBOXES, seccomp
from harness.sandboxes.seccomp import MACHINES, NUMBERS

REPOSITORY = Path(__file__).parents[2]
AS_NOBODY = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")


@pytest.fixture(scope="session")
def system_python() -> Iterator[Path]:
    """An interpreter for an ordinary user: root's own Python and pytest's folders may lie where nobody else may look."""
    with tempfile.TemporaryDirectory(prefix="attacker-") as folder:
        Path(folder).chmod(0o755)
        with suppress(FileNotFoundError):  # a system without Python: the test skips
            subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", folder], check=False)
        for place in Path(folder).glob("lib/python3*/site-packages"):
            (place / "harness.pth").write_text(f"{REPOSITORY}\n{sysconfig.get_paths()['purelib']}\n")
        yield Path(folder) / "bin/python"


@pytest.fixture(scope="session")
def ordinary(system_python: Path) -> list[str]:
    """The Python of an ordinary user, as a command line."""
    made = [*AS_NOBODY, str(system_python)]
    done = subprocess.run([*made, "-c", "import harness.research, pytest"], capture_output=True, text=True, cwd="/")
    if done.returncode:
        pytest.skip(f"an ordinary user cannot run the harness here: {done.stderr[-200:]}")
    return made


@pytest.fixture(params=["root", "ordinary"])
def program(request: pytest.FixtureRequest) -> list[str]:
    """The Python of a user, as a command line."""
    if (request.param == "root") == ROOT:
        return [sys.executable]
    if not ROOT:
        pytest.skip("these tests are not run as root")
    made: list[str] = request.getfixturevalue("ordinary")
    return made


@pytest.fixture
def outside(program: list[str]) -> Iterator[Outside]:
    """In a folder that an ordinary user may pass, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        Path(folder).chmod(0o755)
        made = Outside(program, Path(folder))
        try:
            yield made
        finally:
            made.close()


TRIED = [
    pytest.param(attack, where, id=f"{where} {attack.name}", marks=[] if attack.quick and first else [pytest.mark.heavy])
    for attack in ATTACKS
    for where, first in zip(attack.where.split(), (True, False), strict=False)
]
CONTROLLED = [pytest.param(attack, attack.where.split()[0], id=attack.name) for attack in ATTACKS if attack.control]


@pytest.mark.parametrize(("attack", "where"), TRIED)
def test_an_attack_is_not_noticed_outside(attack: Attack, where: str, outside: Outside) -> None:
    answer = outside.run(argv(attack.script), where, "bubblewrap")
    assert outside.notices(answer) == set(), answer
    if where == "top":  # a candidate was made and measured, of the agent's own file alone
        assert "\nmeasured\n" in str(answer["output"]), answer


@pytest.mark.heavy
@pytest.mark.parametrize(("attack", "where"), CONTROLLED)
def test_without_a_sandbox_it_is(attack: Attack, where: str, outside: Outside) -> None:
    if attack.only_root and not outside.is_root:
        pytest.skip("outside, only root could do it")
    if attack.why and not (outside.folder / "data/id").exists():
        pytest.skip(attack.why)
    answer = outside.run(argv(attack.script), where, {NONE: "none", HOST: "host"}[attack.control])
    end = time.monotonic() + 5
    while attack.seen not in (noticed := outside.notices(answer)) and time.monotonic() < end:
        time.sleep(0.1)
    assert attack.seen in noticed, answer


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("works", "where"), [pytest.param(each, where, id=f"{where} {each.name}") for each in WORKS for where in each.where.split()]
)
def test_honest_work_goes_on(works: Works, where: str, outside: Outside) -> None:
    for need in works.needs:
        if need in ("pip", "torch") and (len(outside.program) > 1 or find_spec(need) is None):
            pytest.skip(f"this Python has no {need}")
        if need not in ("pip", "torch") and not shutil.which(need, path="/usr/bin:/usr/local/bin"):
            pytest.skip(f"there is no {need}")
    answer = outside.run(argv(works.script), where, "bubblewrap")
    assert outside.say in str(answer["output"]), answer
    assert outside.notices(answer) == {"output"}


CALL = """import ctypes, errno, json, os
libc, said = ctypes.CDLL(None, use_errno=True), []
libc.syscall.restype = ctypes.c_long
for number, arguments in CALLS:
    done = libc.syscall(*[ctypes.c_long(value) for value in [number, *arguments]])
    if number == CLONE and done == 0:
        os._exit(0)
    said.append("fine" if done != -1 else errno.errorcode[ctypes.get_errno()])
print("said", json.dumps(said))
"""
LACKING = {"open_tree_attr", "AF_TIPC", "AF_BLUETOOTH", "AF_ALG", "AF_XDP"}  # what a kernel may have been built without
NAMES = {17: "AF_PACKET", 30: "AF_TIPC", 31: "AF_BLUETOOTH", 38: "AF_ALG", 44: "AF_XDP"}
MACHINE = list(MACHINES).index(platform.machine())
HERE = [call for call in CALLS if NUMBERS[call[0]][MACHINE] is not None]
FILTERED = {"bubblewrap": HERE, "uid": [*(call for call in HERE if not call[0].startswith("socket")), *ALONE]}


def calling(calls: list[tuple[str, tuple[int, ...], str]], call: Callable[[str], str]) -> dict[str, str]:
    """What each of the calls says in a place where `call` runs Python and returns its output."""
    numbers = [(NUMBERS[name][MACHINE], arguments) for name, arguments, _ in calls]
    output = call(CALL.replace("CALLS", repr(numbers)).replace("CLONE", str(NUMBERS["clone"][MACHINE])))
    said: list[str] = json.loads(output.partition("said ")[2].splitlines()[0])
    return dict(zip(map(str, calls), said, strict=True))


def test_every_denied_system_call_says_why(outside: Outside) -> None:
    """In one run, because they are so many."""
    told = calling(HERE, lambda script: str(outside.run(argv(script), "agent", "bubblewrap")["output"]))
    assert told == {str(call): call[2] for call in HERE}


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_in_the_sandbox_uid_they_are_denied_too_and_some_more(place: Path) -> None:
    def call(script: str) -> str:
        with SANDBOXES["uid"]().wrap(["/usr/bin/python3", "-c", script], Box(cwd=place, env=inner_env())) as launch:
            return run(launch, place / "log", 20).tail

    calls = FILTERED["uid"]
    assert calling(calls, call) == {str(call): call[2] for call in calls}


@pytest.mark.parametrize("sandbox", FILTERED)
def test_each_call_of_a_filter_is_tried(sandbox: str) -> None:
    rules = {"bubblewrap": seccomp.NAMESPACED, "uid": seccomp.ALONE}[sandbox]
    known = {name for rule in rules for name in rule.calls.split() if NUMBERS[name][MACHINE] is not None}
    assert {call[0] for call in FILTERED[sandbox]} == known


def test_without_a_sandbox_system_calls_say_something_else(outside: Outside) -> None:
    if not outside.is_root or "Seccomp:\t0" not in Path("/proc/self/status").read_text():
        pytest.skip("the kernel itself denies most of them to others than root, and a container's own filter some")
    calls = [*HERE, *(call for call in ALONE if call[1][0] == 99)]
    told = calling(calls, lambda script: str(outside.run(argv(script), "agent", "host")["output"]))
    same = [call for call in calls if told[str(call)] == call[2]]
    assert {NAMES.get(arguments[0], name) if name.startswith("socket") else name for name, arguments, _ in same} <= LACKING


OLD_ABI = """import ctypes, mmap, os
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("53b814000000cd805bc3"))
print("returned", ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has a second architecture")
def test_a_32_bit_system_call_is_death(outside: Outside) -> None:
    """Its numbers mean other calls, which the filter does not know."""
    answer = str(outside.run(argv(f"python3 -c '{OLD_ABI}'; echo code $?"), "agent", "bubblewrap")["output"])
    assert "returned" not in answer
    assert f"code {128 + signal.SIGSYS}" in answer


TYPING = "import fcntl, os; t = os.open('/dev/tty', os.O_RDWR); [fcntl.ioctl(t, 0x5412, c.encode()) for c in '{mark}']"


@pytest.mark.parametrize("sandbox", ["bubblewrap", "host"])
def test_nothing_is_typed_into_our_terminal(outside: Outside, sandbox: str) -> None:
    """The harness has a terminal, and what is typed there shows up."""
    if sandbox == "host" and not outside.is_root:
        pytest.skip("kernels let only root do it")
    if not shutil.which("script"):
        pytest.skip("there is no script(1) to make a terminal")
    (outside.folder / "plan").write_text(outside.plan(argv(TYPING), "agent", sandbox))
    command = f"exec {shlex.join(outside.command)} < {outside.folder}/plan"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], env=outside.env, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert b"begun" in done.stdout
    assert (outside.mark.encode() in done.stdout) == (sandbox == "host")


LISTING = "import os; print('open', sorted(os.listdir('/proc/self/fd'), key=int)); print(os.listdir('/proc/1/fd'))"


@pytest.mark.parametrize("where", ["agent", "train"])
def test_nothing_of_the_harness_stays_open_inside(outside: Outside, where: str) -> None:
    """Standard input, output, errors, and what lists them; those of the first process are nobody's to see."""
    answer = str(outside.run(argv(LISTING), where, "bubblewrap")["output"])
    assert "open ['0', '1', '2', '3']" in answer
    assert "PermissionError" in answer
