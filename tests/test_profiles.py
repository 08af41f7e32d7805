"""What the role of a box decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import limits
from harness.models import Limits
from harness.profiles import PROFILES, Role
from harness.protocols import Box

HERE = Path("/")
MORE: dict[str, dict[str, object]] = {"gpu": {"gpu": True}, "home": {"home": HERE}, "writes": {"writable": (HERE,)}}


@pytest.mark.parametrize("role", PROFILES)
@pytest.mark.parametrize("what", MORE)
def test_no_box_has_more_than_the_profile_of_its_role(role: Role, what: str) -> None:
    if getattr(PROFILES[role], what):
        Box(cwd=HERE, role=role, **MORE[what])  # type: ignore[arg-type]
        return
    with pytest.raises(ValueError, match=f"{role}' has no {what}"):
        Box(cwd=HERE, role=role, **MORE[what])  # type: ignore[arg-type]


def test_only_what_trains_and_is_scored_gets_the_gpu_and_only_agents_a_home() -> None:
    assert {role for role, profile in PROFILES.items() if profile.gpu} == {"train", "evaluate"}
    assert {role for role, profile in PROFILES.items() if profile.home} == {"agent"}


def test_a_check_is_small_on_a_large_machine_and_half_of_a_small_one() -> None:
    assert PROFILES["check"].limits(512 << 10)["memory_mb"] == 4096
    assert PROFILES["check"].limits(2048)["memory_mb"] == 1024
    assert PROFILES["train"].limits(512 << 10)["memory_mb"] == int(0.8 * (512 << 10))
    assert (limits.settle(Limits(memory_mb=9000), "check").memory_mb, limits.settle(Limits(), "check").disk_mb) == (9000, 1024)
