"""One training run in this process, without a sandbox and a referee: on prepared rows, by tokens or by CPU seconds."""

from __future__ import annotations

import io
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from nanochat_train import data
from nanochat_train.data import Rows
from nanochat_train.packing import best_fit, contiguous
from nanochat_train.score import total
from nanochat_train.supply import Order

CONTIGUOUS_ROWS = 640
Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Ground:
    """Rows to train on, and rows of other documents to score: cut wherever a row ends, and packed as upstream does it."""

    vocab_size: int
    seq_len: int
    sizes: Any
    train: Rows
    contiguous: Rows
    packed: Rows

    @classmethod
    def of(cls, profile: str) -> Ground:
        """From the training rows of a profile that is packed without gaps: every second document is held out."""
        prepared = data.load(profile)
        stream = prepared.rows("train").reshape(-1)
        starts = np.flatnonzero(stream == prepared.meta.bos)
        documents = [part[1:].tolist() for part in np.split(stream, starts)[1:]]
        bos, length = prepared.meta.bos, prepared.meta.seq_len
        held = documents[1::2]
        shown = contiguous(held, bos, length)
        rng = np.random.default_rng(0)
        return cls(
            prepared.meta.vocab_size,
            length,
            prepared.token_bytes(),
            contiguous(documents[::2], bos, length),
            shown[rng.permutation(len(shown))[:CONTIGUOUS_ROWS]],
            best_fit(held, bos, length),
        )

    def score(self, logits: Logits) -> dict[str, float]:
        """Bits per byte under both evaluations."""
        return {"contiguous": self._bits(logits, self.contiguous), "packed": self._bits(logits, self.packed)}

    def _bits(self, logits: Logits, rows: Rows) -> float:
        parts = []
        for some in np.array_split(rows, math.ceil(len(rows) / 32)):
            ids = torch.from_numpy(some.astype(np.int64))
            with torch.no_grad():
                found = logits(ids[:, :-1]).float()
            parts.append(torch.nn.functional.cross_entropy(found.transpose(1, 2), ids[:, 1:], reduction="none").numpy())
        return total(np.concatenate(parts), rows[:, 1:], self.sizes).bits_per_byte


class Run:
    """The `run` that a train.py is given, with a budget of `tokens` or of `cpu_s` CPU seconds of this process."""

    device, scale = "cpu", 1.0

    def __init__(self, ground: Ground, seed: int, tokens: int | None, cpu_s: float | None) -> None:
        self.seed, self.vocab_size, self.seq_len = seed, ground.vocab_size, ground.seq_len
        self.order, self.tokens, self.cpu_s = Order(ground.train, seed), tokens, cpu_s
        self.progress, self.taken, self.started, self.spent = 0.0, 0, 0.0, 0.0
        self.state: dict[str, torch.Tensor] = {}
        self.notes: dict[str, object] = {}

    def warmup_rows(self, n: int) -> Rows:
        """Random ids."""
        return np.random.default_rng(0).integers(0, self.vocab_size, (n, self.seq_len + 1), dtype=np.uint16)

    def start(self) -> None:
        """Start the clock, once."""
        self.started = self.started or time.process_time()

    def next_rows(self, n: int) -> Rows | None:
        """The next n rows, None at the end of the budget."""
        self.start()
        used = (time.process_time() - self.started) / self.cpu_s if self.cpu_s else self.taken * self.seq_len / (self.tokens or 1)
        self.progress = min(1.0, used)
        if used >= 1 or (self.tokens and (self.taken + n) * self.seq_len > self.tokens):
            self.progress = 1.0
            return None
        rows = np.empty((n, self.seq_len + 1), dtype=np.uint16)
        self.order.fill(rows)
        self.taken += n
        return rows

    def log(self, step: int, loss: float) -> None:
        """Nobody draws it."""

    def note(self, name: str, value: object) -> None:
        """Keep a figure."""
        self.notes[name] = value

    def save(self, state: dict[str, torch.Tensor]) -> None:
        """Keep the state; the run ends here."""
        self.spent = time.process_time() - self.started
        self.state = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def module(text: str) -> ModuleType:
    """A text as a module of its own."""
    made = ModuleType("candidate")
    sys.modules["candidate"] = made  # where dataclasses look for it
    exec(compile(text, "train.py", "exec"), made.__dict__)
    return made


def trial(text: str, ground: Ground, seed: int, tokens: int | None = None, cpu_s: float | None = None) -> dict[str, Any]:
    """Train a train.py and score it."""
    candidate, run = module(text), Run(ground, seed, tokens, cpu_s)
    with redirect_stdout(io.StringIO()):
        candidate.train(run)
    with tempfile.TemporaryDirectory() as folder:
        save_file(run.state, Path(folder) / "state.safetensors")
        model = candidate.load(str(Path(folder) / "state.safetensors"))
    scores = ground.score(lambda ids: candidate.logits(model, ids))
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"seed": seed, **scores, "cpu_s": run.spent, "tokens": run.taken * run.seq_len, "parameters": parameters}
