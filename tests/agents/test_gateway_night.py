"""A night with an agent that has an LLM provider: real sandbox, real gateway, a provider of ours on loopback."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from provider import Provider

from harness.models import AgentSpec, UserError
from harness.providers import check_network
from harness.sandboxes.bubblewrap import Bubblewrap
from harness.sandboxes.uid import Uid

SECRET = "sk-ant-api03-the-real-key-0123456789abcdef"
CALL = """\
import json, os, sys, urllib.error, urllib.request
def ask(text="hello", path="/v1/messages", **more):
    body = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}
    headers = {"Content-Type": "application/json", "x-api-key": os.environ["ANTHROPIC_API_KEY"]}
    request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
def better():
    text = open("toy/solution.py").read()
    old = float(text.split("X = ")[1].split()[0])
    open("toy/solution.py", "w").write(text.replace(f"X = {old}", f"X = {old - 0.5}"))
    os.makedirs("notes", exist_ok=True)
    open("notes/EXPERIMENT.md", "w").write("Nearer\\n\\nAsked a model.\\n")
"""


def entry(lab: Lab, name: str, script: str, url: str, **fields: object) -> None:
    """Add an agent that runs a Python script with a provider at `url`."""
    (lab.path / f"{name}.py").write_text(CALL + script)
    lab.git("add", f"{name}.py")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", name)
    spec = {
        "argv": ["{python}", f"{name}.py"],
        "model": "claude-haiku-4-5",
        "provider": {"api": "anthropic", "url": url, "key_env": "TEST_LLM_KEY"},
        "env": {"ANTHROPIC_BASE_URL": "{base_url}", "ANTHROPIC_API_KEY": "{key}"},
        **fields,
    }
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"{name}: {json.dumps(spec)}\n")


def text_of(lab: Lab, *args: str) -> str:
    """What a command prints, whether or not it succeeds."""
    return subprocess.run(lab.command(*args), cwd=lab.path, env=lab.env, capture_output=True, text=True, check=False).stdout


def records(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab.harness("log", "--tag", "t", "--json").stdout)
    return [record for record in found if record["experiment"]["id"] != "0000"]


def test_what_a_proposal_used_is_in_its_record_and_in_the_log(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    with Provider().serving() as provider:
        entry(lab, "asker", "print(ask()); print(ask(stream=True)); better()", provider.url)
        lab.harness("run", "--agent", "asker", "--tag", "t", "--experiments", "1")
    (record,) = records(lab)
    usage = record["proposal"]["usage"]
    assert usage["requests"] == 2
    assert (usage["input"], usage["cached"], usage["output"]) == (1600, 400, 100)
    assert usage["usd"] == pytest.approx((1600 * 1 + 400 * 0.1 + 100 * 5) / 1e6)
    assert usage["models"] == ["claude-haiku-4-5"]
    assert 0 < usage["first_s"] < 20
    assert {seen.headers["x-api-key"] for seen in provider.asked} == {SECRET}
    assert "0.0021 USD" in lab.harness("log", "--tag", "t").stdout
    assert "2 requests" in lab.harness("show", "1", "--tag", "t").stdout
    assert not list(lab.state.glob("gateway/t/*.sock"))


@pytest.mark.heavy
def test_the_budget_ends_a_night_with_a_sentence_and_goes_on_counting(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    with Provider().serving() as provider:
        entry(lab, "asker", "print(ask()); better()", provider.url)
        ran = lab.harness("run", "--agent", "asker", "--tag", "t", "--cost-usd", "0.003", "--experiments", "9")
        assert "stopped: the 0.003 USD of cost_usd are spent (0.00321 USD)" in ran.stderr
        again = lab.harness("resume", "--tag", "t")
        assert "are spent (0.00321 USD)" in again.stderr
        more = lab.harness("resume", "--tag", "t", "--cost-usd", "0.004")
        assert "are spent (0.00428 USD)" in more.stderr
    assert len(records(lab)) == 4
    assert len(provider.asked) == 4
    assert "0.0043 USD, 0.0011 USD a merged gain" in lab.harness("status", "--tag", "t").stdout


@pytest.mark.heavy
def test_a_proposal_that_spends_too_much_is_void_and_says_so(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_usd: 0.002, propose_s: 20")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a budget")
    with Provider().serving() as provider:
        entry(lab, "spender", "while (told := ask())[0] == 200: pass\nprint(told); sys.exit(1)", provider.url)
        lab.harness("run", "--agent", "spender", "--agent", "better", "--tag", "t", "--experiments", "1")
    first, second = records(lab)
    assert first["verdict"] == {**first["verdict"], "status": "void", "reason": "the experiment's budget of 0.002 USD is spent"}
    assert first["proposal"]["outcome"]["kind"] == "budget"
    assert first["proposal"]["usage"]["requests"] == 2
    assert second["verdict"]["status"] == "keep"


def test_a_fallback_proposes_while_a_quota_is_used_up(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    with Provider("quota").serving() as provider:
        entry(lab, "asker", "print(ask()); sys.exit(1)", provider.url)
        lab.harness("run", "--agent", "asker", "--fallback", "better", "--tag", "t", "--experiments", "2")
    found = [(record["experiment"]["agent"], record["verdict"]["status"]) for record in records(lab)]
    assert found == [("asker", "void"), ("better", "keep"), ("better", "keep")]
    assert records(lab)[0]["proposal"]["outcome"]["kind"] == "quota"
    assert len(provider.asked) == 1


@pytest.mark.heavy
@pytest.mark.parametrize(("behaviour", "kind"), [("quota", "quota"), ("auth", "auth")])
def test_an_agent_that_tries_for_ever_is_ended_when_its_provider_will_not_answer(lab: Lab, behaviour: Any, kind: str) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 900")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "time to propose")
    with Provider(behaviour).serving() as provider:
        entry(lab, "asker", "import time\nwhile True: print(ask()); time.sleep(0.5)", provider.url)
        lab.harness("run", "--agent", "asker", "--fallback", "better", "--tag", "t", "--experiments", "1")
    first, second = records(lab)
    assert (first["proposal"]["outcome"]["kind"], first["verdict"]["status"]) == (kind, "void")
    assert (second["experiment"]["agent"], second["verdict"]["status"]) == ("better", "keep")


@pytest.mark.heavy
def test_without_a_fallback_a_night_waits_for_the_reset_and_says_so(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    with Provider("quota", reset_s=5000).serving() as provider:
        entry(lab, "asker", "print(ask()); sys.exit(1)", provider.url)
        night = lab.start("run", "--agent", "asker", "--tag", "t", "--experiments", "2")
        try:
            end = time.monotonic() + 60
            while "waiting for asker" not in (told := text_of(lab, "status", "--tag", "t")):
                assert time.monotonic() < end, told
        finally:
            night.send_signal(signal.SIGINT)
            assert night.wait(30) == 130
    assert "quota exceeded, the subscription's present one is used up" in told
    left = re.search(r"(\d+) s left", told)
    assert left
    assert 4000 < int(left[1]) < 5001


@pytest.mark.heavy
def test_a_night_ends_when_nobody_knows_when_a_quota_comes_back(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    with Provider("quota").serving() as provider:
        call = "print(ask(path='/v1/chat/completions')); sys.exit(1)"
        entry(
            lab,
            "asker",
            call,
            provider.url,
            provider={"api": "openai-chat", "url": f"{provider.url}/v1", "key_env": "TEST_LLM_KEY"},
        )
        ran = lab.harness("run", "--agent", "asker", "--tag", "t", "--experiments", "2")
    assert "no agent can work: asker: quota exceeded, the account's is used up (insufficient_quota)" in ran.stderr


def test_what_is_wrong_is_said_before_the_night(lab: Lab) -> None:
    entry(lab, "asker", "", "http://127.0.0.1:9")
    told = lab.harness("run", "--agent", "asker", "--tag", "t", code=1).stderr
    assert "agent 'asker' needs a key: set TEST_LLM_KEY in the environment" in told
    assert "Traceback" not in told
    lab.env["TEST_LLM_KEY"] = SECRET
    entry(lab, "dear", "", "http://127.0.0.1:9", model="nobody-knows-1")
    told = lab.harness("run", "--agent", "dear", "--tag", "t", "--cost-usd", "5", code=1).stderr
    assert "stop.cost_usd cannot be kept to: nobody knows what the model 'nobody-knows-1' of agent 'dear' costs" in told
    assert lab.git("for-each-ref", "refs/experiments/") == ""


def test_a_sandbox_without_any_network_refuses_such_agents() -> None:
    told = "a command in the sandbox uid can reach nothing: use --sandbox bubblewrap or --sandbox none"
    spec = AgentSpec(name="asker", argv=["x"], provider={"api": "anthropic"})
    with pytest.raises(UserError, match=told):
        check_network(spec, Uid())
    check_network(spec, Bubblewrap())


@pytest.mark.heavy
def test_without_a_sandbox_a_line_is_on_the_hosts_loopback(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    with Provider().serving() as provider:
        entry(lab, "asker", "print(ask()); better()", provider.url)
        lab.harness("run", "--agent", "asker", "--tag", "t", "--experiments", "1", "--sandbox", "none")
    (record,) = records(lab)
    assert record["proposal"]["usage"]["requests"] == 1


def gateway_of(night: subprocess.Popen[bytes]) -> int:
    """The process id of a night's gateway, once it is there."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        listing = subprocess.run(
            ["ps", "--ppid", str(night.pid), "-o", "pid=,args="], capture_output=True, text=True, check=False
        )
        for line in listing.stdout.splitlines():
            if "harness.gateway" in line:
                return int(line.split()[0])
        time.sleep(0.05)
    raise AssertionError("no gateway")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.heavy
