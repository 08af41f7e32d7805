"""A byte-pair tokenizer: trained by rustbpe, stored as data (never a pickle), used through tiktoken."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiktoken

PATTERN = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""
BOS = "<|bos|>"


class Tokenizer:
    """Text to token ids and back to bytes. The last id is BOS, the beginning of a document."""

    def __init__(self, ranks: dict[bytes, int], pattern: str = PATTERN) -> None:
        self.ranks, self.pattern = ranks, pattern
        self.bos = len(ranks)
        self.vocab_size = len(ranks) + 1
        self._encoding = tiktoken.Encoding(
            "nanochat", pat_str=pattern, mergeable_ranks=ranks, special_tokens={BOS: self.bos}, explicit_n_vocab=self.vocab_size
        )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn `vocab_size - 1` byte-pair tokens from `texts`; BOS is added. Fewer where the text has no more pairs."""
        import rustbpe

        learner = rustbpe.Tokenizer()
        learner.train_from_iterator(iter(texts), vocab_size - 1, pattern=PATTERN)
        return cls({bytes(token): rank for token, rank in learner.get_mergeable_ranks()})

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what `save` wrote."""
        stored = json.loads(path.read_text())
        return cls({base64.b64decode(token): rank for rank, token in enumerate(stored["tokens"])}, stored["pattern"])

    def save(self, path: Path) -> None:
        """Write tokens in order of their rank, base64, with the pattern, as JSON; the whole file or none."""
        tokens = sorted(self.ranks, key=self.ranks.__getitem__)
        stored = {"pattern": self.pattern, "tokens": [base64.b64encode(t).decode() for t in tokens], "special": [BOS]}
        written = path.with_name(f"{path.name}.new")
        written.write_text(json.dumps(stored))
        written.rename(path)

    @property
    def digest(self) -> str:
        """A hash of the vocabulary and the pattern."""
        tokens = b"".join(len(t).to_bytes(4, "big") + t for t in sorted(self.ranks, key=self.ranks.__getitem__))
        return hashlib.sha256(self.pattern.encode() + tokens).hexdigest()[:16]

    def encode(self, text: str) -> npt.NDArray[np.uint32]:
        """Token ids of a text, without BOS. No text can produce a special token."""
        return self._encoding.encode_to_numpy(text, disallowed_special=())

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; BOS reads as its name."""
        return self._encoding.decode(ids)

    def token_bytes(self) -> npt.NDArray[np.int64]:
        """Raw bytes of every token, [vocab_size]; 0 for BOS, which is no text.

        A token that is not UTF-8 by itself counts what it holds, so that the bytes of a text's tokens are the text's.
        """
        sizes = [len(self._encoding.decode_single_token_bytes(rank)) for rank in range(self.bos)]
        return np.array([*sizes, 0], dtype=np.int64)
