"""Loading over HTTP from a server that truncates, stalls, corrupts, redirects and refuses."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from site_server import Site, serve

from harness.models import UserError
from nanochat_train.download import download
from nanochat_train.remote import Patience, Remote

ROOT = Path(__file__).resolve().parents[1]
QUICK = Patience(tries=3, wait_s=0.01, stall_s=0.5)
DATA = np.random.default_rng(0).bytes(400_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
HALF = "bytes=200000-"
LOADING = "import sys, pathlib; from nanochat_train.download import download; from nanochat_train.remote import Remote"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as site:
        site.files["/f"] = DATA
        yield site


def load(site: Site, folder: Path, sha256: str | None = SHA256, patience: Patience = QUICK) -> bytes:
    (path,) = download([Remote("f", f"{site.url}/f", len(DATA), sha256)], folder, patience)
    return path.read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def known_by(folder: Path) -> str:
    return str(json.loads((folder / "checksums.json").read_text())["f"]["by"])


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([], [None]),
        (["truncate"], [None, HALF]),
        (["stall"], [None, HALF]),
        (["truncate", "truncate", "503", "truncate"], [None, HALF, "bytes=300000-", "bytes=300000-", "bytes=350000-"]),
        (["truncate", "no range"], [None, HALF]),
        (["truncate", "shifted"], [None, HALF, None]),
        (["503", "500", ""], [None] * 3),
        (["corrupt"], [None, None]),
        (["short"], [None, None]),
        (["no length"], [None]),
    ],
)
def test_what_goes_wrong_once_is_mended(site: Site, tmp_path: Path, faults: list[str], ranges: list[str | None]) -> None:
    site.faults["/f"] = faults
    assert load(site, tmp_path) == DATA
    assert [asked for _, asked in site.asked] == ranges
    assert names(tmp_path) == {"f", "checksums.json"}


@pytest.mark.parametrize("fault", ["corrupt", "short"])
def test_a_wrong_file_never_gets_its_name_and_without_the_checksum_it_does(site: Site, tmp_path: Path, fault: str) -> None:
    site.faults["/f"] = [f"{fault}!"]
    with pytest.raises(UserError, match=r"SHA-256 is \w{64}, by what this version of nanochat_train knows it is"):
        load(site, tmp_path / "with")
    assert names(tmp_path / "with") == set()
    assert load(site, tmp_path / "without", sha256=None) != DATA


def test_the_checksum_that_the_server_names_is_obeyed_through_a_redirect(site: Site, tmp_path: Path) -> None:
    site.faults = {"/f": ["redirect!"], "/cdn/f": ["truncate"]}
    assert load(site, tmp_path / "whole", sha256=None) == DATA
    assert known_by(tmp_path / "whole") == "server"
    site.faults = {"/f": ["redirect!"], "/cdn/f": ["corrupt!"]}
    with pytest.raises(UserError, match="by what the server names it is"):
        load(site, tmp_path / "named", sha256=None)
    site.faults = {"/f": ["redirect unnamed!"], "/cdn/f": ["corrupt!"]}
    assert load(site, tmp_path / "unnamed", sha256=None) != DATA


def test_a_first_download_is_the_measure_of_later_ones(site: Site, tmp_path: Path) -> None:
    assert load(site, tmp_path, sha256=None) == DATA
    assert known_by(tmp_path) == "first download"
    asked = len(site.asked)
    assert load(site, tmp_path, sha256=None) == DATA
    assert len(site.asked) == asked  # verified here, without a question
    (tmp_path / "f").write_bytes(DATA[:-1] + b"?")
    assert load(site, tmp_path, sha256=None) == DATA
    assert len(site.asked) == asked + 1
    (tmp_path / "f").unlink()
    site.files["/f"] = DATA[::-1]
    with pytest.raises(UserError, match=r"by its first download it is \w{64}; try again later, or if it was changed on purpose"):
        load(site, tmp_path, sha256=None)
    (tmp_path / "checksums.json").unlink()
    assert load(site, tmp_path, sha256=None) == DATA[::-1]


def test_a_file_that_changed_meanwhile_is_loaded_from_its_beginning(site: Site, tmp_path: Path) -> None:
    mixed = DATA[:200_000] + DATA[::-1][200_000:]
    for folder, expected in ((tmp_path / "tagged", DATA[::-1]), (tmp_path / "untagged", mixed)):
        site.files["/f"], site.faults["/f"] = DATA, ["truncate", "404"]
        with pytest.raises(UserError, match="404"):
            load(site, folder, sha256=None)
        assert names(folder) == {"f.part", "f.part.etag"}
        if expected == mixed:
            (folder / "f.part.etag").unlink()  # the control: nothing else would notice
        site.files["/f"] = DATA[::-1]
        assert load(site, folder, sha256=None) == expected


@pytest.mark.parametrize(
    ("fault", "asked", "sentence"),
    [
        ("503", 3, "could not be loaded: the server answered 503. Check the network"),
        ("404", 1, "does not exist .404."),
        ("403", 1, "cannot be had: the server answered 403"),
        ("page", 1, "answered with a web page"),
    ],
)
def test_what_stays_wrong_is_said_in_a_sentence(site: Site, tmp_path: Path, fault: str, asked: int, sentence: str) -> None:
    site.faults["/f"] = [f"{fault}!"]
    with pytest.raises(UserError, match=sentence):
        load(site, tmp_path)
    assert len(site.asked) == asked


def test_what_was_loaded_stays_when_patience_ends(site: Site, tmp_path: Path) -> None:
    site.faults["/f"] = ["stall", "503", "503", "503"]
    with pytest.raises(UserError, match="503"):
        load(site, tmp_path)
    assert names(tmp_path) == {"f.part", "f.part.etag"}
    assert load(site, tmp_path) == DATA
    assert site.asked[-1][1] == HALF


def test_a_server_that_asks_for_time_gets_it(site: Site, tmp_path: Path) -> None:
    site.faults["/f"] = ["429"]
    began = time.monotonic()
    assert load(site, tmp_path) == DATA
    assert time.monotonic() - began >= 1


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    with serve() as site:
        gone = site.url
    with pytest.raises(UserError, match=r"no connection to 127\.0\.0\.1: .*Check the network .* goes on where it stopped"):
        download([Remote("f", f"{gone}/f", 1)], tmp_path, QUICK)


def test_a_killed_download_is_continued(site: Site, tmp_path: Path) -> None:
    site.faults["/f"] = ["stall"]
    code = f"{LOADING}; download([Remote('f', sys.argv[1], 9)], pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, f"{site.url}/f", str(tmp_path)], cwd=ROOT)
    part = tmp_path / "f.part"
    end = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = part.stat().st_size
    assert 0 < kept < len(DATA)
    assert "f" not in names(tmp_path)
    assert load(site, tmp_path) == DATA
    assert site.asked[-1][1] == f"bytes={kept}-"


def test_files_come_at_the_same_time_and_one_that_fails_ends_all(site: Site, tmp_path: Path) -> None:
    remotes = [Remote(f"f{n}", f"{site.url}/f{n}", len(DATA)) for n in range(6)]
    site.files |= {f"/f{n}": DATA[n:] for n in range(6)}
    assert [path.read_bytes() for path in download(remotes, tmp_path / "all", QUICK)] == [DATA[n:] for n in range(6)]
    site.faults = {f"/f{n}": ["stall!"] for n in range(6)} | {"/f3": ["404"]}
    began = time.monotonic()
    with pytest.raises(UserError, match="f3 does not exist"):
        download(remotes, tmp_path / "some", Patience(tries=99, stall_s=60))
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("fault", ["", "no length"])
def test_a_full_disk_is_a_sentence_and_nothing_looks_whole(site: Site, tmp_path: Path, fault: str) -> None:
    site.files["/f"] = DATA * 6
    site.faults["/f"] = [f"{fault}!"] if fault else []
    code = f"""{LOADING}; from harness.models import UserError
def main(folder):
    try: download([Remote('f', '{site.url}/f', 9)], folder)
    except UserError as error: return str(error)
    except OSError as error: return error.strerror
print(main(pathlib.Path('{tmp_path}')), *(path.name for path in pathlib.Path('{tmp_path}').iterdir() if path.name == 'f'))"""
    small = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--size", "2000000", "--tmpfs", str(tmp_path)]
    done = subprocess.run([*small, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    expected = "No space left on device" if fault else "MB left, f needs 2 MB: make room, or let XDG_CACHE_HOME name another disk"
    assert expected in done.stdout
    assert not done.stdout.endswith(" f\n")
