"""Published corpora by name: where they are, and what of them their publishers validate on.

climbmix     karpathy/climbmix-400b-shuffle, the corpus of karpathy/autoresearch and nanochat: shards of about 60 M tokens
tinystories  roneneldan/TinyStories, the stories by GPT-4 (Eldan and Li, arXiv 2305.07759): about 500 M tokens
shakespeare  the plays in 1.1 MB that char-rnn and nanoGPT made a custom
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.models import UserError
from nanochat_train.data import home
from nanochat_train.remote import PATIENT, Patience, Remote
from nanochat_train.texts import Span, spans

LAST = 6542
PINNED = f"shard_{LAST:05d}.parquet"  # upstream's validation shard
SHARDS = {"cpu": 1, "gpu": 40}  # about 2.4 G tokens: a run of five minutes on an H100 takes 0.5 G of them, at random
SHARD_BYTES = 92_000_000

# By the copy in karpathy/char-rnn; the first nine tenths train, as in nanoGPT (data/shakespeare_char/prepare.py).
SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SHAKESPEARE_BYTES, SHAKESPEARE_TRAIN = 1_115_394, 1_003_854

Found = tuple[list[Span], list[Span]]  # to train on, and held out


def get(name: str, shards: int, patience: Patience = PATIENT) -> Found:
    """Load a corpus into the cache folder, or verify what is there: its training and its held-out text."""
    return NAMES[name](shards, patience)


def hub() -> str:
    """Where data sets are published; `$HF_ENDPOINT` names a mirror, as it does for Hugging Face's own tools."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _climbmix(shards: int, patience: Patience) -> Found:
    if not 1 <= shards <= LAST:
        raise UserError(f"--shards {shards}: climbmix has from 1 to {LAST} shards to train on")
    base = f"{hub()}/datasets/karpathy/climbmix-400b-shuffle/resolve/main"
    names = [PINNED, *(f"shard_{number:05d}.parquet" for number in range(shards))]
    held, *train = _load([Remote(n, f"{base}/{n}", SHARD_BYTES) for n in names], home() / "sources/climbmix", patience)
    return [span for path in train for span in spans(path)], spans(held)


def _tinystories(shards: int, patience: Patience) -> Found:
    base = f"{hub()}/datasets/roneneldan/TinyStories/resolve/main"
    sizes = {"TinyStoriesV2-GPT4-train.txt": 2_230_000_000, "TinyStoriesV2-GPT4-valid.txt": 22_500_000}
    files = [Remote(name, f"{base}/{name}", about) for name, about in sizes.items()]
    train, held = _load(files, home() / "sources/tinystories", patience)
    return spans(train), spans(held)


def _shakespeare(shards: int, patience: Patience) -> Found:
    file = Remote("input.txt", SHAKESPEARE, SHAKESPEARE_BYTES, SHAKESPEARE_SHA256)
    (path,) = _load([file], home() / "sources/shakespeare", patience)
    held_bytes = SHAKESPEARE_BYTES - SHAKESPEARE_TRAIN
    return [Span(path, 0, SHAKESPEARE_TRAIN, SHAKESPEARE_TRAIN)], [Span(path, SHAKESPEARE_TRAIN, SHAKESPEARE_BYTES, held_bytes)]


def _load(files: list[Remote], folder: Path, patience: Patience) -> list[Path]:
    from nanochat_train.download import download

    return download(files, folder, patience)


NAMES: dict[str, Callable[[int, Patience], Found]] = {
    "climbmix": _climbmix,
    "tinystories": _tinystories,
    "shakespeare": _shakespeare,
}
