"""When the same agent is asked again: a busy provider, a change that was tried before, none at all."""

from __future__ import annotations

import pytest
from clis import record
from conftest import Lab


def agent(lab: Lab, name: str, script: str, fields: str) -> None:
    body = script.replace("\n", "\n      ")
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"{name}:\n  argv:\n  - sh\n  - -c\n  - |\n      {body}\n  env: {{TITLE: {name}}}\n  {fields}\n")


@pytest.mark.heavy
def test_a_busy_provider_is_asked_again_and_then_the_experiment_is_void(lab: Lab) -> None:
    agent(lab, "busy", "echo 'error: 429 too many requests'; exit 1", "retry: {times: 2, wait_s: 0.1}")
    lab.harness("run", "--tag", "t", "--agent", "busy", "--experiments", "1")
    told = record(lab)
    assert told["verdict"]["status"] == "void"
    assert [each["outcome"]["kind"] for each in told["proposal"]["tries"]] == ["rate_limited", "rate_limited"]
    assert told["proposal"]["outcome"]["kind"] == "rate_limited"


def test_a_change_that_was_tried_is_turned_back_once_in_words(lab: Lab) -> None:
    script = "grep -q 'tried as experiment 0001' && X=3.5 || X=7.0; sed -i \"s/^X = .*/X = $X/\" toy/solution.py"
    agent(lab, "listens", script, "repairs: 1")
    agent(lab, "deaf", "sed -i 's/^X = .*/X = 7.0/' toy/solution.py", "repairs: 1")
    lab.harness("run", "--tag", "t", "--agent", "worse", "--agent", "listens", "--agent", "deaf", "--experiments", "3")
    listens, deaf = record(lab, "0002"), record(lab, "0003")
    assert listens["verdict"]["status"] == "keep"
    assert "the very change that was tried as experiment 0001: discard" in listens["proposal"]["tries"][0]["outcome"]["reason"]
    assert deaf["verdict"]["reason"] == "the same change was tried as 0001"
    assert len(deaf["proposal"]["tries"]) == 1
    assert deaf["measurements"] == []


def test_an_agent_that_changed_nothing_is_told_so_once(lab: Lab) -> None:
    script = "if grep -q 'left the editable files as they were'; then sed -i 's/5.0/4.0/' toy/solution.py; fi"
    agent(lab, "slow", script, "repairs: 1")
    lab.harness("run", "--tag", "t", "--agent", "slow", "--agent", "idle", "--experiments", "2")
    assert record(lab)["verdict"]["status"] == "keep"
    assert record(lab, "0002")["proposal"]["tries"] == []  # it has no provider, so it would only do the same again


def test_an_agent_may_have_a_program_of_its_own(lab: Lab) -> None:
    (lab.path / "scout.md").write_text("Be bold.\n")
    agent(lab, "scout", "sed -i 's/5.0/4.0/' toy/solution.py", "program: scout.md")
    lab.harness("run", "--tag", "t", "--agent", "scout", "--experiments", "1")
    asked = lab.git("show", "refs/experiments/t/0001:prompt.md")
    assert "Be bold." in asked
    assert "the number nobody tells you" not in asked
    assert record(lab)["program"] == lab.git("hash-object", "scout.md")
