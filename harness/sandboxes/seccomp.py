"""The system calls that nothing in a sandbox may make, as a classic-BPF program: one table for every sandbox.

Namespaces leave doors open: AF_VSOCK reaches the hypervisor from any network namespace, io_uring works around a filter,
keyrings belong to the user; and below root's bubblewrap only this filter denies user namespaces. The sandbox `uid` has no
namespaces at all: there the filter also takes sockets and the memory and queues that outlive a process. A denied call fails
with an errno that programs know how to live with. Every other call is allowed: compilers, torch and CUDA need many.

Method: Linux, Documentation/userspace-api/seccomp_filter.rst. What is denied follows the lists of Flatpak
(common/flatpak-run.c) and Docker (profiles/seccomp/default.json). Numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl
and include/uapi/asm-generic/unistd.h; other constants: include/uapi/linux/{audit,filter,sched,seccomp}.h.
"""

from __future__ import annotations

import platform
import struct
from errno import EAFNOSUPPORT, ENOSYS, EPERM
from typing import NamedTuple

LOAD, EQUAL, AT_LEAST, ANY_BIT = 0x20, 0x15, 0x35, 0x45  # BPF: LD|W|ABS; JMP|JEQ, JGE, JSET|K
AND, RETURN = 0x54, 0x06  # ALU|AND|K; RET|K
KILL, FAIL, ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
X32 = 0x4000_0000  # on x86-64 a second set of numbers for the same calls; elsewhere no call has this bit

MACHINES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}  # platform.machine() -> AUDIT_ARCH_*; both little-endian
NUMBERS: dict[str, tuple[int, int | None]] = {  # the columns are those of MACHINES; None where there is no such call
    "accept": (43, 202),
    "accept4": (288, 242),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bind": (49, 200),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "connect": (42, 203),
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
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listen": (50, 201),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
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
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "shmget": (29, 194),
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
AF_UNIX, DATAGRAM, SOCK_KIND = 1, 2, 0xF
FAMILIES = (AF_UNIX, 2, 10, 16)  # and AF_INET, AF_INET6, AF_NETLINK
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
    mask: int = 0  # compare these bits alone


class Rule(NamedTuple):
    """System calls that fail with `error`; with conditions only where one of them denies. No call is in two rules of a filter."""

    error: int
    calls: str
    only: tuple[Condition, ...] = ()


EVERYWHERE = (
    Rule(ENOSYS, "clone3"),  # its flags lie in memory, where no filter sees them; the C library goes on with clone
    Rule(EPERM, "clone", (Condition(0, ANY_BIT, (NAMESPACES,)),)),
    Rule(EPERM, "unshare setns"),
    Rule(EPERM, "mount umount2 pivot_root chroot"),
    Rule(ENOSYS, "open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr"),
    Rule(EPERM, "name_to_handle_at open_by_handle_at"),
    Rule(EPERM, "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp"),
    Rule(EPERM, "ioctl", (Condition(1, EQUAL, (TIOCSTI, TIOCLINUX)),)),
    Rule(EPERM, "personality", (Condition(0, EQUAL, PERSONALITIES, denies=False),)),
    Rule(ENOSYS, "io_uring_setup io_uring_enter io_uring_register"),
    Rule(EPERM, "add_key request_key keyctl"),
    Rule(EPERM, "bpf perf_event_open userfaultfd fanotify_init"),
    Rule(EPERM, "kexec_load kexec_file_load init_module finit_module delete_module reboot"),
    Rule(EPERM, "swapon swapoff quotactl quotactl_fd acct syslog iopl ioperm"),
    Rule(EPERM, "settimeofday clock_settime clock_adjtime adjtimex"),
)
# In namespaces of its own a process may have sockets, of the families that a network namespace isolates.
NAMESPACED = (Rule(EAFNOSUPPORT, "socket socketpair", (Condition(0, EQUAL, FAMILIES, denies=False),)), *EVERYWHERE)
# Without: no socket but a connected pair, and no pair of datagrams, which can be sent to any address; nothing that outlives
# the run. Sockets that were inherited work.
ALONE = (
    Rule(EPERM, "socket bind connect listen accept accept4"),
    Rule(EPERM, "socketpair", (Condition(0, EQUAL, (AF_UNIX,), denies=False), Condition(1, EQUAL, (DATAGRAM,), mask=SOCK_KIND))),
    Rule(EPERM, "shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink"),
    *EVERYWHERE,
)


def unsupported() -> str | None:
    """Why there is no filter for this machine, or None."""
    if (machine := platform.machine()) in MACHINES:
        return None
    return f"there is no system call filter for the processor type {machine}, only for {' and '.join(MACHINES)}"


def program(rules: tuple[Rule, ...] = NAMESPACED) -> bytes:
    """The program for this machine."""
    return assemble(platform.machine(), rules)


def assemble(machine: str, rules: tuple[Rule, ...]) -> bytes:
    """An array of struct sock_filter. Calls of another architecture kill the process, on x86-64 the 32-bit ones do."""
    column = list(MACHINES).index(machine)
    start = [_load(ARCHITECTURE), _jump(EQUAL, MACHINES[machine], 1, 0), _return(KILL), _load(NUMBER)]
    start += [_jump(AT_LEAST, X32, 0, 1), _return(FAIL | ENOSYS)]
    known = [[number for name in rule.calls.split() if (number := NUMBERS[name][column]) is not None] for rule in rules]
    parts = [part for rule, numbers in zip(rules, known, strict=True) for part in _rule(rule, numbers)]
    return b"".join([*start, *parts, _return(ALLOW)])


def _rule(rule: Rule, numbers: list[int]) -> list[bytes]:
    """If the call is one of `numbers`, decide it here; otherwise go on behind."""
    failure = _return(FAIL | rule.error)
    body = [*(part for each in rule.only for part in _unless(each, failure)), _return(ALLOW)] if rule.only else [failure]
    last = len(numbers) - 1
    return [_jump(EQUAL, number, last - i, 0 if i < last else len(body)) for i, number in enumerate(numbers)] + body


def _unless(only: Condition, failure: bytes) -> list[bytes]:
    """Fail where a condition denies; otherwise go on behind."""
    last = len(only.values) - 1
    match, otherwise = (0, 1) if only.denies else (1, 0)  # instructions to skip behind the last comparison
    compare = [_jump(only.compare, value, last - i + match, otherwise if i == last else 0) for i, value in enumerate(only.values)]
    masked = [struct.pack("<HBBI", AND, 0, 0, only.mask)] if only.mask else []
    return [_load(ARGUMENTS + 8 * only.argument), *masked, *compare, failure]


def _load(offset: int) -> bytes:
    return struct.pack("<HBBI", LOAD, 0, 0, offset)


def _jump(compare: int, value: int, if_so: int, if_not: int) -> bytes:
    """Skip so many instructions."""
    return struct.pack("<HBBI", compare, if_so, if_not, value)


def _return(action: int) -> bytes:
    return struct.pack("<HBBI", RETURN, 0, 0, action)
