"""What another user could reach, by the modes of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine import ANYBODY, missing

from harness.sandboxes import reach

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.mark.parametrize(
    ("modes", "reachable", "exposes"),
    [
        ({"": 0o700}, False, []),
        ({"": 0o755}, True, [""]),
        ({"": 0o711}, True, [""]),
        ({"a": 0o700}, True, [""]),
        ({"": 0o711, "a": 0o711, "a/needed": 0o755}, True, ["a/file", "file"]),
        ({"": 0o711, "a": 0o711, "a/file": 0o600, "file": 0o640, "a/needed": 0o755}, True, []),
        ({"": 0o711, "a": 0o700, "file": 0o600, "a/needed": 0o755}, True, []),
    ],
)
def test_reach(place: Path, modes: dict[str, int], reachable: bool, exposes: list[str]) -> None:
    top = place / "secret"
    (top / "a/needed").mkdir(parents=True)
    for name in ("file", "a/file", "a/needed/file"):
        (top / name).write_text("x")
    for name, mode in modes.items():
        (top / name).chmod(mode)
    needed = [top / "a/needed"] if "a/needed" in modes else []
    assert reach.reaches(top, ANYBODY) == reachable
    assert reach.exposed(top, needed, ANYBODY) == [top / name for name in exposes]
