"""Make the data of a profile: text -> tokenizer -> token ids -> packed rows. Once a machine; seconds on the cpu profile.

    python -m nanochat_train.prepare                                      the standard library: nothing is loaded
    python -m nanochat_train.prepare --profile gpu --source climbmix      upstream's corpus, about 4 GB over HTTPS
    python -m nanochat_train.prepare --profile gpu --source ~/text        your own .txt, .jsonl and .parquet files

Memory does not grow with the corpus. Interrupt it at any time: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import hashlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.models import UserError
from nanochat_train import corpus, sources
from nanochat_train.corpus import Texts
from nanochat_train.data import COMMANDS, PARTS, Meta, home, save_rows
from nanochat_train.packing import PACKINGS
from nanochat_train.progress import Bar
from nanochat_train.splitting import Split
from nanochat_train.texts import digest, documents
from nanochat_train.tokenizer import Tokenizer
from nanochat_train.tokenizing import Job, Receipt, read, tokenize_all

FORMAT = 1  # of the files in a work folder; another one is not continued
TOKENIZER_CHARACTERS = 200_000_000
CHARACTERS = 6  # a token, at most, on average


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


def prepare(profile: str, source: Path | str | None = None, shards: int | None = None) -> Meta:
    """Write tokenizer, rows and meta of `profile` below the data folder, all of them or nothing.

    `source` names a published corpus, or a file or folder of texts. What an earlier call left unfinished is continued.
    """
    shape = SHAPES[profile]
    with _alone():
        most = shape.held_out_rows * (shape.seq_len + 1) * CHARACTERS
        texts = corpus.find(source, sources.SHARDS[profile] if shards is None else shards, most)
        work = home() / f".work-{profile}"
        key = _open(work, profile, texts)
        split = _split(work, texts)
        tokenizer = _tokenizer(work, texts, split, shape.vocab_size)
        starts = (*split.starts, *(None for _ in texts.pieces))
        jobs = [Job(work, key, n, *each) for n, each in enumerate(zip((*texts.held, *texts.pieces), starts, strict=True))]
        receipts = _tokenize(jobs)
        meta = _pack(work, profile, texts, tokenizer, jobs, receipts)
        target = home() / profile
        if target.exists():
            target.rename(work / "old")
        (work / "new").rename(target)
        shutil.rmtree(work)
    return meta


@contextmanager
def _alone() -> Iterator[None]:
    """The data folder, for this process alone."""
    home().mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(home(), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"data is being prepared in {home()} by another process: wait for it to end") from None
    finally:
        os.close(handle)


def _open(work: Path, profile: str, texts: Texts) -> str:
    """The work folder of these very texts, with what an earlier call finished, or an empty one; a hash of what it is for."""
    found = hashlib.sha256(f"{FORMAT} {SHAPES[profile]} {platform.python_version()} {len(texts.held)}".encode())
    for span in (span for piece in (*texts.held, *texts.pieces) for span in piece):
        found.update(f"{span} {span.path.stat().st_mtime_ns}\n".encode())
    key = found.hexdigest()[:16]
    mark = work / "key"
    if not mark.exists() or mark.read_text() != key:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
        mark.write_text(key)
    for name in ("old", "new"):
        shutil.rmtree(work / name, ignore_errors=True)
    return key


def _split(work: Path, texts: Texts) -> Split:
    try:
        return Split.load(work)
    except FileNotFoundError:
        split = texts.split()
        split.save(work)
        return split


def _tokenizer(work: Path, texts: Texts, split: Split, vocab_size: int) -> Tokenizer:
    path = work / "tokenizer.json"
    if not path.exists():
        print("learning the tokenizer", file=sys.stderr)
        Tokenizer.train(_sample(texts, split), vocab_size).save(path)
    return Tokenizer.load(path)


def _sample(texts: Texts, split: Split) -> Iterator[str]:
    """As many training texts as the tokenizer needs to see."""
    size = 0
    for text in (text for piece in texts.pieces for text in documents(piece)):
        if size >= TOKENIZER_CHARACTERS:
            return
        if split.part(digest(text)) == "train":
            size += len(text)
            yield text


def _tokenize(jobs: list[Job]) -> list[Receipt]:
    receipts, sizes = list[Receipt](), [sum(span.size for span in job.piece) for job in jobs]
    with Bar("tokenize", sum(sizes)) as bar:
        for size, receipt in zip(sizes, tokenize_all(jobs), strict=True):
            receipts.append(receipt)
            bar.advance(size)
    return receipts


def _pack(work: Path, profile: str, texts: Texts, tokenizer: Tokenizer, jobs: list[Job], receipts: list[Receipt]) -> Meta:
    folder, shape = work / "new", SHAPES[profile]
    folder.mkdir(mode=0o700)
    rows = {}
    for part in PARTS:
        most = None if part == "train" else shape.held_out_rows
        with Bar(f"pack {part}", sum(receipt.tokens[part] for receipt in receipts), "M tokens") as bar:
            packed = PACKINGS[shape.packing](read(jobs, part), tokenizer.bos, shape.seq_len, most)
            rows[part] = save_rows(folder / f"{part}.npy", bar.over(packed), shape.seq_len)
        if not rows[part]:
            raise UserError(f"{texts.source} is too small: its {part} split fills no row of {shape.seq_len + 1} tokens")
    tokenizer.save(folder / "tokenizer.json")
    meta = Meta(
        profile=profile,
        vocab_size=tokenizer.vocab_size,
        seq_len=shape.seq_len,
        packing=shape.packing,
        bos=tokenizer.bos,
        corpus=hashlib.sha256("".join(receipt.digest for receipt in receipts).encode()).hexdigest()[:16],
        tokenizer=tokenizer.digest,
        python=platform.python_version(),
        source=texts.source,
        documents={part: sum(receipt.documents[part] for receipt in receipts) for part in PARTS},
        rows=rows,
        held_out=list(texts.held_out),
    )
    (folder / "meta.json").write_text(meta.model_dump_json(indent=1))
    return meta


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nanochat_train.prepare",
        description="Prepare the data of a profile: text, tokenizer, packed rows. Interrupted, the same command goes on.",
    )
    parser.add_argument("--profile", choices=sorted(SHAPES), default="cpu")
    parser.add_argument(
        "--source",
        help=f"{', '.join(sources.NAMES)}, or a file or folder of yours (.txt; .jsonl and .parquet with a field `text`); "
        "default of the cpu profile: Python's standard library",
    )
    parser.add_argument("--shards", type=int, help="of climbmix, to train on; about 60 M tokens each (default: cpu 1, gpu 40)")
    args = parser.parse_args()
    if args.shards is not None and args.source != "climbmix":
        parser.error("--shards is of `--source climbmix`")
    return args


def main() -> int:
    """The command line; exit code 1 and one sentence on a user's mistake."""
    args = _arguments()
    started = time.monotonic()
    try:
        if args.profile == "gpu" and not args.source:
            raise UserError(f"the gpu profile needs a text: run `{COMMANDS['gpu']}`, or name a file or folder of yours")
        meta = prepare(args.profile, args.source, args.shards)
    except UserError as error:
        return _failed(str(error), 1)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = f"make room for {home()}, or let XDG_CACHE_HOME name another disk, and " if full else ""
        return _failed(f"{error.filename or home()}: {error.strerror}: {advice}run the same command again; it goes on", 1)
    except KeyboardInterrupt:
        return _failed("interrupted: the same command goes on where this one stopped", 130)
    counts = ", ".join(f"{meta.rows[part] * meta.seq_len:,} {part}" for part in PARTS)
    print(f"{home() / args.profile}: {counts} tokens, vocabulary {meta.vocab_size}, {time.monotonic() - started:.1f} s")
    return 0


def _failed(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
