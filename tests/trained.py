"""A place to score a state that is already trained, a table of pairs of tokens, by real processes in real sandboxes."""

from __future__ import annotations

import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.models import Against, Budget, Metric, Request, Split, Task
from nanochat_train.channel import Fault
from nanochat_train.data import Data, Meta, Rows
from nanochat_train.evaluate import Evaluated, evaluate
from nanochat_train.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
LENGTH, ROWS = 128, 300

HONEST = """
import os, time
import torch
from safetensors.torch import load_file

def load(path):
    return load_file(path)["table"]

def logits(model, tokens):
    return model[tokens]
"""


@dataclass
class Bench:
    """Prepared data, and a trained state."""

    data: Data
    state: Path
    folder: Path

    def evaluate(
        self,
        source: str,
        claims: bool = False,
        sandbox: str = "bubblewrap",
        split: Split = "validation",
        against: Against | None = None,
        **options: object,
    ) -> Evaluated:
        """Score the state with HONEST and `source` after it."""
        work = self.folder / str(len(list(self.folder.iterdir())))
        shutil.copytree(ROOT / "nanochat_train", work / "tree/nanochat_train", ignore=shutil.ignore_patterns("__pycache__"))
        (work / "tree/nanochat_train/train.py").write_text(HONEST + source)
        state = Path(shutil.copy(self.state, work / "state.safetensors"))
        state.chmod(0o644)
        budget = Budget.model_validate({"run_s": 1, "evaluate_s": 240, **options})
        task = Task(name="t", program="p", editable=["f"], metric=Metric(name="m"), budget=budget, profile="cpu")
        request = Request(
            task=task,
            tree=work / "tree",
            work=work,
            commit="0" * 40,
            seed=0,
            sandbox=sandbox,
            split=split,
            against=against or Against(),
        )
        return evaluate(request, self.data, state, lambda *_: None, claims)

    def fault(self, source: str, **options: object) -> tuple[str, str]:
        """Why it is not scored."""
        with pytest.raises(Fault) as found:
            self.evaluate(source, **options)  # type: ignore[arg-type]
        return found.value.status, found.value.reason


def pack(tokenizer: Tokenizer, paths: list[Path]) -> Rows:
    stream = np.array([token for path in paths for token in tokenizer.encode(path.read_text())], dtype=np.uint16)
    count = len(stream) // (LENGTH + 1)
    return stream[: count * (LENGTH + 1)].reshape(count, LENGTH + 1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Packages of the standard library as text, in rows; the state is counts of pairs in the training rows."""
    folder = tmp_path_factory.mktemp("data")
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = [path for package in ("asyncio", "email") for path in sorted((library / package).glob("*.py"))]
    tokenizer = Tokenizer.train((path.read_text() for path in paths), 512)
    tokenizer.save(folder / "tokenizer.json")
    parts = {"train": paths[30:], "val": paths[:30], "test": paths[20:25]}
    rows = {
        part: pack(tokenizer, chosen)[:ROWS] if part != "train" else pack(tokenizer, chosen) for part, chosen in parts.items()
    }
    for part, packed in rows.items():
        np.save(folder / f"{part}.npy", packed)
    meta = Meta.model_construct(profile="cpu", vocab_size=tokenizer.vocab_size, seq_len=LENGTH)
    counts = np.full((meta.vocab_size, meta.vocab_size), 0.05, dtype=np.float32)
    np.add.at(counts, (rows["train"][:, :-1], rows["train"][:, 1:]), 1.0)
    table = np.log(counts / counts.sum(axis=1, keepdims=True))
    save_file({"table": table}, folder / "state.safetensors")
    return Bench(Data(meta, folder), folder / "state.safetensors", tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def honest(bench: Bench) -> Evaluated:
    return bench.evaluate("")


def truth(bench: Bench, part: str = "val") -> float:
    """Nats a token of the table, computed without any process."""
    from safetensors.numpy import load_file

    rows = bench.data.rows(part).astype(np.int64)
    return float(-load_file(bench.state)["table"][rows[:, :-1], rows[:, 1:]].mean())
