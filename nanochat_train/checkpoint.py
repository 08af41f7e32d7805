"""What a trainer hands over: a sealed memory of safetensors, checked before anything is done with it.

A state is bytes to this process. Nothing is unpickled or built from it; only its header is read, as data.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from nanochat_train.channel import Fault
from nanochat_train.feed import SEALED

STATE_BYTES = 4 << 30
HEADER_BYTES = 4 << 20
BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16},
    **{"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64},
}
KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
}


def check(fd: int) -> int:
    """Parameters (numbers in floating point) of a state that nobody can change any more; a Fault for anything else."""
    facts = os.fstat(fd)
    if kind := KINDS.get(stat.S_IFMT(facts.st_mode)):
        raise Fault("invalid", f"saved {kind}, not a sealed memory")
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise Fault("invalid", "saved a file, not a sealed memory") from None
    if seals & SEALED != SEALED:
        raise Fault("invalid", "saved a memory that is not sealed: it could still change")
    if facts.st_size > STATE_BYTES:
        raise Fault("invalid", f"saved a state of {facts.st_size >> 20} MiB: at most {STATE_BYTES >> 20} MiB are taken")
    return parameters(fd, facts.st_size)


def parameters(fd: int, size: int) -> int:
    """Numbers in floating point in a safetensors file, all of whose header has to be true; a Fault says what is not."""
    try:
        length = int.from_bytes(os.pread(fd, 8, 0), "little")
        if size < 8 or length > min(HEADER_BYTES, size - 8):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(os.pread(fd, length, 8))
        header.pop("__metadata__", None)
        spans = sorted((_span(name, facts) for name, facts in header.items()), key=lambda span: span[:2])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Fault("invalid", f"saved a state that is not safetensors: {str(error)[:100]}") from None
    end = 0
    for begin, after, _ in spans:
        if begin != end:
            raise Fault("invalid", f"saved a state that is not safetensors: tensors overlap or leave a gap at byte {end}")
        end = after
    if end != size - 8 - length:
        raise Fault("invalid", f"saved a state that is not safetensors: tensors of {end} bytes in {size - 8 - length}")
    return sum(count for _, _, count in spans)


def _span(name: str, facts: dict[str, Any]) -> tuple[int, int, int]:
    """Where a tensor begins and ends, and its floating-point numbers."""
    dtype, shape, (begin, end) = facts["dtype"], facts["shape"], facts["data_offsets"]
    if len(shape) > 16 or not all(type(n) is int and 0 <= n <= STATE_BYTES for n in (*shape, begin, end)):
        raise ValueError(f"the shape or place of {name[:40]!r}")
    count = math.prod(shape)
    if end - begin != count * BITS[dtype] // 8:
        raise ValueError(f"{name[:40]!r} has {end - begin} bytes for {count} numbers of {dtype}")
    return begin, end, count if dtype.startswith(("F", "BF")) else 0


def copy(fd: int, target: Path) -> None:
    """Write a sealed state to a file that everybody may read."""
    target.unlink(missing_ok=True)  # of a run that was killed
    offset, size = 0, os.fstat(fd).st_size
    with target.open("xb") as file:
        while offset < size and (sent := os.sendfile(file.fileno(), fd, offset, size - offset)):
            offset += sent
    target.chmod(0o644)
