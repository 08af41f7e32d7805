"""A night with an agent that has an LLM provider: real sandbox, real gateway, a provider of ours on loopback."""

from __future__ import annotations

import json

import pytest
from conftest import Lab
from provider import Provider

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


def records(lab: Lab) -> list[dict[str, object]]:
    found = json.loads(lab.harness("log", "--tag", "t", "--json").stdout)
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
