"""The driver for the Agent Client Protocol: one turn, and nothing that an agent sends makes the harness touch a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clis import SHIPPED, equip, night, record
from conftest import Lab, heavy
from provider import Provider

SCRIPT = Path(__file__).with_name("acp_agent.py").read_text()


def talk(lab: Lab, how: str, propose_s: int = 20) -> dict[str, Any]:
    """A night of one experiment with the tiny agent; its proposal."""
    outside = lab.path.parent / "precious"
    outside.write_text("mine")
    entry = {"driver": "acp", "argv": ["{python}", "-c", SCRIPT, how], "env": {"OUTSIDE": str(outside)}, "repairs": 0}
    entry["provider"] = {"api": "anthropic", "url": "http://127.0.0.1:9", "key_env": []}
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"talks: {json.dumps(entry)}\n")
    lab.edit("toy/task.yaml", "propose_s: 20", f"propose_s: {propose_s}")
    lab.harness("run", "--tag", "t", "--agent", "talks", "--experiments", "1")
    assert outside.read_text() == "mine"
    assert lab.strays() == []
    proposal: dict[str, Any] = record(lab)["proposal"]
    return proposal


@pytest.mark.parametrize("how", ["odd", *heavy("well")])
def test_a_turn_is_played_to_its_end(lab: Lab, how: str) -> None:
    told = talk(lab, how)
    assert told["outcome"] == {"kind": "changed", "reason": ""}, lab.git("show", "refs/experiments/t/0001:transcript.txt")
    assert told["title"] == "I moved X towards three."
    assert told["hypothesis"] == "Because it may help."
    assert told["exit_code"] == 0
    assert "First I look around." in lab.git("show", "refs/experiments/t/0001:transcript.txt")


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        ("dies", "crashed", "exit code 7: the agent ended before its turn did: I cannot go on"),
        *heavy(("refuses", "refused", "stop_reason: refusal")),
        *heavy(("locked", "auth", "401 unauthorized"), ("flood", "crashed", "a message of more than 16 MB")),
        ("asks", "crashed", "does not read what it is sent"),
    ],
)
def test_what_went_wrong_is_said(lab: Lab, how: str, kind: str, reason: str) -> None:
    told = talk(lab, how, 60)["outcome"]
    assert told["kind"] == kind
    assert reason in told["reason"]


@pytest.mark.parametrize("how", heavy("hang", "deaf"))
def test_a_turn_ends_with_its_time(lab: Lab, how: str) -> None:
    told = talk(lab, how, 2)
    assert told["outcome"]["kind"] == "timeout"
    assert told["seconds"] < 30
    stopped = "I was told to stop." in lab.git("show", "refs/experiments/t/0001:transcript.txt")
    assert stopped == (how == "hang")


ENTRIES = {
    "gemini": ["--acp", "--yolo", "--model", "{model}"],
    "qwen": ["--acp", "--yolo", "--auth-type", "openai", "--model", "{model}"],
    "opencode": ["acp"],
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", ENTRIES)
def test_a_real_agent_improves_the_file(lab: Lab, name: str) -> None:
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 120")
    with Provider().serving() as provider:
        equip(lab, provider, name)
        url = provider.url + ("/v1" if name != "gemini" else "")
        entry = {**SHIPPED[name], "driver": "acp", "argv": [name, *ENTRIES[name]]}
        entry |= {"provider": {**SHIPPED[name]["provider"], "url": url, "key_env": "TEST_KEY"}}
        del entry["output"]
        with (lab.path / "agents.yaml").open("a") as file:
            file.write(f"{name}-acp: {json.dumps(entry)}\n")
        done = night(lab, f"{name}-acp")
    told = record(lab)["proposal"]
    assert told["outcome"]["kind"] == "changed", (told, done.stderr, lab.git("show", "refs/experiments/t/0001:transcript.txt"))
    assert told["title"] == "I moved X towards three."
    assert told["exit_code"] == 0
    assert lab.strays() == []
