"""The system call filter as a program: its numbers, its decisions on both machines, and what happens where there can be none."""

from __future__ import annotations

import errno
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from harness.sandboxes import seccomp
from harness.sandboxes.seccomp import ALLOW, ALONE, ENOSYS, FAIL, KILL, MACHINES, NAMESPACED, NUMBERS, Rule, assemble

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
HIGH = 1 << 32  # a bit that the kernel drops from an int
FILTERS = {"bubblewrap": NAMESPACED, "uid": ALONE}


def decide(rules: tuple[Rule, ...], machine: str, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would do with a call: the program on its struct seccomp_data."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("<HBBI", assemble(machine, rules)))
    value = at = 0
    while True:
        code, if_so, if_not, operand = program[at]
        at += 1
        if code == seccomp.RETURN:
            return operand
        if code == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, operand)
            continue
        if code == seccomp.AND:
            value &= operand
            continue
        true = {seccomp.EQUAL: value == operand, seccomp.AT_LEAST: value >= operand, seccomp.ANY_BIT: value & operand}[code]
        at += if_so if true else if_not


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text()))
    column = list(MACHINES).index(machine)
    ours = {name: str(pair[column]) for name, pair in NUMBERS.items() if pair[column] is not None}
    known = {name: number for name, number in ours.items() if name in defined}
    assert known == {name: defined[name] for name in known}
    assert set(ours) - set(known) <= {"open_tree_attr"}  # newer than these headers


@pytest.mark.parametrize("sandbox", FILTERS)
def test_no_call_is_in_two_rules_and_every_number_is_used(sandbox: str) -> None:
    calls = [name for rule in FILTERS[sandbox] for name in rule.calls.split()]
    assert len(calls) == len(set(calls))
    assert {name for rules in FILTERS.values() for rule in rules for name in rule.calls.split()} == set(NUMBERS)


@pytest.mark.parametrize("sandbox", FILTERS)
@pytest.mark.parametrize("machine", MACHINES)
def test_calls_are_denied_with_the_errno_of_their_rule_and_others_allowed(machine: str, sandbox: str) -> None:
    column, rules = list(MACHINES).index(machine), FILTERS[sandbox]
    denied = {NUMBERS[name][column]: rule.error for rule in rules if not rule.only for name in rule.calls.split()}
    conditional = {NUMBERS[name][column] for rule in rules if rule.only for name in rule.calls.split()}
    for number in set(range(600)) - conditional:
        expected = FAIL | denied[number] if number in denied else ALLOW
        assert decide(rules, machine, MACHINES[machine], number, 7, 7, 7) == expected


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "error"),
    [
        ("socket", (1, 1), None),
        ("socket", (2, 1), None),
        ("socket", (10, 1), None),
        ("socket", (16, 3), None),
        ("socket", (HIGH | 1, 1), None),
        ("socket", (40, 1), errno.EAFNOSUPPORT),
        ("socket", (HIGH | 40, 1), errno.EAFNOSUPPORT),
        ("socketpair", (30, 1), errno.EAFNOSUPPORT),
        ("clone", (0x01200011,), None),
        ("clone", (0x003D0F00,), None),
        ("clone", (0x10000011,), errno.EPERM),
        ("clone", (HIGH | 0x00020000,), errno.EPERM),
        ("ioctl", (0, 0x5401), None),
        ("ioctl", (0, 0x5412), errno.EPERM),
        ("ioctl", (0x5412, 0x5413), None),
        ("ioctl", (0, HIGH | 0x5412), errno.EPERM),
        ("ioctl", (0, HIGH | 0x541C), errno.EPERM),
        ("personality", (0,), None),
        ("personality", (0xFFFFFFFF,), None),
        ("personality", (0x0400000,), errno.EPERM),
        ("personality", (HIGH | 0x8,), errno.EPERM),
    ],
)
def test_arguments_are_compared_as_the_kernel_takes_them(
    machine: str, call: str, arguments: tuple[int, ...], error: int | None
) -> None:
    number = NUMBERS[call][list(MACHINES).index(machine)]
    assert number is not None
    for rules in (NAMESPACED, ALONE)[: 1 if call.startswith("socket") else 2]:
        decided = decide(rules, machine, MACHINES[machine], number, *arguments)
        assert decided == (ALLOW if error is None else FAIL | error)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ((1, 1), True),  # a connected pair of streams
        ((1, 5 | 0o2000000 | 0o4000), True),  # of packets in sequence, with flags beside the kind
        ((1, 2), False),  # of datagrams, which can be sent anywhere
        ((1, 2 | 0o2000000), False),
        ((HIGH | 1, HIGH | 2), False),
        ((2, 1), False),
        ((HIGH | 2, 1), False),
    ],
)
def test_without_namespaces_only_pairs_that_are_connected_for_good(
    machine: str, arguments: tuple[int, ...], allowed: bool
) -> None:
    number = NUMBERS["socketpair"][list(MACHINES).index(machine)]
    assert number is not None
    assert decide(ALONE, machine, MACHINES[machine], number, *arguments) == (ALLOW if allowed else FAIL | errno.EPERM)


@pytest.mark.parametrize("sandbox", FILTERS)
@pytest.mark.parametrize("machine", MACHINES)
def test_other_architectures_are_killed_and_x32_has_no_calls(machine: str, sandbox: str) -> None:
    assert decide(FILTERS[sandbox], machine, 0x40000003, 20) == KILL
    assert decide(FILTERS[sandbox], machine, MACHINES[machine], seccomp.X32 + 39) == FAIL | ENOSYS


ASK = "from harness.sandboxes.bubblewrap import Bubblewrap; print(Bubblewrap().problem())"


def test_another_processor_is_refused_in_one_sentence() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("only x86-64 can pass for another machine")
    said = subprocess.run(["setarch", "i686", sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout
    assert said.startswith("there is no system call filter for the processor type i686, only for x86_64 and aarch64; `--sandbox")


def test_a_kernel_that_loads_no_filter_is_refused(tmp_path: Path) -> None:
    """The kernel is played by a filter around everything, which denies prctl(PR_SET_SECCOMP)."""
    deny = seccomp.Condition(0, seccomp.EQUAL, (22,))
    prctl = {"x86_64": 157, "aarch64": 167}[platform.machine()]
    body = seccomp._rule(seccomp.Rule(errno.EINVAL, "prctl", (deny,)), [prctl])
    (tmp_path / "filter").write_bytes(b"".join([seccomp._load(seccomp.NUMBER), *body, seccomp._return(ALLOW)]))
    with (tmp_path / "filter").open() as file:
        outer = ["bwrap", "--dev-bind", "/", "/", "--seccomp", str(file.fileno()), sys.executable, "-c", ASK]
        said = subprocess.run(outer, pass_fds=[file.fileno()], capture_output=True, text=True, check=True).stdout
    assert said.startswith("no system call filter can be loaded here (bwrap: ")
    assert "`--sandbox none` would" in said
