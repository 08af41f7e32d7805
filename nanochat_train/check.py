"""A quick test of train.py as it stands: seconds on a CPU, no GPU, no prepared data.

    python -m nanochat_train.check      exit 0, or 1 with what is wrong on the last line

It calls train(run) with random ids for a few steps, at the constants and sizes of the cpu profile, then load() and logits()
on what was saved. torch.compile is switched off. What only a GPU executes fails in the first seconds of its run instead.
Passing proves nothing to the referee, which measures what this only tries.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanochat_train.worker import candidate, explain

if TYPE_CHECKING:
    import torch

VOCAB_SIZE, SEQ_LEN, SEED = 2048, 128, 1  # of the cpu profile
STEPS = 4  # what begins at zero, such as an output matrix, needs some to matter
ROWS = 4
TOLERANCE = 0.02  # of the logits' own spread: attention without its mask comes to 0.03 after so few steps, rounding to less


class Wrong(Exception):
    """What is wrong with train.py, in a sentence."""


class Rehearsal:
    """The `run` of feed.py without a referee: random ids, a few steps instead of a clock, and a file for the state."""

    seed, vocab_size, seq_len, device, scale = SEED, VOCAB_SIZE, SEQ_LEN, "cpu", 1.0

    def __init__(self, state: Path) -> None:
        self.state, self.progress, self.step = state, 0.0, 0
        self.rng = np.random.default_rng(SEED)

    def warmup_rows(self, n: int) -> npt.NDArray[np.uint16]:
        """Random ids, [n, T+1]."""
        return self.rng.integers(0, VOCAB_SIZE, (n, SEQ_LEN + 1), dtype=np.uint16)

    def start(self) -> None:
        """There is no clock."""

    def next_rows(self, n: int) -> npt.NDArray[np.uint16] | None:
        """Random ids for a few steps, then None."""
        if n <= 0:
            raise ValueError(f"next_rows({n})")
        self.progress = self.step / STEPS
        self.step += 1
        if self.step > STEPS:
            return None
        rows = self.warmup_rows(n)
        rows.flags.writeable = False
        return rows

    def log(self, step: int, loss: float) -> None:
        """A loss has to be finite."""
        if not np.isfinite(float(loss)):
            raise Wrong(f"the loss is {float(loss)} at step {int(step)}")

    def note(self, name: str, value: object) -> None:
        """Nobody looks at it."""

    def save(self, state: Mapping[str, torch.Tensor]) -> None:
        """Write the state as the referee would get it."""
        from safetensors.torch import save

        self.state.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))


def check(module: ModuleType, state: Path) -> None:
    """Train, save, load, answer; Wrong, or whatever train.py raises, when something of it fails."""
    import torch

    for name in ("train", "load", "logits"):
        if not callable(getattr(module, name, None)):
            raise Wrong(f"train.py has no function {name}()")
    run = Rehearsal(state)
    module.train(run)
    if not run.step:
        raise Wrong("train(run) asked for no rows: run.next_rows(n) has to be called")
    if not state.exists():
        raise Wrong("train(run) ended without run.save(state)")
    model = module.load(str(state))
    tokens = torch.from_numpy(run.warmup_rows(ROWS)[:, :-1].astype(np.int64))
    with torch.no_grad():
        answer = _answer(module, model, tokens)
        _same(answer, _answer(module, model, tokens), "logits() gives other values when it is called again with the same tokens")
        alone = "logits() of a row depend on the other rows of its batch"
        _same(answer[:1], _answer(module, model, tokens[:1]), alone)
        _causal(module, model, tokens, answer)


def _answer(module: ModuleType, model: object, tokens: torch.Tensor) -> torch.Tensor:
    """The logarithms of probabilities, float32 [B, T, V]."""
    import torch

    found = module.logits(model, tokens.clone())
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"logits() returned a {type(found).__name__}, a tensor is expected")
    if found.shape != (*tokens.shape, VOCAB_SIZE):
        raise Wrong(f"logits() have shape {list(found.shape)}, expected [B, T, V] = {[*tokens.shape, VOCAB_SIZE]}")
    if not found.is_floating_point():
        raise Wrong(f"logits() have dtype {found.dtype}, a floating-point one is expected")
    if not torch.isfinite(found).all():
        raise Wrong("logits() are not finite after a few steps")
    return found.float().log_softmax(-1)


def _causal(module: ModuleType, model: object, tokens: torch.Tensor, answer: torch.Tensor) -> None:
    """Replace what follows a position, another one in each row, and look for a change at it or before."""
    cuts = [(2 * row + 1) * SEQ_LEN // (2 * ROWS) for row in range(ROWS)]
    other = tokens.clone()
    for row, cut in enumerate(cuts):
        other[row, cut + 1 :] = (tokens[row, cut + 1 :] + 1 + 37 * row) % VOCAB_SIZE
    changed = _answer(module, model, other)
    for row, cut in enumerate(cuts):
        what = f"logits() depend on the future: those up to position {cut} change with the tokens after it"
        _same(answer[row, : cut + 1], changed[row, : cut + 1], what)


def _same(one: torch.Tensor, other: torch.Tensor, what: str) -> None:
    """Wrong when two answers differ by more than rounding."""
    difference, spread = float((one - other).abs().max()), float(one.std(-1).mean())
    if difference > TOLERANCE * spread:
        raise Wrong(f"{what} (by {difference:.2g}, with a spread of {spread:.2g})")


def main() -> int:
    """Check train.py; the last line that is printed says what was found."""
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compiling takes a minute, and here it would be thrown away
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # several checks may run at once: threads that wait leave the cores to others
    try:
        with tempfile.TemporaryDirectory() as folder:
            check(candidate("cpu"), Path(folder) / "state.safetensors")
    except Wrong as wrong:
        print(f"train.py: {wrong}")
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        told = explain(error)
        place = f" (nanochat_train/train.py line {told['line']})" if told["line"] else ""
        print(f"{told['kind']}: {' '.join(told['text'].split())}{place}")
    else:
        print("passed: it trains, saves, loads, and its logits are finite and causal")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
