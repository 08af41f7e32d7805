"""Every CLI of agents.yaml against every behaviour of the provider, in the sandbox and through the gateway."""

from __future__ import annotations

import pytest
from clis import CLIS, equip, night, record
from conftest import Lab
from provider import Behaviour, Provider

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


@pytest.mark.heavy
@pytest.mark.parametrize("behaviour", WANTED)
@pytest.mark.parametrize("name", CLIS)
def test_what_a_cli_makes_of_it(lab: Lab, name: str, behaviour: Behaviour) -> None:
    lab.edit("toy/task.yaml", "propose_s: 20", f"propose_s: {20 if behaviour == 'hang' else 60}")
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
