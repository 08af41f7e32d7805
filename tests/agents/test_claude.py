"""Claude Code itself, in the sandbox and through the gateway, against the scripted provider."""

from __future__ import annotations

from typing import get_args

import pytest
from clis import REAL_KEY, equip, night, record
from conftest import Lab
from provider import Behaviour, Provider

BIG = "A line of a program that somebody wrote at length.\n" * 3000  # more than an argument of a command line may hold


def test_claude_improves_the_file(lab: Lab) -> None:
    (lab.path / "program.md").write_text(BIG)
    with Provider().serving() as provider:
        equip(lab, provider, "claude")
        done = night(lab, "claude")
        assert lab.rows()[1][3] == "keep", done.stderr
        told = record(lab)["proposal"]
        assert told["title"] == "I moved X towards three."
        assert told["hypothesis"] == "Because it may help."
        assert told["outcome"]["kind"] == "changed"
        assert told["agent_version"].startswith("2.")
        assert told["usage"]["requests"] == len(provider.asked) == 3
        assert told["dropped"] == []
        assert all(each.headers["x-api-key"] == REAL_KEY for each in provider.asked)
        assert len(provider.texts[0]) > 128 << 10
    assert lab.strays() == []


def test_claude_renames_a_new_file_over_it_and_cannot_change_another(lab: Lab) -> None:
    with Provider("rename").serving() as provider:
        equip(lab, provider, "claude")
        night(lab, "claude")
        assert record(lab)["proposal"]["outcome"]["kind"] == "changed"
        assert "mv" in provider.texts[-1]
    provider = Provider("other")
    with provider.serving():
        equip(lab, provider, "claude")
        night(lab, "claude", experiments=2)
        told = record(lab, "0002")
        assert told["verdict"]["reason"] == "the agent changed nothing"
        assert told["verdict"]["status"] == "invalid"


@pytest.mark.heavy
def test_a_refused_key_ends_the_night_of_its_only_agent_and_only_pauses_one_of_two(lab: Lab) -> None:
    with Provider("auth").serving() as provider:
        equip(lab, provider, "claude")
        done = night(lab, "claude", experiments=5)
        assert "no agent can work: claude: the provider refused the key" in done.stderr
        assert [row[3] for row in lab.rows()] == ["keep", "void"]
        lab.agent("steady", "sed -i 's/^X = .*/X = 3.{seed}/' toy/solution.py; NOTE")
        done = night(lab, "claude", "steady", experiments=3)
        assert "stopped: 3 experiments are done" in done.stderr
        agents = [record(lab, f"000{n}")["experiment"]["agent"] for n in (2, 3, 4, 5)]
        assert sorted(agents) == ["claude", "steady", "steady", "steady"]


@pytest.mark.heavy
def test_claude_that_changes_nothing_says_why(lab: Lab) -> None:
    with Provider("idle").serving() as provider:
        equip(lab, provider, "claude")
        night(lab, "claude")
        told = record(lab)
        assert told["verdict"] == {**told["verdict"], "status": "invalid", "reason": "the agent changed nothing"}
        assert told["proposal"]["title"] == "There is nothing worth changing."


def test_every_behaviour_is_in_the_table_of_the_matrix() -> None:
    from test_matrix import WANTED

    assert set(WANTED) == set(get_args(Behaviour))
