"""The system calls that a process of the sandbox `uid` may not make, as a classic BPF program.

What a network namespace does elsewhere is done here: no socket can be made but a connected pair, so only inherited ones
lead outside. Datagram pairs are refused too, since they can send to any address. Numbers are the kernel's, for each
architecture; a process of a foreign one is killed.
"""

from __future__ import annotations

import os
import struct

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
LOAD, EQUALS, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
CALL, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets into struct seccomp_data
AF_UNIX, SOCK_DGRAM = 1, 2
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # typing into a terminal that is somebody else's
NEW_NAMESPACES = 0x7E020000  # the CLONE_NEW* flags of clone(2)
FOREIGN = 0x40000000  # x32 on x86-64: the same calls by other numbers

# Beside sockets: namespaces and mounts, other processes' memory, kernel keys, io_uring (a way around filters), modules,
# clocks, and System V and POSIX message memory, which would outlive the run.
DENIED = {
    "x86_64": {
        "sockets": (41, 42, 43, 49, 50, 288),
        "calls": (
            *(101, 310, 311, 312, 438, 248, 249, 250, 321, 298, 323, 425, 426, 427, 165, 166, 155, 161, 272, 308),
            *(428, 429, 430, 431, 432, 433, 442, 246, 320, 175, 313, 176, 169, 167, 168, 103, 163, 179, 443, 172, 173),
            *(303, 304, 212, 300, 153, 164, 227, 29, 30, 31, 67, 64, 65, 66, 220, 68, 69, 70, 71, 240, 241),
        ),
    },
    "aarch64": {
        "sockets": (198, 200, 201, 202, 203, 242),
        "calls": (
            *(117, 270, 271, 272, 438, 217, 218, 219, 280, 241, 282, 425, 426, 427, 40, 39, 41, 51, 97, 268),
            *(428, 429, 430, 431, 432, 433, 442, 104, 294, 105, 273, 106, 142, 224, 225, 116, 89, 60, 443),
            *(264, 265, 18, 262, 58, 170, 112, 194, 195, 196, 197, 190, 191, 192, 193, 186, 187, 188, 189, 180, 181),
        ),
    },
}
SPECIAL = {"x86_64": (53, 56, 435, 16), "aarch64": (199, 220, 435, 29)}  # socketpair, clone, clone3, ioctl
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def supported() -> bool:
    """Whether the numbers of this machine's system calls are known."""
    return os.uname().machine in AUDIT


def program(sockets: bool) -> bytes:
    """The filter as the kernel reads it; with `sockets` their calls are left alone."""
    machine = os.uname().machine
    pair, clone, clone3, ioctl = SPECIAL[machine]
    refuse, denied = ERRNO | EPERM, DENIED[machine]
    steps = [_step(LOAD, ARCHITECTURE), _step(EQUALS, AUDIT[machine], 1, 0), _step(RETURN, KILL), _step(LOAD, CALL)]
    if machine == "x86_64":
        steps += [_step(AT_LEAST, FOREIGN, 0, 1), _step(RETURN, ERRNO | ENOSYS)]
    for number in (*denied["calls"], *(() if sockets else denied["sockets"])):
        steps += [_step(EQUALS, number, 0, 1), _step(RETURN, refuse)]
    # glibc falls back from clone3, whose flags lie in memory that no filter can read, to clone.
    steps += [_step(EQUALS, clone3, 0, 1), _step(RETURN, ERRNO | ENOSYS)]
    steps += [_step(EQUALS, clone, 0, 4), _argument(0), _step(ANY_BIT, NEW_NAMESPACES, 0, 1), _step(RETURN, refuse)]
    steps += [_step(RETURN, ALLOW)]
    steps += [_step(EQUALS, ioctl, 0, 5), _argument(1), _step(EQUALS, TIOCSTI, 1, 0), _step(EQUALS, TIOCLINUX, 0, 1)]
    steps += [_step(RETURN, refuse), _step(RETURN, ALLOW)]
    if not sockets:
        steps += [_step(EQUALS, pair, 0, 7), _argument(0), _step(EQUALS, AF_UNIX, 0, 4), _argument(1)]
        steps += [_step(AND, 0xF), _step(EQUALS, SOCK_DGRAM, 1, 0), _step(RETURN, ALLOW), _step(RETURN, refuse)]
    return b"".join([*steps, _step(RETURN, ALLOW)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; jumps count instructions to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _argument(index: int) -> bytes:
    """Load the lower half of an argument: flags and requests have no more."""
    return _step(LOAD, ARGUMENTS + 8 * index)