def test_a_night_survives_its_gateway(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    with Provider().serving() as provider:
        script = "import time\nprint(ask('first'))\ntime.sleep(3)\nprint(ask('second')); better()"
        entry(lab, "asker", script, provider.url)
        night = lab.start("run", "--agent", "asker", "--tag", "t", "--experiments", "1")
        end = time.monotonic() + 60
        while not provider.asked:
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(gateway_of(night), signal.SIGKILL)
        assert night.wait(60) == 0
    (record,) = records(lab)
    assert record["verdict"]["status"] == "keep"
    assert len(provider.asked) == 2


@pytest.mark.heavy
def test_a_killed_night_takes_its_gateway_along_and_remembers_what_it_spent(lab: Lab) -> None:
    lab.env["TEST_LLM_KEY"] = SECRET
    with Provider().serving() as provider:
        entry(lab, "asker", "import time\nprint(ask())\nif not os.path.exists('/nowhere'): time.sleep(4)\nbetter()", provider.url)
        night = lab.start("run", "--agent", "asker", "--tag", "t", "--experiments", "1")
        end = time.monotonic() + 60
        while not list(lab.path.parent.glob("state/harness/*/gateway/t/0001.json")):
            assert time.monotonic() < end
            time.sleep(0.02)
        gateway = gateway_of(night)
        night.kill()
        night.wait()
        while alive(gateway):
            assert time.monotonic() < end
            time.sleep(0.02)
        lab.harness("resume", "--tag", "t")
    (record,) = records(lab)
    assert record["proposal"]["usage"]["requests"] == 2
    assert not lab.strays()
    assert not list(lab.state.glob("gateway/t/*.sock"))


@pytest.mark.parametrize("protected", [True, False], ids=["gateway", "control"])
def test_no_byte_that_an_agent_can_read_holds_the_key(lab: Lab, protected: bool) -> None:
    secret = SECRET if protected else SECRET.removeprefix("sk-")  # what looks like a key is refused in agents.yaml
    lab.env["TEST_LLM_KEY"] = secret
    hidden, since = base64.b64encode(secret.encode()).decode()[::-1], time.time() - 1
    script = Path(__file__).with_name("hunt.py").read_text()
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 200")  # it reads a lot
    with Provider("auth").serving() as provider:
        url = {"ANTHROPIC_BASE_URL": "{base_url}" if protected else provider.url}
        key = "{key}" if protected else secret
        argv = ["{python}", "hunter.py", hidden, str(since)]
        entry(lab, "hunter", script, provider.url, env={**url, "ANTHROPIC_API_KEY": key}, argv=argv)
        lab.harness("run", "--agent", "hunter", "--tag", "t", "--experiments", "1")
    (record,) = records(lab)
    said = record["proposal"]["hypothesis"]
    assert int(re.search(r"in (\d+) files", said)[1]) > 5, said
    if protected:
        assert "found []" in said
        assert provider.asked[0].headers["x-api-key"] == SECRET
    else:
        assert "my environment" in said
    stored = subprocess.run(["grep", "-rl", SECRET, str(lab.state)], capture_output=True, text=True, check=False).stdout
    assert not protected or not stored
