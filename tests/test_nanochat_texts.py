"""Files as documents, however they are cut into pieces, and the split that their hashes make."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from nanochat_train.splitting import HELD_OUT_SHARE, Split, by_file, by_hash
from nanochat_train.texts import END, LONGEST, PIECE, WINDOW, Piece, digest, documents, pieces, spans

TEXTS = [f"{number}: naïve 漢字 🙂 " + "once upon a time " * (number % 300) + "the end" for number in range(7000)]
LONG = "x" * (2 * WINDOW)


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.write_text("\n".join(json.dumps({"id": n, "text": text}) for n, text in enumerate(texts)) + "\n\n")


def write_parquet(path: Path, texts: list[str]) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": [*texts, "", None]}), path, row_group_size=1000)


def write_marked(path: Path, texts: list[str]) -> None:
    path.write_text(f"\n{END}\n".join(texts) + f"{END}\n")


def read(path: Path) -> list[str]:
    return [text for piece in pieces(spans(path)) for text in documents(piece)]


@pytest.mark.parametrize(
    ("name", "write", "extra"),
    [("a.jsonl", write_jsonl, [LONG]), ("a.parquet", write_parquet, [LONG]), ("a.txt", write_marked, [])],
)
def test_pieces_hold_every_document_once_and_in_order(
    tmp_path: Path, name: str, write: Callable[[Path, list[str]], None], extra: list[str]
) -> None:
    texts = [*TEXTS[:100], *extra, *TEXTS]
    write(tmp_path / name, texts)
    assert len(list(pieces(spans(tmp_path / name)))) > 1
    assert read(tmp_path / name) == texts


@pytest.mark.parametrize("unit", ["One sentence of some length.\n\n", "a line\n", "word ", "é"])
def test_a_long_text_is_cut_where_something_ends_and_loses_nothing(tmp_path: Path, unit: str) -> None:
    text = unit * ((PIECE + WINDOW) // len(unit.encode()))
    (tmp_path / "a.txt").write_text(text)
    found = read(tmp_path / "a.txt")
    assert "".join(found) == text
    assert max(map(len, found)) <= LONGEST
    assert all(each.endswith(unit) for each in found)
    assert len(found) < 3 * len(text) / LONGEST


def test_small_files_share_a_piece_and_large_ones_have_several(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    small = [span for path in tmp_path.iterdir() for span in spans(path)]
    assert [len(piece) for piece in pieces(small)] == [50]
    (tmp_path / "large.txt").write_text("a line\n" * (3 * PIECE // 7))
    large = spans(tmp_path / "large.txt")
    assert all(span.size <= PIECE + WINDOW for span in large)
    assert all(one.stop == other.start for one, other in pairwise(large))


def make_pieces(folder: Path, groups: list[list[str]]) -> list[Piece]:
    for number, group in enumerate(groups):
        write_jsonl(folder / f"{number}.jsonl", group)
    return [tuple(spans(folder / f"{number}.jsonl")) for number in range(len(groups))]


def test_the_lowest_hashes_are_held_out_whatever_the_pieces(tmp_path: Path) -> None:
    texts = [f"{n} {'word ' * (n % 7)}" for n in range(600)]
    split = by_hash(make_pieces(tmp_path, [texts[:250], texts[200:300], texts[250:]]), 10**9, "texts")
    assert split == by_hash(make_pieces(tmp_path, [texts[::-1], texts[200:300]]), 10**9, "texts")
    ordered = sorted(texts, key=digest)
    held = [text for text in ordered if split.part(digest(text)) != "train"]
    assert held == ordered[: len(held)]
    assert [split.part(digest(text)) for text in held] == ["val"] * len(split.val) + ["test"] * len(split.test)
    share = int(sum(map(len, texts)) * HELD_OUT_SHARE)
    for part in ("val", "test"):
        assert share <= sum(len(text) for text in held if split.part(digest(text)) == part) < share + 50


def test_no_more_is_held_out_than_is_scored(tmp_path: Path) -> None:
    texts = [f"{n:05}" for n in range(5000)]
    split = by_hash(make_pieces(tmp_path, [texts[:2500], texts[2500:]]), 500, "texts")
    assert (len(split.val), len(split.test)) == (100, 100)
    assert split == by_hash(make_pieces(tmp_path, [texts]), 500, "texts")


def test_much_repeated_text_is_split_by_what_is_different(tmp_path: Path) -> None:
    split = by_hash(make_pieces(tmp_path, [["a" * 50, "b" * 50, "c" * 50] * 100]), 10**9, "texts")
    assert sorted(split.part(digest(text * 50)) or "" for text in "abc") == ["test", "train", "val"]


def test_a_held_out_file_is_halved_whatever_its_pieces_and_its_copies_are_left_out(tmp_path: Path) -> None:
    split = by_file(make_pieces(tmp_path, [["a", "b", "c"], ["d", "a", "e", "f"]]))
    assert (split.first, split.starts) == (3, (0, 3))
    assert [split.part(digest(text), number) for number, text in enumerate("abcdaef")] == [
        *["val"] * 3,
        "test",
        None,
        "test",
        "test",
    ]
    assert [split.part(digest(text)) for text in "adz"] == [None, None, "train"]
    split.save(tmp_path)
    assert Split.load(tmp_path) == split
    (tmp_path / "split.json").unlink()
    with pytest.raises(FileNotFoundError):
        Split.load(tmp_path)
