"""The inside of a run: the `run` object that `train.py` is given, and the messages between it and the referee.

Messages are JSON objects, one a packet of a SOCK_SEQPACKET pair. Rows, logits and the trained state travel through
shared memory. The referee believes nothing that this side says; all it does is to make the contract convenient.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanochat_train import ring

if TYPE_CHECKING:
    import torch

MESSAGE_BYTES = 8192
WARMUP_CALLS = 200
SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
Array = npt.NDArray[np.uint16]
Message = dict[str, Any]


def send(sock: socket.socket, message: Message, *fds: int) -> None:
    """One message, with open files that the other side gets copies of."""
    data = json.dumps(message).encode()
    if len(data) > MESSAGE_BYTES:
        raise ValueError(f"a message of {len(data)} bytes, at most {MESSAGE_BYTES} fit")
    socket.send_fds(sock, [data], list(fds)) if fds else sock.send(data)


def receive(sock: socket.socket) -> Message:
    """The next message of the referee."""
    data = sock.recv(MESSAGE_BYTES)
    if not data:
        raise ConnectionError("the referee has gone")
    message: Message = json.loads(data)
    return message


class Run:
    """What `train(run)` is given: data, clock and a place for the result. All of it is owned by the referee.

    `seed` is to be used for everything random. `device` is "cpu" or "cuda". `scale` is 1.0, larger when a result is
    re-tested on a larger model. `progress` goes from 0 to 1 over the budget, whether that is seconds or tokens.
    """

    def __init__(self, sock: socket.socket, rows: int, counter: int) -> None:
        self._sock = sock
        welcome = receive(sock)
        self.seed: int = welcome["seed"]
        self.vocab_size: int = welcome["vocab_size"]
        self.seq_len: int = welcome["seq_len"]
        self.device: str = welcome["device"]
        self.scale: float = welcome["scale"]
        self.progress = 0.0
        self._budget: dict[str, Any] = welcome["budget"]
        width = self.seq_len + 1
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE  # no page faults on the clock
        shared = np.frombuffer(mmap.mmap(rows, ring.size(width), flags, mmap.PROT_READ), dtype=np.uint8)
        self._words, self._slots = ring.views(shared, width)
        self._counter = np.frombuffer(mmap.mmap(counter, ring.PAGE), dtype=np.uint64)
        self._started = self._ended = False
        self._warmups = self._taken = 0

    def warmup_rows(self, n: int) -> Array:
        """Random token ids, uint16 [n, T+1], to compile and warm up with before the clock starts."""
        self._warmups += 1
        if self._started or self._warmups > WARMUP_CALLS:
            raise RuntimeError(f"warmup_rows() works before start(), {WARMUP_CALLS} times")
        ids = np.random.default_rng(self._warmups).integers(0, self.vocab_size, (n, self.seq_len + 1))
        return ids.astype(np.uint16)

    def start(self) -> None:
        """Start the clock. The first next_rows() does it by itself."""
        if not self._started:
            self._started = True
            self._ask({"do": "start"})

    def next_rows(self, n: int) -> Array | None:
        """The next n rows in the seed's order: read-only uint16 [n, T+1], valid until the next call.

        Columns :-1 are the input and 1: the targets. None when a budget in tokens has fewer than n rows left, and a
        second before the end of a budget in seconds: the last step and run.save() have to fit into it.
        """
        self.start()
        most = len(self._slots) // 3
        if not 0 < n <= most:
            raise ValueError(f"next_rows({n}): between 1 and {most} rows can be had at once")
        if self._ended or not self._shown(n):
            self._ended, self.progress = True, 1.0
            return None
        rows = ring.window(self._slots, self._taken, n)
        self.progress = self._used()
        self._taken += n
        self._counter[0] = self._taken
        ring.fence()
        if self._words[ring.ASLEEP] and self._words[ring.PUBLISHED] < self._taken + 2 * n:
            send(self._sock, {"do": "taken"})
        return rows

    def log(self, step: int, loss: float) -> None:
        """One point of the learning curve: for pictures, other agents and early stops, never for the score."""
        loss = float(loss)
        send(self._sock, {"do": "log", "step": int(step), "loss": loss if math.isfinite(loss) else str(loss)})

    def note(self, name: str, value: object) -> None:
        """A figure of the candidate's own, shown with the result."""
        send(self._sock, {"do": "note", "name": str(name)[:64], "value": str(value)[:256]})

    def save(self, state: Mapping[str, torch.Tensor]) -> None:
        """Hand over what load() needs, as named tensors. Counts inside the budget; the last to arrive in time counts."""
        from safetensors.torch import save

        send(self._sock, {"do": "saving"})
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
        memory = os.memfd_create("state", os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(memory, rest) :]
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALED)
            send(self._sock, {"do": "save"}, memory)
        finally:
            os.close(memory)

    def _shown(self, n: int) -> bool:
        """Whether n more rows are there, asking for them only where the referee has not been quick enough."""
        left, rows_s = self._budget["rows"], self._budget["rows_s"]
        if (left is not None and self._taken + n > left) or (rows_s and self._clock() >= rows_s):
            return False
        if self._words[ring.PUBLISHED] < self._taken + n:
            self._ask({"do": "rows", "n": n})
        ring.fence()
        return bool(self._words[ring.PUBLISHED] >= self._taken + n)

    def _used(self) -> float:
        """Share of the budget that is used up before the next rows."""
        run_s, run_tokens = self._budget["run_s"], self._budget["run_tokens"]
        by_time = self._clock() / run_s if run_s else 0.0
        by_tokens = self._taken * self.seq_len / run_tokens if run_tokens else 0.0
        return min(1.0, max(by_time, by_tokens))

    def _clock(self) -> float:
        """Seconds since the referee's clock started."""
        return time.monotonic() - int(self._words[ring.STARTED]) / 1e9

    def _ask(self, message: Message) -> Message:
        send(self._sock, message)
        return receive(self._sock)
