"""What is said against a candidate's file before it is run: each dress that data can wear, and code that wears none."""

from __future__ import annotations

import base64
import itertools
import random
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.spec import Limits
from harness.static import problem

TRAIN = (Path(__file__).parents[1] / "nanochat_train/train.py").read_bytes()
RAW = random.Random(1).randbytes(6000)
LONG = random.Random(2).randbytes(24_000)
CARRIED = "data may not be carried in the code"


def said(data: bytes | str, name: str = "a.py", **limits: int) -> str | None:
    return problem(name, data if isinstance(data, bytes) else data.encode(), Limits(**limits))


def pieces(size: int, raw: bytes = RAW) -> list[bytes]:
    return [raw[i : i + size] for i in range(0, len(raw), size)]


def words(data: bytes) -> str:
    """Data as words of letters, thinly spread: what only the size of the whole gives away."""
    return " and ".join(f"'{chr(97 + byte % 26)}{chr(97 + byte // 26)}'" for byte in data)


@pytest.mark.parametrize(
    ("dress", "reason"),
    [
        (lambda: f"W = {base64.b85encode(RAW * 3)!r}", "a literal of 22,500 bytes at line END"),
        (lambda: f"W = '''\n{'spam ' * 2000}'''", "a literal of 10,001 bytes at line END"),
        (lambda: f"W = ('{RAW.hex()[:6000]}'\n  '{RAW.hex()[:6000]}')", "a literal of 12,000 bytes at line END"),
        (lambda: f"W = 0x{RAW.hex() * 2}", "a literal of 12,000 bytes at line END"),
        (lambda: f"W = {list(RAW)}", "a literal of 6,000 values at line END"),
        (lambda: f"W = [[{'f(1), ' * 300}], ({'[2], ' * 300})]", "a literal of 600 values at line END"),
        (lambda: f"W = {dict(enumerate(RAW[:300]))}", "a literal of 600 values at line END"),
        (lambda: "\n".join(f"w{i} = {byte}" for i, byte in enumerate(RAW[:2500])), " digits, 4,096 are the most"),
        (lambda: f"# {base64.b85encode(RAW).decode()}", "as dense as compressed data"),
        (lambda: f"def f():\n  '''{base64.b64encode(RAW).decode()}'''", "as dense as compressed data"),
        (lambda: "\n".join(repr(base64.b64encode(each)) for each in pieces(30)), "as dense as compressed data"),
        (lambda: "\n".join(f"a{base64.b32encode(each).decode()} = 1" for each in pieces(10)), "as dense as compressed data"),
        (lambda: "def f(:\n" + f"# {base64.b85encode(RAW).decode()}", "as dense as compressed data"),  # does not parse
        (lambda: "# " + "".join(chr(0x4E00 + a * 64 + b % 64) for a, b in itertools.pairwise(RAW)), "as dense as"),
        (lambda: "".join(f"x = ({each.hex()[:9]!r},\n    None, None)\n" for each in pieces(6, RAW * 4)), "digits"),
        (lambda: "".join(f"x = ({words(each)},\n    None, None)\n" for each in pieces(6, LONG)), "even when compressed"),
    ],
)
def test_data_is_refused_in_every_dress(dress: Callable[[], str], reason: str) -> None:
    code = TRAIN + dress().encode()
    found = said(code, editable_kb=2000)
    assert found is not None
    assert reason.replace("END", str(TRAIN.count(b"\n") + 1)) in found, found
    assert found.endswith(f": {CARRIED}")
    assert said(code, editable_kb=2000, literal_kb=0) is None  # the control: without the limit it would have been taken


def test_training_files_pass() -> None:
    assert said(TRAIN) is None
    assert said(TRAIN * 2) is None  # twice as long as upstream's


def test_large_files_of_the_standard_library_pass() -> None:
    """Code and prose by many hands; a module of tables is what is meant."""
    files = [path for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py") if 20_000 < path.stat().st_size < 65_000]
    refused = {path.name: found for path in files if (found := said(path.read_bytes()))}
    assert len(files) > 30
    assert len(refused) <= 2, refused


def test_size() -> None:
    assert said("#" * 65536) is None
    assert said("#" * 65537) == "a.py is larger than 64 KiB"
    assert said("#" * 65537, editable_kb=65) is None


def test_only_python_is_read_as_python() -> None:
    assert said(f"[{'1, ' * 3000}]", name="a.json") is None
    assert said(f"[{'1, ' * 3000}]") is not None


@pytest.mark.parametrize("text", ["-" * 60000 + "1", "x" + ".y" * 30000, "1" + "+1" * 30000, "not " * 15000 + "1"])
def test_what_would_exhaust_the_parser_is_refused(text: str) -> None:
    assert said(text) == "a.py is nested too deeply to be read"


@pytest.mark.parametrize("text", ["def (", "(" * 60000, "x = '\\ud800'", "\ufeffx = 1", "# coding: klingon\n", ""])
def test_what_does_not_parse_is_for_its_run_to_say(text: str) -> None:
    assert said(text) is None
