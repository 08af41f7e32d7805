"""The documents and their split into train, validation and test.

The default corpus is the standard library of the running Python, so nothing is shipped or downloaded. Every sandbox
with a Python in it can read the standard library, so held-out documents come only from modules that neither a training
run nor a coding agent imports, and `nanochat_train.hidden` names them to be masked.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.models import UserError

SKIPPED = {"test", "tests", "idle_test", "encodings", "site-packages", "dist-packages", "__pycache__", "ensurepip", "lib-dynload"}

# Desktop toys, old protocols, and the pure-Python doubles of C modules. Left out on purpose: modules whose modified copies
# live in installed packages (distutils, lib2to3), and modules that common tools import (xmlrpc, wave, cgi, webbrowser).
OBSCURE = (
    *("idlelib", "turtledemo", "tkinter", "turtle.py", "msilib", "mailbox.py", "nntplib.py", "imaplib.py", "poplib.py"),
    *("telnetlib.py", "smtpd.py", "aifc.py", "sunau.py", "xdrlib.py", "mailcap.py", "_pyio.py", "_pydecimal.py"),
)
SMALLEST = 4_000  # characters: smaller ones cost a mount each and hold little
LARGE = 64_000  # taken only where there is too little else, as one file would be most of a split
HELD_OUT_SIZE = 250_000  # characters in each of validation and test; about 80,000 tokens
LEAST_SIZE = 60_000  # less than this measures nothing
PINNED = "shard_06542.parquet"  # upstream's validation shard: where it is there, it alone is held out, in its own order
HELD_OUT_SHARE = 0.05  # of a corpus of your own, in each of validation and test


@dataclass(frozen=True)
class Document:
    """A text, where it came from (relative to its source), and the hash of its content."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        """Copies of a document share it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Corpus:
    """A split corpus; no content is in two of its parts."""

    train: list[Document]
    val: list[Document]
    test: list[Document]

    @property
    def held_out(self) -> list[str]:
        """Names of the documents that no sandbox may show."""
        return sorted(document.name for document in (*self.val, *self.test))

    @property
    def digest(self) -> str:
        """A hash of every text and of the split. Scores compare only where it is the same."""
        parts = "|".join(",".join(document.digest for document in part) for part in (self.train, self.val, self.test))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]


def standard_library(root: Path | None = None) -> Corpus:
    """The *.py files of the standard library at `root`, by default the running Python's."""
    root = root or Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in root.rglob("*.py") if not SKIPPED.intersection(path.relative_to(root).parts))
    documents = [Document(path.relative_to(root).as_posix(), text) for path in files if (text := _read(path))]
    candidates = [d for d in documents if d.name.split("/")[0] in OBSCURE and len(d.text) >= SMALLEST]
    size = min(HELD_OUT_SIZE, sum(len(d.text) for d in candidates) // 3)
    if size < LEAST_SIZE:
        raise UserError(
            f"the standard library at {root} lacks the modules that validation is made of (mailbox, turtle, _pyio, ...): "
            "use a complete Python, or a folder of your own with `--source DIR`"
        )
    by_path = sorted(candidates, key=lambda d: (len(d.text) > LARGE, hashlib.sha256(d.name.encode()).hexdigest()))
    return _split(documents, [d.digest for d in by_path], size)


def folder(root: Path) -> Corpus:
    """Every .txt file and every row of the column "text" of every .parquet file below `root`, split by content hash.

    Of upstream's data, the first half of its validation shard validates as it does there, the second half is the test.
    """
    documents = [document for path in sorted(root.rglob("*")) for document in _documents(path, root)]
    digests = sorted({d.digest for d in documents})
    if len(digests) < 3:
        raise UserError(f"{root} holds {len(digests)} different documents (.txt, .parquet): at least three are needed")
    if pinned := [d for d in documents if Path(d.name.rpartition("#")[0]).name == PINNED]:
        return _pin(documents, pinned)
    size = sum(len(d.text) for d in documents)
    return _split(documents, digests, int(size * HELD_OUT_SHARE))


def _split(documents: list[Document], order: list[str], size: int) -> Corpus:
    """Take digests in `order` into validation until it has `size` characters, then into test; the rest trains."""
    texts = {d.digest: d for d in documents}
    parts: dict[str, str] = {}
    remaining = iter(dict.fromkeys(order))
    for part in ("val", "test"):
        taken = 0
        while taken < max(size, 1):
            digest = next(remaining)
            parts[digest] = part
            taken += len(texts[digest].text)
    chosen: dict[str, list[Document]] = {"train": [], "val": [], "test": []}
    for document in documents:
        chosen[parts.get(document.digest, "train")].append(document)
    return Corpus(**chosen)


def _pin(documents: list[Document], pinned: list[Document]) -> Corpus:
    """Hold out the pinned documents; a copy stays in the part that has it first, of validation, test, training."""
    val = pinned[: len(pinned) // 2]
    seen = {d.digest for d in val}
    test = [d for d in pinned[len(val) :] if d.digest not in seen]
    seen |= {d.digest for d in test}
    return Corpus([d for d in documents if d.digest not in seen], val, test)


def _documents(path: Path, root: Path) -> Iterator[Document]:
    name = path.relative_to(root).as_posix()
    if path.suffix == ".txt" and (text := _read(path)):
        yield Document(name, text)
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        for number, text in enumerate(pyarrow.parquet.read_table(path, columns=["text"])["text"].to_pylist()):
            if text:
                yield Document(f"{name}#{number}", text)


def _read(path: Path) -> str:
    """The text of a file, or "" where it is empty or not UTF-8."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        return ""
