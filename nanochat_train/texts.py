"""Text files as documents, a bounded piece at a time, so that memory does not grow with the corpus.

A `.parquet` file has a document in each row of its column `text`, a `.jsonl` file one in the field `text` of each line. A
`.txt` file has documents between `<|endoftext|>` marks; what is longer than LONGEST, as books are, is cut at the end of a
paragraph, because packed rows would show little but the heads of such documents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from harness.models import UserError

if TYPE_CHECKING:
    import pyarrow.parquet

PIECE = 16 << 20  # bytes of text that one process takes at a time
WINDOW = 1 << 20  # bytes to look for the end of a document in
LONGEST = 8192  # characters; about as many tokens as a row of the gpu profile has
END = "<|endoftext|>"
BATCH = 256  # rows of a parquet file


@dataclass(frozen=True)
class Span:
    """A part of a file that begins and ends between documents: [start, stop) counts bytes, or row groups of a parquet file."""

    path: Path
    start: int
    stop: int
    size: int  # bytes of text, about


Piece = tuple[Span, ...]


def digest(text: str) -> int:
    """A hash of 64 bits that copies of a document share; the split of a corpus is made by it."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def documents(piece: Piece) -> Iterator[str]:
    """The documents of a piece, none of them empty; a UserError names a file that cannot be read."""
    for span in piece:
        yield from filter(None, READERS[span.path.suffix](span))


def pieces(spans: Iterable[Span]) -> Iterator[Piece]:
    """The same spans, in order, in pieces of about PIECE bytes."""
    piece, size = list[Span](), 0
    for span in spans:
        if piece and size + span.size > PIECE:
            yield tuple(piece)
            piece, size = [], 0
        piece.append(span)
        size += span.size
    if piece:
        yield tuple(piece)


def spans(path: Path) -> list[Span]:
    """A file in parts of about PIECE bytes, or of one row group where that is more."""
    if path.suffix == ".parquet":
        return _row_groups(path)
    size = path.stat().st_size
    cuts = [0]
    with path.open("rb") as file:
        while size - cuts[-1] > PIECE:
            cuts.append(_boundary(file, cuts[-1] + PIECE, size, path.suffix))
    return [Span(path, start, stop, stop - start) for start, stop in zip(cuts, [*cuts[1:], size], strict=True) if stop > start]


def _boundary(file: BinaryIO, place: int, size: int, suffix: str) -> int:
    """The first end of a document at or after `place`, or failing that of a paragraph, a line, a word, a character."""
    marks = [b"\n"] if suffix == ".jsonl" else [END.encode(), b"\n\n", b"\n", b" "]
    file.seek(place)
    while window := file.read(WINDOW):
        for mark in marks:
            if (found := window.find(mark)) >= 0:
                return place + found + len(mark)
        if suffix != ".jsonl":
            return place + next((n for n, byte in enumerate(window) if byte & 0xC0 != 0x80), 0)
        place += len(window)
    return size


def _bytes(span: Span) -> bytes:
    with span.path.open("rb") as file:
        file.seek(span.start)
        return file.read(span.stop - span.start)


def _text(span: Span) -> Iterator[str]:
    try:
        text = _bytes(span).decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{span.path} is not UTF-8 at byte {span.start + error.start}: convert it (`iconv -t utf-8`) or take it out"
        ) from None
    records = text.split(END)
    for record in records:
        yield from _cut(record if len(records) == 1 else record.strip())


def _cut(text: str) -> Iterator[str]:
    """Parts of at most LONGEST characters that end with a paragraph, a line or a word where one ends in their second half."""
    start = 0
    while len(text) - start > LONGEST:
        middle, stop = start + LONGEST // 2, start + LONGEST
        ends = (found + len(mark) for mark in ("\n\n", "\n", " ") if (found := text.rfind(mark, middle, stop)) >= 0)
        end = next(ends, stop)
        yield text[start:end]
        start = end
    yield text[start:]


def _lines(span: Span) -> Iterator[str]:
    place = span.start
    for line in _bytes(span).split(b"\n"):
        if line.strip():
            try:
                text = json.loads(line)["text"]
                if not isinstance(text, str):
                    raise TypeError
                _ = text.isascii() or text.encode()  # half of a surrogate pair can be written in JSON and not be encoded
                yield text
            except (ValueError, KeyError, TypeError):
                raise UserError(
                    f'{span.path}: the line at byte {place} is no JSON object with a "text" of letters: {line[:60]!r}'
                ) from None
        place += len(line) + 1


def _source_file(span: Span) -> Iterator[str]:
    """A whole file; nothing where it is not UTF-8, as a few of the standard library are not."""
    try:
        yield _bytes(span).decode()
    except UnicodeDecodeError:
        return


def _parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path, buffer_size=WINDOW, pre_buffer=False)
    except pyarrow.ArrowInvalid:
        raise UserError(f"{path} is damaged or no parquet file: take it out, or get it again") from None
    if "text" not in file.schema_arrow.names:
        raise UserError(f'{path} has no column "text" but {", ".join(file.schema_arrow.names)}: rename the one with the text')
    return file


def _row_groups(path: Path) -> list[Span]:
    with _parquet(path) as file:
        sizes = [file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups)]
    found, start = list[Span](), 0
    for stop in range(1, len(sizes) + 1):
        if stop == len(sizes) or sum(sizes[start : stop + 1]) > PIECE:
            found.append(Span(path, start, stop, sum(sizes[start:stop])))
            start = stop
    return found


def _rows(span: Span) -> Iterator[str]:
    with _parquet(span.path) as file:
        groups = list(range(span.start, span.stop))
        try:
            for batch in file.iter_batches(BATCH, row_groups=groups, columns=["text"], use_threads=False):
                yield from batch.column(0).to_pylist()
        except OSError as error:
            raise UserError(f"{span.path} is damaged: take it out, or get it again ({error})") from None


READERS: dict[str, Callable[[Span], Iterator[str]]] = {
    ".txt": _text,
    ".jsonl": _lines,
    ".parquet": _rows,
    ".py": _source_file,
}
SUFFIXES = (".txt", ".jsonl", ".parquet")
