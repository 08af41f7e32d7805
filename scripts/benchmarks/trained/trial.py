"""One training run in this process, without a sandbox and a referee: on prepared rows, by tokens or by seconds.

Seconds are CPU seconds of this process on a CPU, and of the clock on a GPU.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
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

CONTIGUOUS_ROWS, GPU_ROWS = 640, 2048
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
    device: str = "cpu"

    @classmethod
    def gpu(cls) -> Ground:
        """The rows of the gpu profile, which are packed; the contiguous ones are the same text cut half a row later."""
        prepared = data.load("gpu")
        packed = np.array(prepared.rows("val")[:GPU_ROWS])
        shifted = packed.reshape(-1)[packed.shape[1] // 2 :]
        shifted = shifted[: len(shifted) // packed.shape[1] * packed.shape[1]].reshape(-1, packed.shape[1])
        meta = prepared.meta
        return cls(meta.vocab_size, meta.seq_len, prepared.token_bytes(), prepared.rows("train"), shifted, packed, "cuda")

    @classmethod
    def cpu(cls) -> Ground:
        """From the training rows of the cpu profile, which are packed without gaps: every second document is held out."""
        prepared = data.load("cpu")
        stream = prepared.rows("train").reshape(-1)
        starts = np.flatnonzero(stream == prepared.meta.bos)
        documents = np.split(stream, starts)[1:]  # BOS stands before each
        bos, length = prepared.meta.bos, prepared.meta.seq_len
        held = documents[1::2]
        shown = whole(contiguous(held, bos, length))
        rng = np.random.default_rng(0)
        return cls(
            prepared.meta.vocab_size,
            length,
            prepared.token_bytes(),
            whole(contiguous(documents[::2], bos, length)),
            shown[rng.permutation(len(shown))[:CONTIGUOUS_ROWS]],
            whole(best_fit(held, bos, length)),
        )

    def score(self, logits: Logits) -> dict[str, float]:
        """Bits per byte under both evaluations."""
        return {"contiguous": self._bits(logits, self.contiguous), "packed": self._bits(logits, self.packed)}

    def _bits(self, logits: Logits, rows: Rows) -> float:
        parts = []
        for some in rows[: len(rows) // 32 * 32].reshape(-1, 32 if self.device == "cpu" else 8, rows.shape[1]):
            ids = torch.from_numpy(some.astype(np.int64)).to(self.device)
            with torch.no_grad():
                found = logits(ids[:, :-1].contiguous()).float()
            losses = torch.nn.functional.cross_entropy(found.transpose(1, 2), ids[:, 1:], reduction="none")
            parts.append(losses.cpu().numpy())
        rows = rows[: sum(map(len, parts))]
        return total(np.concatenate(parts), rows[:, 1:], self.sizes).bits_per_byte


def whole(blocks: Iterable[Rows]) -> Rows:
    """All rows of a packing."""
    return np.concatenate(list(blocks))


class Run:
    """The `run` that a train.py is given, with a budget of `tokens` or of `seconds`."""

    scale = 1.0

    def __init__(self, ground: Ground, seed: int, tokens: int | None, seconds: float | None) -> None:
        self.seed, self.vocab_size, self.seq_len, self.device = seed, ground.vocab_size, ground.seq_len, ground.device
        self.order, self.tokens, self.seconds = Order(ground.train, seed), tokens, seconds
        self.clock = time.process_time if ground.device == "cpu" else time.monotonic
        self.progress, self.taken, self.started, self.spent = 0.0, 0, 0.0, 0.0
        self.state: dict[str, torch.Tensor] = {}
        self.notes: dict[str, object] = {}

    def warmup_rows(self, n: int) -> Rows:
        """Random ids."""
        return np.random.default_rng(0).integers(0, self.vocab_size, (n, self.seq_len + 1), dtype=np.uint16)

    def start(self) -> None:
        """Start the clock, once."""
        self.started = self.started or self.clock()

    def next_rows(self, n: int) -> Rows | None:
        """The next n rows, None at the end of the budget."""
        self.start()
        by_tokens = self.taken * self.seq_len / self.tokens if self.tokens else 0.0
        used = (self.clock() - self.started) / self.seconds if self.seconds else by_tokens
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
        self.spent = self.clock() - self.started
        self.state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}


def module(text: str) -> ModuleType:
    """A text as a module of its own."""
    made = ModuleType("candidate")
    sys.modules["candidate"] = made  # where dataclasses look for it
    exec(compile(text, "train.py", "exec"), made.__dict__)
    return made


def trial(text: str, ground: Ground, seed: int, tokens: int | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Train a train.py and score it."""
    candidate, run, began = module(text), Run(ground, seed, tokens, seconds), time.monotonic()
    with redirect_stdout(io.StringIO()):
        candidate.train(run)
    total_s = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        save_file(run.state, Path(folder) / "state.safetensors")
        model = candidate.load(str(Path(folder) / "state.safetensors"))
    scores = ground.score(lambda ids: candidate.logits(model, ids))
    figures = {"seconds": run.spent, "total_s": total_s, "tokens": run.taken * run.seq_len, **sizes(model)}
    return {"seed": seed, **scores, **figures}


def sizes(model: torch.nn.Module) -> dict[str, int]:
    """All parameters, and those of matrices that every token is multiplied with: not of tables that are looked up."""
    looked_up = sum(each.weight.numel() for each in model.modules() if isinstance(each, torch.nn.Embedding))
    matrices = sum(weight.numel() for weight in model.parameters() if weight.ndim >= 2) - looked_up
    return {"parameters": sum(weight.numel() for weight in model.parameters()), "matrices": matrices}
