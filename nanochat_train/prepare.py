"""Make the data of a profile: documents -> tokenizer -> packed rows. Once a machine; seconds on the cpu profile.

python -m nanochat_train.prepare
python -m nanochat_train.prepare --profile gpu --source ~/text     # a folder of .txt or .parquet files
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.models import UserError
from nanochat_train import corpus
from nanochat_train.corpus import Corpus, Document
from nanochat_train.data import PARTS, Meta, home
from nanochat_train.packing import PACKINGS
from nanochat_train.tokenizer import Tokenizer

TOKENIZER_CHARACTERS = 200_000_000
ENCODED = 1024  # documents that are tokenized at a time


@dataclass(frozen=True)
class Shape:
    """What a profile's rows look like. `held_out_rows` bounds validation and test."""

    vocab_size: int
    seq_len: int
    packing: Literal["contiguous", "best-fit"]
    held_out_rows: int


# The gpu profile's are upstream's, 40 x 524,288 validation tokens, so that its scores compare with the published ones.
SHAPES = {
    "cpu": Shape(vocab_size=2048, seq_len=128, packing="contiguous", held_out_rows=4096),
    "gpu": Shape(vocab_size=8192, seq_len=2048, packing="best-fit", held_out_rows=10_240),
}


def prepare(profile: str, source: Path | None = None) -> Meta:
    """Write tokenizer, rows and meta of `profile` below the data folder, all of them or nothing."""
    shape = SHAPES[profile]
    split = corpus.folder(source) if source else corpus.standard_library()
    tokenizer = Tokenizer.train(_sample(split.train), shape.vocab_size)
    home().mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home(), prefix=".new-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / profile
        folder.mkdir(mode=0o700)
        meta = _write(folder, profile, split, tokenizer, source)
        target = home() / profile
        if target.exists():
            target.rename(Path(scratch) / "old")
        folder.rename(target)
    return meta


def check_bytes(sizes: npt.NDArray[np.int64], document: Document, ids: list[int]) -> None:
    """The tokens of a document, by their `sizes`, must hold exactly its bytes, or every bit per byte would be wrong."""
    counted = int(sizes[ids].sum())
    if counted != len(document.text.encode()):
        raise AssertionError(f"{document.name}: its tokens hold {counted} bytes, its text {len(document.text.encode())}")


def _write(folder: Path, profile: str, split: Corpus, tokenizer: Tokenizer, source: Path | None) -> Meta:
    tokenizer.save(folder / "tokenizer.json")
    shape, rows = SHAPES[profile], {}
    for part in PARTS:
        ids = _encoded(tokenizer, getattr(split, part), check=part != "train")
        most = None if part == "train" else shape.held_out_rows
        packed = PACKINGS[shape.packing](ids, tokenizer.bos, shape.seq_len, most)
        if not len(packed):
            raise UserError(f"{source} is too small: its {part} split fills no row of {shape.seq_len + 1} tokens")
        np.save(folder / f"{part}.npy", packed, allow_pickle=False)
        rows[part] = len(packed)
    meta = Meta(
        profile=profile,
        vocab_size=tokenizer.vocab_size,
        seq_len=shape.seq_len,
        packing=shape.packing,
        bos=tokenizer.bos,
        corpus=split.digest,
        tokenizer=tokenizer.digest,
        python=platform.python_version(),
        source=str(source.resolve()) if source else None,
        documents={part: len(getattr(split, part)) for part in PARTS},
        rows=rows,
        held_out=[] if source else split.held_out,
    )
    (folder / "meta.json").write_text(meta.model_dump_json(indent=1))
    return meta


def _encoded(tokenizer: Tokenizer, documents: list[Document], check: bool) -> Iterator[list[int]]:
    """Token ids of each document, some at a time."""
    sizes = tokenizer.token_bytes()
    for first in range(0, len(documents), ENCODED):
        some = documents[first : first + ENCODED]
        for document, ids in zip(some, tokenizer.encode([document.text for document in some]), strict=True):
            if check:
                check_bytes(sizes, document, ids)
            yield ids


def _sample(documents: list[Document]) -> list[str]:
    """As many training texts as the tokenizer needs to see."""
    texts, size = [], 0
    for document in documents:
        if size >= TOKENIZER_CHARACTERS:
            break
        texts.append(document.text)
        size += len(document.text)
    return texts


def main() -> int:
    """The command line; exit code 1 and one sentence on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m nanochat_train.prepare", description="Prepare the data of a profile.")
    parser.add_argument("--profile", choices=sorted(SHAPES), default="cpu")
    parser.add_argument("--source", type=Path, help="folder of .txt or .parquet files; default: Python's standard library")
    args = parser.parse_args()
    started = time.monotonic()
    try:
        if args.source and not args.source.is_dir():
            raise UserError(f"{args.source} is not a folder: name one that holds .txt or .parquet files")
        meta = prepare(args.profile, args.source)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    counts = ", ".join(f"{meta.rows[part] * meta.seq_len:,} {part}" for part in PARTS)
    print(f"{home() / args.profile}: {counts} tokens, vocabulary {meta.vocab_size}, {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
