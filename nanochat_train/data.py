"""Where prepared data lies, and what it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from harness.models import UserError, Value

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
COMMANDS = {
    "cpu": "python -m nanochat_train.prepare",
    "gpu": "python -m nanochat_train.prepare --profile gpu --source climbmix",
}
Rows = npt.NDArray[np.uint16]


class Meta(Value):
    """What prepared rows are made of. `rows` and `documents` count by part; `source` is a name, or an absolute path of yours."""

    profile: str
    vocab_size: int
    seq_len: int
    packing: Literal["contiguous", "best-fit"]
    bos: int
    corpus: str
    tokenizer: str
    python: str
    source: str | None
    documents: dict[Part, int]
    rows: dict[Part, int]
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
    """The data prepared for a profile, whole; a UserError names the command that makes it."""
    path = home() / profile
    try:
        prepared = Data(Meta.model_validate_json((path / "meta.json").read_bytes()), path)
        if all(prepared.rows(part).shape == (prepared.meta.rows[part], prepared.meta.seq_len + 1) for part in PARTS):
            return prepared
    except (FileNotFoundError, ValueError):
        pass
    raise UserError(f"no prepared data for profile {profile!r}: run `{COMMANDS[profile]}`")


def save_rows(path: Path, blocks: Iterable[Rows], seq_len: int) -> int:
    """Write rows as a .npy file while they are made, and on to the disk; how many there were."""
    count = 0
    with path.open("wb") as file:
        _header(file, 0, seq_len)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<u2").data)
            count += len(block)
        file.seek(0)
        _header(file, count, seq_len)  # as long as the first: numpy leaves room for the count to grow
        file.flush()
        os.fsync(file.fileno())
    return count


def _header(file: BinaryIO, count: int, seq_len: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": (count, seq_len + 1)})
