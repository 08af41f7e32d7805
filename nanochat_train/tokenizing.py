"""Pieces of a corpus into files of token ids, in several processes. A finished piece has a receipt; the others are made anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.models import Value
from nanochat_train.data import PARTS, Part
from nanochat_train.packing import Tokens
from nanochat_train.pool import in_order
from nanochat_train.splitting import Split
from nanochat_train.texts import Piece, digest, documents
from nanochat_train.tokenizer import Tokenizer

READ = 2 << 20  # tokens


@dataclass(frozen=True)
class Job:
    """A piece to tokenize with the tokenizer and the split that lie in `folder`. `start`: of a held-out file, the
    number of the first document."""

    folder: Path
    key: str  # of the corpus, as two of them may use one folder after another
    number: int
    piece: Piece
    start: int | None = None

    def tokens(self, part: Part) -> Path:
        """Token ids, uint16, BOS before each document."""
        return self.folder / f"{self.number:06d}.{part}"

    @property
    def receipt(self) -> Path:
        """Written when the token files are whole."""
        return self.folder / f"{self.number:06d}.json"


class Receipt(Value):
    """What became of a piece, by part, and a hash of its documents and their parts."""

    documents: dict[Part, int]
    tokens: dict[Part, int]
    digest: str


def tokenize_all(jobs: Sequence[Job]) -> Iterator[Receipt]:
    """The receipts of all jobs, in order; what an earlier call has finished is not done again."""
    yield from in_order(tokenize, jobs)


def tokenize(job: Job) -> Receipt:
    """Write the token files of a piece, then its receipt."""
    if receipt := _finished(job):
        return receipt
    tokenizer, sizes, split = _tools(job.folder, job.key)
    bos = np.array(tokenizer.bos, dtype="<u2").tobytes()
    counts: dict[Part, int] = dict.fromkeys(PARTS, 0)
    lengths, seen = dict(counts), hashlib.sha256()
    with ExitStack() as stack:
        files = {part: stack.enter_context(job.tokens(part).open("wb")) for part in PARTS}
        for number, text in enumerate(documents(job.piece), job.start or 0):
            key = digest(text)
            if (part := split.part(key, None if job.start is None else number)) is None:
                continue
            ids = tokenizer.encode(text)
            if part != "train":
                check_bytes(sizes, text, ids)
            files[part].write(bos)
            files[part].write(ids.astype("<u2").tobytes())
            counts[part] += 1
            lengths[part] += len(ids) + 1
            seen.update(part.encode() + key.to_bytes(8, "big"))
    receipt = Receipt(documents=counts, tokens=lengths, digest=seen.hexdigest())
    written = job.receipt.with_suffix(".new")
    written.write_text(receipt.model_dump_json())
    written.rename(job.receipt)
    return receipt


def read(jobs: Sequence[Job], part: Part) -> Iterator[Tokens]:
    """The token ids of a part, some millions at a time, uint16."""
    for job in jobs:
        with job.tokens(part).open("rb") as file:
            while len(tokens := np.fromfile(file, dtype="<u2", count=READ)):
                yield tokens


def check_bytes(sizes: npt.NDArray[np.int64], text: str, ids: npt.NDArray[np.unsignedinteger]) -> None:
    """The tokens of a document, by their `sizes`, must hold exactly its bytes, or every bit per byte would be wrong."""
    counted = int(sizes[ids].sum())
    if counted != len(text.encode()):
        raise AssertionError(f"the tokens of {text[:40]!r}... hold {counted} bytes, its text {len(text.encode())}")


def _finished(job: Job) -> Receipt | None:
    """The receipt of a piece whose token files are there, as long as it says."""
    try:
        receipt = Receipt.model_validate_json(job.receipt.read_bytes())
        whole = all(job.tokens(part).stat().st_size == 2 * receipt.tokens[part] for part in PARTS)
    except (FileNotFoundError, ValueError):
        return None
    return receipt if whole else None


@lru_cache(maxsize=1)
def _tools(folder: Path, key: str) -> tuple[Tokenizer, npt.NDArray[np.int64], Split]:
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    return tokenizer, tokenizer.token_bytes(), Split.load(folder)
