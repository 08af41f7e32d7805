"""Logins that agents hold themselves: lent to one at a time, cleaned in between, refused where nothing could hold them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab

from harness import logins
from harness.models import AgentSpec, Budget, Stop, Task, UserError
from harness.providers import check_budget, check_network, weaker
from harness.sandboxes.bubblewrap import Bubblewrap
from harness.sandboxes.none import NoSandbox
from harness.sandboxes.uid import Uid

FIELDS: dict[str, Any] = {"network": "provider", "hosts": ["api.example.com"], "login": {"files": [".cli/login.json", "id"]}}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def spec(**fields: Any) -> AgentSpec:
    return AgentSpec.model_validate({"name": "cli", "argv": ["sh"], **FIELDS, **fields})


def logged_in(text: str = "token") -> Path:
    """The agent's HOME with a login in it."""
    home = logins.home("cli")
    (home / ".cli").mkdir(parents=True, exist_ok=True)
    (home / ".cli/login.json").write_text(text)
    return home


def lend() -> None:
    with logins.lent(spec(), lambda: False):
        pass


def test_a_login_is_kept_and_whatever_else_a_proposal_left_is_not() -> None:
    home = logged_in()
    (home / ".cli/CLAUDE.md").write_text("remember the secret trick")
    (home / ".cli/deep/er").mkdir(parents=True)
    (home / "note").write_text("")
    (home / "id").symlink_to("/etc/passwd")
    lend()
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*")) == [".cli", ".cli/login.json"]
    assert (home / ".cli/login.json").read_text() == "token"
    assert home.parent.stat().st_mode & 0o077 == 0


def test_what_only_pretends_to_be_a_login_goes(tmp_path: Path) -> None:
    home, other = logged_in(), tmp_path / "other"
    other.write_text("somebody else's")
    for make in (
        lambda path: path.symlink_to(other),
        lambda path: path.hardlink_to(other),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.write_bytes(b"x" * (logins.LARGEST + 1)),
    ):
        make(home / "id")
        lend()
        assert not os.path.lexists(home / "id")
    (home / ".cli/login.json").unlink()
    (home / ".cli").rmdir()
    (home / ".cli").symlink_to(tmp_path, target_is_directory=True)  # the folder itself, to have files elsewhere removed
    lend()
    assert not os.path.lexists(home / ".cli")
    assert other.read_text() == "somebody else's"


def test_one_at_a_time_and_the_next_finds_what_the_first_renewed() -> None:
    logged_in("first")
    inside, go, found = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        with logins.lent(spec(), lambda: False) as home:
            assert home
            inside.set()
            assert go.wait(30)
            (home / ".cli/login.json").write_text("second")

    def second() -> None:
        with logins.lent(spec(), lambda: False) as home:
            assert home
            found.append((home / ".cli/login.json").read_text())

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    with logins.lent(spec(), lambda: True) as home:  # who is interrupted while another one has it
        assert home is None
    assert not found
    go.set()
    [thread.join() for thread in threads]
    assert found == ["second"]
    with logins.lent(spec(), lambda: True) as home:  # the control: nobody has it
        assert home


def test_what_cannot_hold_an_agent_to_its_hosts_refuses_it() -> None:
    for sandbox in (Uid(), NoSandbox()):
        with pytest.raises(UserError, match=f"the sandbox {sandbox.name} cannot hold it to them: use --sandbox bubblewrap"):
            check_network(spec(), sandbox)
    check_network(spec(), Bubblewrap())


def test_budgets_that_nobody_could_keep_are_refused() -> None:
    task = Task(name="t", program="p", editable=["a"], metric={"name": "m"})
    check_budget(task, [spec()])
    for limits in ({"stop": Stop(cost_usd=1)}, {"budget": Budget(propose_usd=1)}, {"stop": Stop(quota_share=0.5)}):
        with pytest.raises(UserError, match="cannot be kept to: agent 'cli' goes past the gateway"):
            check_budget(task.model_copy(update=limits), [spec()])


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"hosts": ["1.2.3.4"]}, "'1.2.3.4' is not the full name of a host"),
        ({"hosts": ["localhost"]}, "'localhost' is not the full name of a host"),
        ({"hosts": ["*.example.com"]}, "is not the full name of a host"),
        ({"hosts": ["api.example.com:22"]}, "is not the full name of a host"),
        ({"hosts": []}, "wants to know which `hosts`"),
        ({"login": None}, "of which files the `login` consists"),
        ({"login": {"files": ["/etc/passwd"]}}, "is not a path below HOME"),
        ({"login": {"files": ["a/../../b"]}}, "is not a path below HOME"),
        ({"provider": {"api": "anthropic"}}, "leave `provider` out"),
        ({"env": {"URL": "{base_url}"}}, "{base_url} is the gateway's"),
        ({"network": "gateway"}, "belong to `network: provider`"),
    ],
)
def test_an_entry_cannot_mix_the_two_ways(fields: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError, match=r"network|hosts|login") as error:
        spec(**fields)
    assert wanted in str(error.value)


def test_login_starts_the_command_in_a_home_of_the_harness_and_its_state_is_told(lab: Lab) -> None:
    command = ["sh", "-c", 'mkdir -p "$HOME/.cli" && echo "$WHO" > "$HOME/.cli/login.json"']
    fields = {**FIELDS, "argv": ["sh", "-c", "true"], "login": {**FIELDS["login"], "command": command}, "env": {"WHO": "me"}}
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"cli: {json.dumps(fields)}\nhalf: {json.dumps({**fields, 'login': FIELDS['login']})}\n")
    assert "no login: run `harness agents login cli`" in lab.harness("agents").stdout
    refused = lab.harness("run", "--agent", "cli", "--tag", "t", code=1).stderr
    assert "agent 'cli' is not logged in: run `harness agents login cli`" in refused
    told = lab.harness("agents", "login", "cli").stderr
    assert "then try `harness agents check cli`" in told
    home = Path(lab.env["XDG_STATE_HOME"]) / "harness/logins/cli"
    assert (home / ".cli/login.json").read_text() == "me\n"
    assert not (Path(lab.env["HOME"]) / ".cli").exists()
    listed = lab.harness("agents").stdout
    assert "login of 20" in listed
    assert weaker(spec()) in listed
    assert "agent cli; weaker (network: provider)" in lab.harness("doctor").stdout
    assert "its entry names no `login.command`" in lab.harness("agents", "login", "half", code=1).stderr
    assert "it has none of its own (no key needed)" in lab.harness("agents", "login", "better", code=1).stderr
