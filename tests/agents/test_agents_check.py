"""`harness agents` and `harness agents check`: one edit, tried for real, and what is wrong in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from clis import REAL_KEY, equip
from conftest import Lab
from moves import Change
from provider import Provider

from harness.trial import FILE


def test_check_proves_that_claude_works_and_asks_through_the_gateway(lab: Lab) -> None:
    with Provider(change=Change(FILE)).serving() as provider:
        equip(lab, provider, "claude")
        told = lab.harness("agents", "check", "claude").stdout
        assert "key from TEST_KEY, in the sandbox bubblewrap" in told
        assert "ok   3 requests arrived at the gateway, 3 of them were answered" in told
        assert f"ok   a change of {FILE}" in told
        assert REAL_KEY not in told
        provider.behaviour = "auth"
        told = lab.harness("agents", "check", "claude", code=1).stdout
        assert f"WRONG a change of {FILE}: the provider refused the key" in told
    assert not list(lab.state.glob("**/.check*"))


def test_check_tries_the_tuner_as_well(lab: Lab) -> None:
    shipped = yaml.safe_load((Path(__file__).parents[2] / "agents.yaml").read_text())["tuner"]
    (lab.path / "agents.yaml").write_text(yaml.safe_dump({"tuner": shipped}))
    assert f"ok   a change of {FILE}" in lab.harness("agents", "check", "tuner").stdout


@pytest.mark.heavy
def test_check_says_when_an_agent_asks_nobody(lab: Lab) -> None:
    with Provider().serving() as provider:
        entry = f"{{api: openai-chat, url: '{provider.url}/v1', key_env: TEST_KEY}}"
        with (lab.path / "agents.yaml").open("a") as file:
            file.write(f"elsewhere: {{argv: [sh, -c, 'echo I did it'], provider: {entry}}}\n")
        assert "set TEST_KEY" in lab.harness("agents", "check", "elsewhere", code=1).stderr
        lab.env["TEST_KEY"] = REAL_KEY
        told = json.loads(lab.harness("agents", "check", "elsewhere", "--json", code=1).stdout)
    problems = [each["problem"] for each in told["checks"]]
    assert not told["ok"]
    assert any(problem and "it asked nobody, or somebody else" in problem for problem in problems)
    assert "the agent changed nothing" in problems


@pytest.mark.heavy
def test_agents_tells_of_keys_and_of_the_last_failure(lab: Lab) -> None:
    lab.agent("broken", "echo 'error: the sky is falling'; exit 3")
    lab.harness("run", "--tag", "t", "--agent", "broken", "--experiments", "1")
    with (lab.path / "agents.yaml").open("a") as file:
        file.write("keyed: {argv: [sh], provider: {api: gemini, key_env: [ONE_KEY, OTHER_KEY]}}\n")
    lab.env["OTHER_KEY"] = REAL_KEY
    listed = lab.harness("agents", "--json").stdout
    found = {each["name"]: each for each in json.loads(listed)}
    assert found["broken"]["last_failure"]["kind"] == "crashed"
    assert "the sky is falling" in found["broken"]["last_failure"]["reason"]
    assert found["keyed"]["key"] == "key from OTHER_KEY"
    assert REAL_KEY not in listed
    assert found["better"]["key"] == "no key needed"
    assert "no key: set ONE_KEY or OTHER_KEY" in lab_without(lab, "OTHER_KEY").harness("agents").stdout


def lab_without(lab: Lab, variable: str) -> Lab:
    del lab.env[variable]
    return lab
