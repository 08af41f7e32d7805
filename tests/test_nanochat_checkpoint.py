"""What is refused as a trained state, and why; and what is taken."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
from pathlib import Path
from secrets import token_hex

import numpy as np
import pytest
import safetensors.numpy
from course import Course, bare, changed, course

from nanochat_train import checkpoint
from nanochat_train.channel import Fault
from nanochat_train.feed import SEALED

__all__ = ["bare", "course"]
HANDED = '    hand_over(run, save({"table": np.log(counts)}))\n'
F32 = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def sealed(data: bytes, seals: int = SEALED) -> int:
    memory = os.memfd_create("state", os.MFD_ALLOW_SEALING)
    os.write(memory, data)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    return memory


def state(header: object, size: int = 24) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@pytest.mark.parametrize(
    ("opening", "reason"),
    [
        (
            "os.symlink('/etc', '/tmp/made-here'); fd = os.open('/tmp/made-here', os.O_PATH | os.O_NOFOLLOW)",
            "saved a link, not a sealed memory",
        ),
        ("os.mkfifo('/tmp/made-here'); fd = os.open('/tmp/made-here', os.O_RDWR)", "saved a FIFO, not a sealed memory"),
        ("fd = os.open('/dev/zero', os.O_RDONLY)", "saved a device, not a sealed memory"),
        ("fd = run._sock.fileno()", "saved a socket, not a sealed memory"),
        ("fd = os.open('/tmp', os.O_RDONLY)", "saved a folder, not a sealed memory"),
        ("fd = os.open(__file__, os.O_RDONLY)", "saved a file, not a sealed memory"),
        ("fd = os.open('/tmp/made-here', os.O_RDWR | os.O_CREAT)", "saved a memory that is not sealed: it could still change"),
        ("fd = os.memfd_create('x', 2)", "saved a memory that is not sealed: it could still change"),
        ("fd = int(sys.argv[3])", "saved a memory that is not sealed: it could still change"),
        (
            "fd = os.memfd_create('x', 2); os.truncate(fd, 5 << 30); fcntl.fcntl(fd, fcntl.F_ADD_SEALS, feed.SEALED)",
            "saved a state of 5120 MiB: at most 4096 MiB are taken",
        ),
    ],
)
def test_only_a_sealed_memory_is_taken(course: Course, opening: str, reason: str) -> None:
    ran = course.train(changed((HANDED, f"    {opening}\n    feed.send(run._sock, {{'do': 'save'}}, fd)\n")))
    assert (ran.status, ran.reason, ran.state) == ("invalid", reason, b"")


def test_a_message_without_a_state_is_refused(course: Course) -> None:
    ran = course.train(changed((HANDED, "    feed.send(run._sock, {'do': 'save'})\n")))
    assert (ran.status, ran.reason) == ("invalid", "saved nothing")


def test_a_pickle_is_never_opened(course: Course) -> None:
    mark = Path("/tmp") / token_hex(8)
    touch = f"type('P', (), {{'__reduce__': lambda self: (os.mkdir, ({str(mark)!r},))}})()"
    pickled = f"__import__('pickle').dumps({touch})"
    ran = course.train(changed((HANDED, f"    hand_over(run, {pickled})\n")))
    assert ran.status == "invalid"
    assert ran.reason.startswith("saved a state that is not safetensors: ")
    assert not mark.exists()
    pickle.loads(eval(pickled))
    mark.rmdir()


def test_ten_gigabytes_of_nothing_are_refused_at_once() -> None:
    memory = os.memfd_create("state", os.MFD_ALLOW_SEALING)
    os.truncate(memory, 10 << 30)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALED)
    with pytest.raises(Fault, match="saved a state of 10240 MiB"):
        checkpoint.check(memory)
    os.close(memory)


@pytest.mark.parametrize("missing", [fcntl.F_SEAL_WRITE, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SHRINK])
def test_every_seal_is_needed(missing: int) -> None:
    with pytest.raises(Fault, match="not sealed"):
        checkpoint.check(sealed(state({"a": F32}), SEALED & ~missing))
    memory = sealed(state({"a": F32}))
    assert checkpoint.check(memory) == 6
    with pytest.raises(PermissionError):
        os.pwrite(memory, b"x", 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a header of 0 bytes"),
        (b"\x80\x05K\x01.", "a header of"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "a header of 1152921504606846976 bytes"),
        ((5 << 20).to_bytes(8, "little") + b" " * (6 << 20), "a header of 5242880 bytes"),
        (state(b"[" * 100_000), "safetensors"),
        (state(b"\xff\xfe"), "safetensors"),
        (state([1]), "safetensors"),
        (state({"a": 1}), "safetensors"),
        (state({"a": {**F32, "dtype": "PYTHON"}}), "safetensors"),
        (state({"a": {**F32, "shape": [2, -3]}}), "the shape or place of 'a'"),
        (state({"a": {**F32, "shape": [1e3]}}), "the shape or place of 'a'"),
        (state({"a": {**F32, "shape": [1] * 17}}), "the shape or place of 'a'"),
        (state({"a": {**F32, "data_offsets": [0, 1 << 40]}}), "the shape or place of 'a'"),
        (state({"a": {**F32, "data_offsets": [0, 12]}}), "'a' has 12 bytes for 6 numbers of F32"),
        (state({"a": {**F32, "data_offsets": [24, 48]}}), "tensors overlap or leave a gap at byte 0"),
        (state({"a": F32, "b": F32}), "tensors overlap or leave a gap at byte 24"),
        (state({"a": F32}, size=23), "tensors of 24 bytes in 23"),
        (state({"a": F32}, size=25), "tensors of 24 bytes in 25"),
        (state({}), "tensors of 0 bytes in 24"),
    ],
)
def test_a_header_that_is_not_true_is_refused(data: bytes, reason: str) -> None:
    memory = sealed(data)
    with pytest.raises(Fault) as refused:
        checkpoint.check(memory)
    os.close(memory)
    assert refused.value.status == "invalid"
    assert "is not safetensors" in refused.value.reason
    assert reason in refused.value.reason


def test_numbers_in_floating_point_are_the_parameters(tmp_path: Path) -> None:
    shapes = {
        "a": ("BF16", [3, 4], 24),
        "b": ("F32", [], 4),
        "c": ("I64", [7], 56),
        "d": ("F16", [0], 0),
        "e": ("F8_E4M3", [5], 5),
    }
    ends = np.cumsum([size for _, _, size in shapes.values()]).tolist()
    places = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [end - size, end]}
        for (name, (dtype, shape, size)), end in zip(shapes.items(), ends, strict=True)
    }
    memory = sealed(state({"__metadata__": {"note": "text"}, **dict(reversed(places.items()))}, ends[-1]))
    assert checkpoint.check(memory) == 12 + 1 + 5
    for _ in range(2):  # in the place of what a killed run left
        checkpoint.copy(memory, tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o644
    with safetensors.safe_open(tmp_path / "state", "numpy") as taken:
        assert set(taken.keys()) == set(shapes)
    assert checkpoint.check(sealed(safetensors.numpy.save({"x": np.zeros(9, dtype=np.float32)}, {"note": "text"}))) == 9
