"""The command that prepares data: named corpora from a local server, interruptions, two at once, memory."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from site_server import Site, serve

from harness.models import UserError
from nanochat_train import data, sources
from nanochat_train.hidden import hidden
from nanochat_train.remote import Patience

ROOT = Path(__file__).resolve().parents[1]
WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "su", "ta") for b in ("ri", "po", "du", "ven", "sol", "x")]
CLIMBMIX = "/datasets/karpathy/climbmix-400b-shuffle/resolve/main"
# Prints the most memory, KiB, that a command or a child of it held. A process of its own, as what the parent of a command
# holds when it starts it counts for the command.
PEAK = """import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))"""
STORIES = "/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/nanochat_train"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serve() as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        yield site


def texts(count: int, seed: int, words: int = 120) -> list[str]:
    random = np.random.default_rng(seed)
    return [f"{seed}.{number} " + " ".join(random.choice(WORDS, words)) for number in range(count)]


def shard(documents: list[str]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": documents}), file, row_group_size=16)
    return file.getvalue()


def command(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "nanochat_train.prepare", *args]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def write_source(folder: Path, files: int, size: int = 1_000_000) -> Path:
    """Text of `size` characters a file, no two parts of it alike."""
    folder.mkdir()
    for number in range(files):
        words = np.random.default_rng(number).choice(WORDS, size // 4).reshape(-1, 50).tolist()
        (folder / f"{number:03}.txt").write_text("\n".join(map(" ".join, words))[:size])
    return folder


def digests(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_upstreams_corpus_is_loaded_by_name_and_its_validation_shard_held_out(site: Site, cache: Path) -> None:
    shards = {"shard_00000": texts(60, 1), "shard_00001": texts(60, 2), "shard_06542": texts(40, 3) + texts(2, 1)}
    for name, documents in shards.items():
        site.files[f"{CLIMBMIX}/{name}.parquet"] = shard(documents)
        site.faults[f"{CLIMBMIX}/{name}.parquet"] = ["redirect!"]
    site.faults[f"/cdn{CLIMBMIX}/shard_00001.parquet"] = ["corrupt", "503"]
    command("--source", "climbmix", "--shards", "2")
    meta = data.load("cpu").meta
    assert (meta.source, meta.documents) == ("climbmix", {"train": 118, "val": 21, "test": 21})
    assert cache in hidden()
    assert {path.name for path in cache.iterdir()} == {"cpu", "sources"}
    asked = len(site.asked)
    command("--source", "climbmix", "--shards", "2")
    assert data.load("cpu").meta == meta
    assert len(site.asked) == asked


def test_stories_are_loaded_by_name(site: Site) -> None:
    site.files = {
        f"{STORIES}-{part}.txt": "\n<|endoftext|>\n".join(texts(n, n)).encode() for part, n in (("train", 50), ("valid", 30))
    }
    command("--source", "tinystories")
    assert data.load("cpu").meta.documents == {"train": 50, "val": 15, "test": 15}


def test_another_text_in_the_place_of_shakespeares_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody there: nothing leaves this machine
    place = cache / "sources/shakespeare/input.txt"
    place.parent.mkdir(parents=True)
    place.write_text("To be, or not to be")
    with pytest.raises(UserError, match="no connection to "):
        sources.get("shakespeare", 1, Patience(tries=1))
    assert not place.exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.parquet", b"PAR1 no", "a.parquet is damaged or no parquet file"),
        ("a.parquet", pyarrow.table({"body": ["x"], "id": [1]}), 'a.parquet has no column "text" but body, id'),
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "a.jsonl: the line at byte 14 is no JSON object"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl: the line at byte 0 is no JSON object"),
        ("a.txt", b"caf\xe9", "a.txt is not UTF-8 at byte 3: convert it"),
        ("a.md", b"text", "holds no text: documents have to be in files that end with .txt, .jsonl, .parquet"),
        ("a.txt", b"one", "holds 1 different documents: at least three are needed"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, name: str, content: object, sentence: str) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    if isinstance(content, bytes):
        (source / name).write_bytes(content)
    else:
        pyarrow.parquet.write_table(content, source / name)
    said = command("--source", str(source), code=1).stderr
    assert sentence in said
    assert "Traceback" not in said


def test_the_command_for_each_profile_is_named() -> None:
    for profile in ("cpu", "gpu"):
        with pytest.raises(UserError) as caught:
            data.load(profile)
        named = str(caught.value).split("`")[1].split()
        assert named[:3] == ["python", "-m", "nanochat_train.prepare"]
        assert ("--profile" in named) is (profile == "gpu")
    assert "--profile gpu --source climbmix" in command("--profile", "gpu", code=1).stderr
    assert (
        "nowhere is no file, no folder and none of climbmix, tinystories, shakespeare"
        in command("--source", "nowhere", code=1).stderr
    )


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: os.truncate(path, path.stat().st_size - 1)])
def test_data_that_is_not_whole_counts_as_none(tmp_path: Path, cache: Path, harm: Callable[[Path], None]) -> None:
    source = write_source(tmp_path / "texts", 1, 300_000)
    command("--source", str(source))
    data.load("cpu")
    harm(cache / "cpu/val.npy")
    with pytest.raises(UserError, match="no prepared data for profile 'cpu'"):
        data.load("cpu")


@pytest.mark.heavy
def test_after_a_kill_the_same_command_goes_on_to_the_same_result(tmp_path: Path, cache: Path) -> None:
    source = write_source(tmp_path / "texts", 20)
    command("--source", str(source))
    whole = digests(cache / "cpu")
    shutil.rmtree(cache)
    argv = [sys.executable, "-m", "nanochat_train.prepare", "--source", str(source)]
    process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL)
    work, end = cache / ".work-cpu", time.monotonic() + 120
    while not list(work.glob("*.train")) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(UserError, match="no prepared data"):
        data.load("cpu")
    (work / "000001.val").write_bytes(b"half of it")  # as a kill can leave it
    command("--source", str(source))
    assert digests(cache / "cpu") == whole
    assert {path.name for path in cache.iterdir()} == {"cpu"}


def test_what_is_finished_is_not_made_again_and_changed_text_is(tmp_path: Path, cache: Path) -> None:
    source = write_source(tmp_path / "texts", 2, 300_000)
    (source / "z.parquet").write_bytes(shard(["é" * 1000] * 3))
    interrupted = "from nanochat_train import prepare; prepare.PACKINGS.clear(); prepare.prepare('cpu', prepare.Path({!r}))"
    argv = [sys.executable, "-c", interrupted.format(str(source))]
    assert subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=120).returncode == 1
    work = cache / ".work-cpu"
    receipt = json.loads((work / "000000.json").read_text())
    (work / "000000.json").write_text(json.dumps({**receipt, "digest": "from the first time"}))
    assert "learning the tokenizer" not in command("--source", str(source)).stderr
    kept = data.load("cpu").meta
    command("--source", str(source))
    assert data.load("cpu").meta.corpus != kept.corpus  # so what was finished had been used
    assert subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=120).returncode == 1
    (source / "000.txt").write_text("\n\n".join(texts(400, 77)))
    assert "learning the tokenizer" in command("--source", str(source)).stderr


def test_two_at_once_are_one_too_many(tmp_path: Path, cache: Path) -> None:
    holding = "from nanochat_train.prepare import _alone; import sys\nwith _alone(): print(flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", holding]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert "by another process: wait for it" in command(code=1).stderr
        process.communicate(b"")


def test_ctrl_c_ends_it_and_its_workers_with_a_sentence(tmp_path: Path, cache: Path) -> None:
    source = write_source(tmp_path / "texts", 60)
    argv = [sys.executable, "-m", "nanochat_train.prepare", "--source", str(source)]
    process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 120
    while not list(cache.glob(".work-cpu/*.train")) and time.monotonic() < end:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("interrupted: the same command goes on where this one stopped\n")
    assert "Traceback" not in said
    while (left := group(process.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []


def group(number: int) -> list[str]:
    listing = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if line.split()[0] == str(number) and "Z" not in line.split()[1]]


def test_progress_is_drawn_on_a_terminal() -> None:
    code = """import time; from nanochat_train.progress import Bar
with Bar("load", 4e6) as bar:
    for _ in range(4):
        time.sleep(0.25)
        bar.advance(1e6)
"""
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert "load [############            ] 2 of 4 MB" in drawn
    assert "load [########################] 4 of 4 MB" in drawn


@pytest.mark.heavy
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, cache: Path) -> None:
    peaks = []
    for files in (80, 320):
        source = write_source(tmp_path / f"texts-{files}", files)
        argv = [sys.executable, "-c", PEAK, "-m", "nanochat_train.prepare", "--source", str(source)]
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
        peaks.append(int(done.stdout.split()[-1]) * 1024)
        shutil.rmtree(source)
    assert peaks[1] - peaks[0] < 0.1 * 240_000_000
    assert peaks[1] < 240_000_000  # less than the text
