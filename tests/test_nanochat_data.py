"""Documents, their split, the tokenizer and the rows; and that what is held out is hidden and missed by nobody."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from harness.models import UserError
from nanochat_train import corpus, data
from nanochat_train.data import PARTS
from nanochat_train.hidden import hidden
from nanochat_train.prepare import prepare
from nanochat_train.texts import digest, documents
from nanochat_train.tokenizer import Tokenizer
from nanochat_train.tokenizing import check_bytes

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = "import torch, torch.nn.functional, optuna, safetensors.torch, typer, pydantic, yaml, numpy, tiktoken, pexpect, pygit2"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def parts(source: Path) -> dict[str, list[str]]:
    """The documents of a source, by part."""
    texts = corpus.find(source, 1, 10**9)
    split, found = texts.split(), {part: list[str]() for part in PARTS}
    for text in (text for piece in texts.pieces for text in documents(piece)):
        if part := split.part(digest(text)):
            found[part].append(text)
    for number, text in enumerate(text for piece in texts.held for text in documents(piece)):
        if part := split.part(digest(text), number):
            found[part].append(text)
    return found


def write_texts(folder: Path) -> Path:
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(
            f"Document {number}: naïve café 漢字 🙂\n" + "".join(f"{number * n} " for n in range(900))
        )
    return folder


def test_tokens_hold_exactly_the_bytes_of_the_text() -> None:
    tokenizer = Tokenizer.train(["the cat sat on the mat, the cat sat"] * 4, 300)
    sizes = tokenizer.token_bytes()
    for text in ("the cat", "naïve café 漢字 🙂\r\n\t  x", "", "<|bos|>", "\x00\x7f"):
        ids = tokenizer.encode(text).tolist()
        assert sizes[ids].sum() == len(text.encode())
        assert tokenizer.decode(ids) == text
        assert tokenizer.bos not in ids
    assert sizes[tokenizer.bos] == 0


def test_a_stored_tokenizer_is_the_same(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["some words, and some more words"] * 4, 280)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.digest == tokenizer.digest
    assert again.encode("more words").tolist() == tokenizer.encode("more words").tolist()


def test_a_folder_is_prepared_and_replaced_as_a_whole(tmp_path: Path, cache: Path) -> None:
    source = write_texts(tmp_path / "texts")
    (source / "copy.txt").write_bytes((source / "0.txt").read_bytes())
    meta = prepare("cpu", source)
    assert prepare("cpu", source) == meta
    assert data.load("cpu").meta == meta
    assert [path.name for path in data.home().iterdir()] == ["cpu"]
    assert data.home().stat().st_mode & 0o777 == 0o700
    for part in ("train", "val", "test"):
        rows = data.load("cpu").rows(part)
        assert rows.shape == (meta.rows[part], 129)
        assert rows.max() < meta.vocab_size
    assert {source, data.home()} <= set(hidden())


def test_every_row_of_the_gpu_profile_begins_with_a_document(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for number in range(40):
        words = np.random.default_rng(number).integers(0, 5000, 4000)
        (source / f"{number}.txt").write_text(" ".join(f"w{word:x}" for word in words))
    meta = prepare("gpu", source)
    assert (meta.packing, meta.seq_len) == ("best-fit", 2048)
    for part in ("train", "val", "test"):
        rows = data.load("gpu").rows(part)
        assert rows.shape == (meta.rows[part], 2049)
        assert (rows[:, 0] == meta.bos).all()


def test_parquet_files_are_read_by_their_text_column(tmp_path: Path) -> None:
    texts = [f"text number {number}" for number in range(30)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "other": range(30)}), tmp_path / "part.parquet")
    assert sorted(text for part in parts(tmp_path).values() for text in part) == sorted(texts)


def test_of_upstreams_data_its_validation_shard_is_held_out_in_its_order(tmp_path: Path) -> None:
    shards = {"shard_00000": [f"text {n}" for n in range(30)], "shard_06542": [f"text {n}" for n in range(20, 60)]}
    for name, texts in shards.items():
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / f"{name}.parquet")
    split = parts(tmp_path)
    assert split["val"] == [f"text {n}" for n in range(20, 40)]
    assert split["test"] == [f"text {n}" for n in range(40, 60)]
    assert split["train"] == [f"text {n}" for n in range(20)]


def test_a_document_whose_tokens_lack_bytes_is_refused() -> None:
    tokenizer = Tokenizer.train(["the cat sat on the mat"] * 4, 280)
    ids = tokenizer.encode("the cat é")
    check_bytes(tokenizer.token_bytes(), "the cat é", ids)
    with pytest.raises(AssertionError, match="hold 9 bytes, its text 10"):
        check_bytes(tokenizer.token_bytes(), "the cat é", ids[:-1])


def test_copies_stay_in_one_part(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"text {number % 12}")
    train, val, test = (set(part) for part in parts(tmp_path).values())
    assert len(train | val | test) == len(train) + len(val) + len(test) == 12


def test_too_small_a_source_is_the_users_mistake(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "only.txt").write_text("one")
    with pytest.raises(UserError, match="at least three"):
        prepare("cpu", tmp_path)
    with pytest.raises(UserError, match=r"run `python -m nanochat_train.prepare`"):
        data.load("cpu")


def test_the_standard_library_gives_enough_to_measure() -> None:
    split = corpus.standard_library()
    assert split == corpus.standard_library()
    for part in (split.val, split.test):
        assert sum(len(d.text) for d in part) > corpus.LEAST_SIZE
    assert sum(len(d.text) for d in split.train) > 20 * corpus.HELD_OUT_SIZE


def test_nobody_imports_what_is_hidden(cache: Path) -> None:
    show = "import sys; print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"
    command = [sys.executable, "-c", f"{IMPORTS}; from nanochat_train import train, worker; {show}"]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    imported = {Path(line).resolve() for line in loaded.splitlines() if line.startswith("/")}
    masked = {path for path in hidden() if path.suffix == ".py"}
    assert len(imported) > 500
    assert masked
    assert not imported & masked


def test_every_held_out_module_is_hidden_with_its_bytecode(cache: Path) -> None:
    paths = set(hidden())
    library = Path(sysconfig.get_paths()["stdlib"]).resolve()
    for name in corpus.standard_library().held_out:
        module = library / name
        assert module in paths
        assert set(module.parent.glob(f"__pycache__/{module.stem}.*.pyc")) <= paths
    assert len(paths) < 400
