"""The system calls that nothing in a sandbox may make, as the classic-BPF program that `bwrap --seccomp` loads.

Namespaces leave doors open: AF_VSOCK reaches the hypervisor from any network namespace, io_uring works around a filter,
keyrings belong to the user; and below root's bubblewrap only this filter denies user namespaces. A denied call fails with
an errno that programs know how to live with. Every other call is allowed: compilers, torch and CUDA need many.

Method: Linux, Documentation/userspace-api/seccomp_filter.rst. What is denied follows the lists of Flatpak
(common/flatpak-run.c) and Docker (profiles/seccomp/default.json). Numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl
and include/uapi/asm-generic/unistd.h; other constants: include/uapi/linux/{audit,filter,sched,seccomp}.h.
"""

from __future__ import annotations

import platform
import struct
from errno import EAFNOSUPPORT, ENOSYS, EPERM
from typing import NamedTuple

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: LD|W|ABS; JMP|JEQ, JGE, JSET|K; RET|K
KILL, FAIL, ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
X32 = 0x4000_0000  # on x86-64 a second set of numbers for the same calls; elsewhere no call has this bit

MACHINES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}  # platform.machine() -> AUDIT_ARCH_*; both little-endian
NUMBERS = {  # the columns are those of MACHINES
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}

NAMESPACES = 0x7E02_0000  # every CLONE_NEW* flag that clone() knows
FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
PERSONALITIES = (0, 0xFFFF_FFFF)  # Linux as it is, and the question what it is
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # both type into a terminal in its user's name


class Condition(NamedTuple):
    """Compares the low 32 bits of an argument with values: the kernel takes these arguments as 32 bits, or keeps its flags there.

    A comparison of all 64 could be evaded by setting a high bit (Flatpak's CVE-2019-10063).
    """

    argument: int
    compare: int  # EQUAL or ANY_BIT
    values: tuple[int, ...]
    denies: bool = True  # a match is denied; False: everything else is


class Rule(NamedTuple):
    """System calls that fail with `error`, those of a rule with a condition only where it says so. No call is in two rules."""

    error: int
    calls: str
    only: Condition | None = None


RULES = (
    Rule(EAFNOSUPPORT, "socket socketpair", Condition(0, EQUAL, FAMILIES, denies=False)),
    Rule(ENOSYS, "clone3"),  # its flags lie in memory, where no filter sees them; the C library goes on with clone
    Rule(EPERM, "clone", Condition(0, ANY_BIT, (NAMESPACES,))),
    Rule(EPERM, "unshare setns"),
    Rule(EPERM, "mount umount2 pivot_root chroot"),
    Rule(ENOSYS, "open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr"),
    Rule(EPERM, "name_to_handle_at open_by_handle_at"),
    Rule(EPERM, "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp"),
    Rule(EPERM, "ioctl", Condition(1, EQUAL, (TIOCSTI, TIOCLINUX))),
    Rule(EPERM, "personality", Condition(0, EQUAL, PERSONALITIES, denies=False)),
    Rule(ENOSYS, "io_uring_setup io_uring_enter io_uring_register"),
    Rule(EPERM, "add_key request_key keyctl"),
    Rule(EPERM, "bpf perf_event_open userfaultfd fanotify_init"),
    Rule(EPERM, "kexec_load kexec_file_load init_module finit_module delete_module reboot"),
    Rule(EPERM, "swapon swapoff quotactl quotactl_fd acct syslog"),
    Rule(EPERM, "settimeofday clock_settime clock_adjtime adjtimex"),
)


def unsupported() -> str | None:
    """Why there is no filter for this machine, or None."""
    if (machine := platform.machine()) in MACHINES:
        return None
    return f"there is no system call filter for the processor type {machine}, only for {' and '.join(MACHINES)}"


def program() -> bytes:
    """The program for this machine."""
    return assemble(platform.machine(), RULES)


def assemble(machine: str, rules: tuple[Rule, ...]) -> bytes:
    """An array of struct sock_filter. Calls of another architecture kill the process, on x86-64 the 32-bit ones do."""
    column = list(MACHINES).index(machine)
    start = [_load(ARCHITECTURE), _jump(EQUAL, MACHINES[machine], 1, 0), _return(KILL), _load(NUMBER)]
    start += [_jump(AT_LEAST, X32, 0, 1), _return(FAIL | ENOSYS)]
    parts = [part for rule in rules for part in _rule(rule, [NUMBERS[name][column] for name in rule.calls.split()])]
    return b"".join([*start, *parts, _return(ALLOW)])


def _rule(rule: Rule, numbers: list[int]) -> list[bytes]:
    """If the call is one of `numbers`, decide it here; otherwise go on behind."""
    body = _decision(rule.only, FAIL | rule.error) if rule.only else [_return(FAIL | rule.error)]
    last = len(numbers) - 1
    return [_jump(EQUAL, number, last - i, 0 if i < last else len(body)) for i, number in enumerate(numbers)] + body


def _decision(only: Condition, failure: int) -> list[bytes]:
    """Jump from the first comparison that matches to the last of two ends."""
    otherwise, match = (ALLOW, failure) if only.denies else (failure, ALLOW)
    count = len(only.values)
    compare = [_jump(only.compare, value, count - i, 0) for i, value in enumerate(only.values)]
    return [_load(ARGUMENTS + 8 * only.argument), *compare, _return(otherwise), _return(match)]


def _load(offset: int) -> bytes:
    return struct.pack("<HBBI", LOAD, 0, 0, offset)


def _jump(compare: int, value: int, if_so: int, if_not: int) -> bytes:
    """Skip so many instructions."""
    return struct.pack("<HBBI", compare, if_so, if_not, value)


def _return(action: int) -> bytes:
    return struct.pack("<HBBI", RETURN, 0, 0, action)
