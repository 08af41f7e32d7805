"""A gateway for tests, and a client that sends exactly what it is told."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.gateway.client import Gateway
from harness.models import AgentSpec, Budget, Stop
from harness.protocols import Line

SECRET = "sk-real-0123456789abcdefghij"
VARIABLE = "GATEWAY_TEST_KEY"
PATHS = {
    "anthropic": ("/v1/messages", "/v1/messages"),
    "openai-chat": ("/v1/chat/completions", "/v1/chat/completions"),
    "openai-responses": ("/v1/responses", "/v1/responses"),
    "gemini": ("/v1beta/models/M:generateContent", "/v1beta/models/M:streamGenerateContent?alt=sse"),
}
MODELS = {"anthropic": "claude-haiku-4-5", "openai-chat": "gpt-5", "openai-responses": "gpt-5", "gemini": "gemini-2.5-pro"}


def agent(api: str, url: str, name: str = "", **provider: Any) -> AgentSpec:
    """An entry of agents.yaml with a provider at `url`."""
    base = f"{url}/v1" if api.startswith("openai") else url
    fields = {"api": api, "url": base, "key_env": VARIABLE, **provider}
    return AgentSpec.model_validate({"name": name or api, "argv": ["true"], "provider": fields})


@contextmanager
def gateway(
    folder: Path, *specs: AgentSpec, network: str = "own", known: Mapping[str, Any] | None = None, **limits: Any
) -> Iterator[Gateway]:
    """A gateway at work for `specs`, whose key is SECRET unless they say otherwise."""
    os.environ[VARIABLE] = SECRET
    try:
        stop = Stop(cost_usd=limits.get("cost_usd"), quota_share=limits.get("quota_share"))
        budget = Budget(propose_usd=limits.get("propose_usd"))
        made = Gateway(folder / "gateway", folder / "gateway.log", list(specs), stop, budget, known or {}, network)  # type: ignore[arg-type]
        with made:
            yield made
    finally:
        os.environ.pop(VARIABLE, None)


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)


class Connection(http.client.HTTPConnection):
    """Over the line's socket, at a path of any length."""

    def __init__(self, line: Line) -> None:
        """Nothing is sent yet."""
        super().__init__("127.0.0.1", timeout=30)
        self.line = line

    def connect(self) -> None:
        self.sock = connect(self.line)


def connect(line: Line) -> socket.socket:
    """A connection to the line."""
    if line.socket is None:
        return socket.create_connection(("127.0.0.1", int(line.url.rpartition(":")[2])), timeout=30)
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(30)
    folder = os.open(line.socket.parent, os.O_PATH)
    try:
        found.connect(f"/proc/self/fd/{folder}/{line.socket.name}")
    finally:
        os.close(folder)
    return found


def send(line: Line, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str = "POST") -> Reply:
    """One request."""
    connection = Connection(line)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def ask(line: Line, api: str, stream: bool = False, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """A model request in one of the protocols."""
    model = more.pop("model", MODELS[api])
    talk = [{"role": "user", "content": "hello"}]
    body: dict[str, Any] = {"anthropic": {"max_tokens": 100, "messages": talk}, "openai-chat": {"messages": talk}}.get(
        api, {"input": talk} if api == "openai-responses" else {"contents": [{"parts": [{"text": "hello"}]}]}
    )
    if api != "gemini":
        body = {"model": model, "stream": stream, **body}
    return send(
        line, PATHS[api][stream].replace("M", model, 1) if api == "gemini" else PATHS[api][stream], {**body, **more}, headers
    )


def raw(line: Line, data: bytes) -> bytes:
    """Bytes as they are, and what comes back until the other side hangs up or has nothing more to say."""
    with connect(line) as found:
        said = b""
        try:
            found.sendall(data)
            while part := found.recv(65536):
                said += part
                found.settimeout(0.5)
        except (ConnectionError, TimeoutError):
            pass
        return said
