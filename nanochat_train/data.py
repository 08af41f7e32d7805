"""Where prepared data lies, and what it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.models import UserError, Value

PARTS = ("train", "val", "test")
Rows = npt.NDArray[np.uint16]


class Meta(Value):
    """What prepared rows are made of. `rows`, `tokens` and `documents` count by part."""

    profile: str
    vocab_size: int
    seq_len: int
    packing: Literal["contiguous", "best-fit"]
    bos: int
    corpus: str
    tokenizer: str
    python: str
    source: str | None
    documents: dict[str, int]
    rows: dict[str, int]
    held_out: list[str]


@dataclass(frozen=True)
class Data:
    """Prepared data on disk, opened without copying. Rows are uint16 [N, T+1]."""

    meta: Meta
    path: Path

    def rows(self, part: str) -> Rows:
        """The rows of "train", "val" or "test", memory-mapped."""
        rows: Rows = np.load(self.path / f"{part}.npy", mmap_mode="r", allow_pickle=False)
        return rows

    def token_bytes(self) -> npt.NDArray[np.int64]:
        """Raw bytes of every token of the vocabulary, 0 for special ones."""
        from nanochat_train.tokenizer import Tokenizer

        return Tokenizer.load(self.path / "tokenizer.json").token_bytes()


def home() -> Path:
    """The folder of all prepared data; `$XDG_CACHE_HOME` moves it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nanochat_train"


def load(profile: str) -> Data:
    """The data prepared for a profile; a UserError names the command that makes it."""
    path = home() / profile
    try:
        return Data(Meta.model_validate_json((path / "meta.json").read_bytes()), path)
    except (FileNotFoundError, ValueError):
        option = "" if profile == "cpu" else f" --profile {profile} --source DIR"
        command = f"python -m nanochat_train.prepare{option}"
        raise UserError(f"no prepared data for profile {profile!r}: run `{command}`") from None
