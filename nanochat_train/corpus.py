"""The documents and their split into train, validation and test.

The default corpus is the standard library of the running Python, so nothing is shipped or downloaded. Every sandbox
with a Python in it can read the standard library, so held-out documents come only from modules that neither a training
run nor a coding agent imports, and `nanochat_train.hidden` names them to be masked.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.models import UserError
from nanochat_train import sources
from nanochat_train.splitting import Split, by_file, by_hash
from nanochat_train.texts import SUFFIXES, Piece, Span, digest, pieces, spans

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


@dataclass(frozen=True)
class Document:
    """A text, and the file that it is, relative to its source."""

    name: str
    text: str

    @property
    def digest(self) -> int:
        """Copies of a document share it."""
        return digest(self.text)


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


@dataclass(frozen=True)
class Texts:
    """A corpus to prepare: its pieces, those of its publisher's held-out file if it has one, and how it is split.

    `held_out` names modules of the standard library that no sandbox may show.
    """

    source: str | None
    pieces: tuple[Piece, ...]
    held: tuple[Piece, ...]
    split: Callable[[], Split]
    held_out: Sequence[str] = ()


def find(source: Path | str | None, shards: int, most: int) -> Texts:
    """The corpus that a user named: a published one, a file or folder of texts, or by default the standard library.

    Of a corpus of one's own `most` characters at most are held out for validation, and as many for the test.
    """
    if source is None:
        return library()
    return named(str(source), shards, most) if str(source) in sources.NAMES else own(Path(source), most)


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


def library() -> Texts:
    """The standard library of the running Python as a corpus to prepare."""
    found, root = standard_library(), Path(sysconfig.get_paths()["stdlib"])
    files = sorted(root / document.name for part in (found.train, found.val, found.test) for document in part)
    val, test = (frozenset(document.digest for document in part) for part in (found.val, found.test))
    whole = [Span(path, 0, size, size) for path in files for size in [path.stat().st_size]]
    return Texts(None, tuple(pieces(whole)), (), lambda: Split(val, test), found.held_out)


def own(place: Path, most: int) -> Texts:
    """A file of yours, or every .txt, .jsonl and .parquet file below a folder, split by the hash of each document.

    Of upstream's data, the first half of its validation shard validates as it does there, the second half is the test.
    """
    if not place.exists():
        raise UserError(f"{place} is no file, no folder and none of {', '.join(sources.NAMES)}: name one of these with --source")
    place = place.resolve()
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    files = [path for path in files if path.suffix in SUFFIXES]
    if not files:
        raise UserError(f"{place} holds no text: documents have to be in files that end with {', '.join(SUFFIXES)}")
    parts = {held: [s for path in files if (path.name == sources.PINNED) is held for s in spans(path)] for held in (False, True)}
    return _texts(str(place), parts[False], parts[True], most)


def named(name: str, shards: int, most: int) -> Texts:
    """A published corpus, loaded into the cache folder; what its publisher validates on is held out."""
    return _texts(name, *sources.get(name, shards), most)


def _texts(source: str, train: Sequence[Span], held: Sequence[Span], most: int) -> Texts:
    found, kept = tuple(pieces(train)), tuple(pieces(held))
    return Texts(source, found, kept, lambda: by_file(kept) if kept else by_hash(found, most, source))


def _split(documents: list[Document], order: list[int], size: int) -> Corpus:
    """Take digests in `order` into validation until it has `size` characters, then into test; the rest trains."""
    texts = {d.digest: d for d in documents}
    parts: dict[int, str] = {}
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


def _read(path: Path) -> str:
    """The text of a file, or "" where it is empty or not UTF-8."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        return ""
