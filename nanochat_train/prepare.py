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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.models import UserError
from nanochat_train import corpus
from nanochat_train.corpus import Corpus, Document
from nanochat_train.data import PARTS, Meta, Rows, home
from nanochat_train.tokenizer import Tokenizer

TOKENIZER_CHARACTERS = 200_000_000
HELD_OUT_ROWS = 4096  # bounds the evaluation on a large corpus


@dataclass(frozen=True)
class Shape:
    """What a profile's rows look like."""

    vocab_size: int
    seq_len: int


SHAPES = {"cpu": Shape(vocab_size=2048, seq_len=128), "gpu": Shape(vocab_size=8192, seq_len=2048)}


def prepare(profile: str, source: Path | None = None) -> Meta:
    """Write tokenizer, rows and meta of `profile` below the data folder, all of them or nothing."""
    shape = SHAPES[profile]
    split = corpus.folder(source) if source else corpus.standard_library()
    tokenizer = Tokenizer.train(_sample(split.train), shape.vocab_size)
    home().mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home(), prefix=".new-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / profile
        folder.mkdir(mode=0o700)
        meta = _write(folder, profile, split, tokenizer, shape.seq_len, source)
        target = home() / profile
        if target.exists():
            target.rename(Path(scratch) / "old")
        folder.rename(target)
    return meta


def pack(documents: list[list[int]], bos: int, seq_len: int) -> Rows:
    """Contiguous rows, uint16 [N, seq_len + 1]: BOS before each document, documents cut wherever a row ends.

    Rows do not overlap: no row holds what another row is asked to predict. The rest that fills no row is dropped.
    """
    stream = np.fromiter((token for ids in documents for token in (bos, *ids)), dtype=np.uint16)
    count = len(stream) // (seq_len + 1)
    return stream[: count * (seq_len + 1)].reshape(count, seq_len + 1)


def check_bytes(tokenizer: Tokenizer, document: Document, ids: list[int]) -> None:
    """The tokens of a document must hold exactly its bytes, or every bit per byte would be wrong."""
    counted = int(tokenizer.token_bytes()[ids].sum())
    if counted != len(document.text.encode()):
        raise AssertionError(f"{document.name}: its tokens hold {counted} bytes, its text {len(document.text.encode())}")


def _write(folder: Path, profile: str, split: Corpus, tokenizer: Tokenizer, seq_len: int, source: Path | None) -> Meta:
    tokenizer.save(folder / "tokenizer.json")
    rows: dict[str, int] = {}
    for part in PARTS:
        documents: list[Document] = getattr(split, part)
        encoded = tokenizer.encode([document.text for document in documents])
        if part != "train":
            for document, ids in zip(documents, encoded, strict=True):
                check_bytes(tokenizer, document, ids)
        packed = pack(encoded, tokenizer.bos, seq_len)
        packed = packed if part == "train" else packed[:HELD_OUT_ROWS]
        if not len(packed):
            raise UserError(f"{source} is too small: its {part} split fills no row of {seq_len + 1} tokens")
        np.save(folder / f"{part}.npy", packed, allow_pickle=False)
        rows[part] = len(packed)
    meta = Meta(
        profile=profile,
        vocab_size=tokenizer.vocab_size,
        seq_len=seq_len,
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
