"""A tiny agent of the Agent Client Protocol, for tests: well-behaved, or as its argument says. No package is needed."""

import json
import os
import sys
from pathlib import Path
from typing import Any

HOW = sys.argv[1]
FILE = Path("toy/solution.py")


def send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def read() -> Any:
    line = sys.stdin.readline()
    return json.loads(line) if line else sys.exit(3)


def ask(method: str, **params: Any) -> Any:
    send(id=f"mine-{method}", method=method, params={"sessionId": "s-1", **params})
    while (answer := read()).get("id") != f"mine-{method}":
        pass
    return answer


def update(kind: str, **fields: Any) -> None:
    send(method="session/update", params={"sessionId": "s-1", "update": {"sessionUpdate": kind, **fields}})


def say(text: str) -> None:
    update("agent_message_chunk", content={"type": "text", "text": text})


def edit() -> None:
    FILE.write_text(FILE.read_text().replace("X = 5.0", "X = 4.0"))


def turn(prompt: str) -> str:
    say("First I look around.")
    update("tool_call", toolCallId="1", title="read")
    if HOW == "hang":
        while read().get("method") != "session/cancel":
            pass
        say("I was told to stop.")
        return "cancelled"
    if HOW == "deaf":
        while True:
            say("la la la ")
    if HOW == "flood":
        sys.stdout.write('{"a": "' + "x" * (17 << 20))
        sys.stdout.flush()
    if HOW == "dies":
        sys.stderr.write("I cannot go on\n")
        sys.exit(7)
    if HOW == "asks":  # and never reads an answer
        while True:
            send(id=1, method="session/request_permission", params={"options": [{"kind": "allow_once", "optionId": "o" * 150}]})
    if HOW == "odd":
        for line in ("[]", "nonsense", "[" * 100_000, '"text"', '{"id": {"a": 1}, "method": 7}', '{"method": "session/update"}'):
            print(line, flush=True)
        update("agent_message_chunk", content=["no text"])
        print('{"id": "initialize", "result": 3}', flush=True)
    for method in ("fs/write_text_file", "fs/read_text_file"):
        answer = ask(method, path=os.environ["OUTSIDE"], content="stolen")
        assert answer["error"]["code"] == -32601, answer
    options = [{"kind": "reject_once", "optionId": "no"}, {"kind": "allow_once", "optionId": "yes"}]
    assert ask("session/request_permission", options=options)["result"]["outcome"] == {"outcome": "selected", "optionId": "yes"}
    assert ask("session/request_permission", options=options[:1])["result"]["outcome"] == {"outcome": "cancelled"}
    assert "number nobody tells you" in prompt
    if HOW != "refuses":
        edit()
        say("I moved X towards three.\n\n")
        say("Because it may help.")
    return "refusal" if HOW == "refuses" else "end_turn"


while True:
    message = read()
    method, params = message.get("method"), message.get("params", {})
    if method == "initialize":
        assert params["clientCapabilities"] == {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        send(id=message["id"], result={"protocolVersion": 1, "agentCapabilities": {}})
    elif method == "session/new" and HOW == "locked":
        send(id=message["id"], error={"code": -32000, "message": "401 unauthorized", "data": {"authMethods": []}})
    elif method == "session/new":
        assert params["cwd"] == str(Path.cwd())
        send(id=message["id"], result={"sessionId": "s-1"})
    elif method == "session/prompt":
        send(id=message["id"], result={"stopReason": turn(params["prompt"][0]["text"])})
