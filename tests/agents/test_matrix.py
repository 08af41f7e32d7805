"""Every CLI of agents.yaml against every behaviour of the provider, in the sandbox and through the gateway."""

from __future__ import annotations

import pytest
from clis import CLIS, SHIPPED, equip, night, record
from conftest import Lab
from provider import Behaviour, Provider
from test_claude import BIG

# What the record says; where it depends on how patient a CLI is, all that it may say.
WANTED: dict[Behaviour, set[str]] = {
    "success": {"changed"},
    "rename": {"changed"},
    "other": {"unchanged"},
    "idle": {"unchanged"},
    "auth": {"auth"},
    "quota": {"quota", "timeout"},
    "rate_limited": {"rate_limited", "timeout"},
    "rate_limited_once": {"changed"},
    "overloaded": {"rate_limited", "timeout"},
    "context": {"context"},
    "dropped": {"network", "rate_limited", "timeout"},
    "hang": {"timeout"},
}


PROPOSE_S = {"hang": 25, "quota": 60, "rate_limited": 60, "overloaded": 60, "dropped": 60}  # the others end by themselves
AMPLE_S = 240


@pytest.mark.heavy
@pytest.mark.parametrize("behaviour", WANTED)
@pytest.mark.parametrize("name", CLIS)
def test_what_a_cli_makes_of_it(lab: Lab, name: str, behaviour: Behaviour) -> None:
    lab.edit("toy/task.yaml", "propose_s: 20", f"propose_s: {PROPOSE_S.get(behaviour, AMPLE_S)}")
    if behaviour == "quota":
        lab.edit("toy/task.yaml", "experiments: 4", "experiments: 4, hours: 0.003")  # else it waits for the next quota
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "time to propose")
    with Provider(behaviour, retry_after=0.3).serving() as provider:
        equip(lab, provider, name, retry={"times": 0})
        done = night(lab, name)
        told = record(lab)
        assert told["proposal"]["outcome"]["kind"] in WANTED[behaviour], (told["proposal"], done.stderr)
        assert told["verdict"]["status"] == {"changed": "keep", "unchanged": "invalid"}.get(
            told["proposal"]["outcome"]["kind"], "void"
        )
        assert provider.asked
    assert lab.strays() == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", CLIS)
def test_a_cli_is_told_more_than_an_argument_holds(lab: Lab, name: str) -> None:
    lab.edit("toy/task.yaml", "propose_s: 20", f"propose_s: {AMPLE_S}")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "time to propose")
    (lab.path / "program.md").write_text(BIG)
    with Provider().serving() as provider:
        equip(lab, provider, name)
        done = night(lab, name)
        told = record(lab)
        assert told["proposal"]["outcome"]["kind"] == "changed", (told["proposal"], done.stderr)
        if SHIPPED[name].get("prompt", {}).get("via") == "arg":  # then in a file, which the scripted model does not read
            assert "Your task is in the file" in provider.texts[0]
        else:
            assert max(map(len, provider.texts)) > 128 << 10
    assert lab.strays() == []
