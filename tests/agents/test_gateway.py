"""What passes the gateway, what does not, and that no trick changes that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gateways import MODELS, SECRET, agent, ask, gateway, raw, send
from provider import Provider

from harness.gateway.client import Gateway
from harness.models import UserError
from harness.protocols import Line

APIS = list(MODELS)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Provider]]:
    """A gateway with an agent for each protocol, all at a well-behaved provider."""
    with Provider().serving() as provider:
        specs = [agent(api, provider.url) for api in APIS]
        searching = agent("anthropic", provider.url, "searching", web="search")
        with gateway(tmp_path_factory.mktemp("gateway"), *specs, searching) as made:
            yield made, provider


@pytest.fixture
def line(scene: tuple[Gateway, Provider]) -> Iterator[Line]:
    """A line for the Anthropic protocol; the provider has seen nothing yet."""
    made, provider = scene
    provider.seen.clear()
    with made.line("0001", "anthropic") as opened:
        assert opened
        yield opened


@pytest.mark.parametrize("api", APIS)
def test_what_is_counted_is_what_the_provider_told(scene: tuple[Gateway, Provider], api: str) -> None:
    made, provider = scene
    provider.seen.clear()
    with made.line(f"count-{api}", api) as opened:
        assert opened
        whole, streamed = ask(opened, api), ask(opened, api, stream=True)
    assert (whole.status, streamed.status) == (200, 200)
    assert b"1050" in whole.body or b"1000" in whole.body or b'"output_tokens": 50' in whole.body
    usage = made.usage(f"count-{api}")
    assert usage
    assert (usage.requests, usage.input, usage.cached, usage.output, usage.estimated) == (2, 1600, 400, 100, 0)
    assert usage.models == [MODELS[api]]
    assert usage.usd
    assert SECRET in json.dumps([seen.headers for seen in provider.asked])


def test_a_stream_of_openai_tells_its_usage_only_to_whoever_asked_for_it(scene: tuple[Gateway, Provider]) -> None:
    made, provider = scene
    with made.line("0001", "openai-chat") as opened:
        assert opened
        quiet = ask(opened, "openai-chat", stream=True)
        asked = ask(opened, "openai-chat", stream=True, stream_options={"include_usage": True})
    assert b"prompt_tokens" not in quiet.body
    assert b"prompt_tokens" in asked.body
    assert provider.asked[-2].body["stream_options"] == {"include_usage": True}


def test_own_credentials_and_cookies_stay_inside(line: Line, scene: tuple[Gateway, Provider]) -> None:
    own = {"x-api-key": "own", "Authorization": "Bearer own", "x-goog-api-key": "own", "Cookie": "own=1", "X-Other": "own"}
    own |= {"OpenAI-Organization": "own", "Host": "evil.example", "Proxy-Authorization": "own", "X-Forwarded-For": "own"}
    assert ask(line, "anthropic", headers={**own, "anthropic-version": "2023-06-01", "User-Agent": "cli/1"}).status == 200
    (seen,) = scene[1].asked
    assert "own" not in json.dumps(seen.headers)
    assert "evil" not in json.dumps(seen.headers)
    assert seen.headers["x-api-key"] == SECRET
    assert (seen.headers["anthropic-version"], seen.headers["user-agent"]) == ("2023-06-01", "cli/1")


def test_a_key_in_the_query_stays_inside(scene: tuple[Gateway, Provider]) -> None:
    made, provider = scene
    with made.line("0001", "gemini") as opened:
        assert opened
        path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?key=own&alt=sse&uploadType=media"
        assert send(opened, path, {"contents": []}).status == 200
    assert provider.seen[-1].path.endswith(":streamGenerateContent?alt=sse")


TARGETS = [
    ("POST", "/v1/files"),
    ("POST", "/v1/messages/batches"),
    ("POST", "/v1/messages/../files"),
    ("POST", "/v1/messages/%2e%2e/files"),
    ("POST", "/v1/messages%2f..%2ffiles"),
    ("POST", "/v1//messages"),
    ("POST", "//v1/messages"),
    ("POST", "/v1/messages/"),
    ("POST", "/v1/messages;/files"),
    ("POST", "/v1/messages\\..\\files"),
    ("POST", "/V1/MESSAGES"),
    ("POST", "/v1/complete"),
    ("POST", "/v1/chat/completions"),
    ("POST", "http://evil.example/v1/messages"),
    ("POST", "http://127.0.0.1/v1/messages"),
    ("GET", "/v1/messages"),
    ("DELETE", "/v1/models"),
    ("PUT", "/v1/messages"),
    ("OPTIONS", "*"),
    ("GET", "/"),
    ("POST", "/v1beta/models/../../v1/files:generateContent"),
]


@pytest.mark.parametrize(("method", "target"), TARGETS)
def test_only_model_endpoints_pass(line: Line, scene: tuple[Gateway, Provider], method: str, target: str) -> None:
    said = raw(line, f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
    assert said.split()[1] in (b"403", b"400")
    assert scene[1].seen == []


def test_the_control_of_all_that_an_allowed_endpoint_passes_raw(line: Line, scene: tuple[Gateway, Provider]) -> None:
    said = raw(line, b'POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"messages":[]}')
    assert said.split()[1] == b"200"
    assert len(scene[1].seen) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Huge: " + b"a" * 100_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n[",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["connect", "websocket", "huge-header", "compressed", "no-json", "deep-json", "tls"],
)
def test_odd_requests_are_refused(line: Line, scene: tuple[Gateway, Provider], head: bytes) -> None:
    said = raw(line, head)
    assert said[:5] in (b"", b"HTTP/")
    assert b" 200 " not in said.partition(b"\r\n")[0]
    assert b" 101 " not in said.partition(b"\r\n")[0]
    assert scene[1].seen == []


@pytest.mark.parametrize("order", ["TE first", "CL first"])
def test_no_second_request_is_smuggled_in_a_body(line: Line, scene: tuple[Gateway, Provider], order: str) -> None:
    inner = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nx-api-key: own\r\nContent-Length: 2\r\n\r\n{}"
    lengths = [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 4\r\n"]
    head = b"".join(lengths if order == "TE first" else reversed(lengths))
    raw(line, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n" + head + b'\r\nf\r\n{"messages":[]}\r\n0\r\n\r\n' + inner)
    assert [seen.path for seen in scene[1].seen if seen.path != "/v1/messages"] == []


def test_a_request_of_unbearable_size_is_refused(line: Line, scene: tuple[Gateway, Provider]) -> None:
    body = json.dumps({"model": "claude-haiku-4-5", "messages": ["x" * (33 << 20)]}).encode()
    said = raw(line, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert not said or said.split()[1] == b"413"
    assert scene[1].seen == []
    assert ask(line, "anthropic", metadata={"user_id": "x" * (1 << 20)}).status == 200


WAYS_OUT: list[tuple[str, dict[str, Any]]] = [
    ("anthropic", {"mcp_servers": [{"type": "url", "url": "https://evil.example", "name": "x"}]}),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://e"}}]}]}),
    ("openai-chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://e"}}]}]}),
    ("openai-chat", {"model": "gpt-4o-search-preview"}),
    ("openai-responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "http://e"}]}]}),
    ("openai-responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://e"}]}]}),
    ("openai-responses", {"background": True}),
    ("openai-responses", {"prompt": {"id": "pmpt_1"}}),
    ("gemini", {"contents": [{"parts": [{"fileData": {"fileUri": "https://evil.example/x"}}]}]}),
]


@pytest.mark.parametrize(("api", "more"), WAYS_OUT)
def test_the_provider_is_no_way_out(scene: tuple[Gateway, Provider], api: str, more: dict[str, Any]) -> None:
    made, provider = scene
    with made.line("0001", api) as opened:
        assert opened
        provider.seen.clear()
        refused = ask(opened, api, **more)
        assert refused.status == 403
        assert "harness gateway" in refused.body.decode()
        assert provider.seen == []


def test_tools_that_run_at_the_provider_are_taken_out(scene: tuple[Gateway, Provider]) -> None:
    made, provider = scene
    mine = {"name": "bash", "input_schema": {"type": "object", "properties": {"image_url": {"type": "string"}}}}
    tools = [mine, {"type": "web_search_20250305", "name": "web_search"}, {"type": "web_fetch_20250910", "name": "web_fetch"}]
    sent = {}
    for name in ("anthropic", "searching"):
        with made.line("0001", name) as opened:
            assert opened
            assert ask(opened, "anthropic", tools=tools).status == 200
            sent[name] = provider.asked[-1].body["tools"]
    assert sent == {"anthropic": [mine], "searching": tools[:2]}
    google = [{"functionDeclarations": [], "googleSearch": {}}, {"urlContext": {}}]
    with made.line("0001", "gemini") as opened:
        assert opened
        ask(opened, "gemini", tools=google)
    assert provider.asked[-1].body["tools"] == [{"functionDeclarations": []}]


def test_an_agents_own_tool_calls_may_speak_of_urls(line: Line) -> None:
    call = {
        "type": "tool_use",
        "id": "1",
        "name": "fetch",
        "input": {"image_url": "http://x", "source": {"type": "url", "url": "u"}},
    }
    assert ask(line, "anthropic", messages=[{"role": "assistant", "content": [call]}]).status == 200


def test_a_key_twice_in_a_body_is_read_as_the_provider_reads_it(line: Line, scene: tuple[Gateway, Provider]) -> None:
    tool = b'{"type":"web_fetch_20250910","name":"web_fetch"}'
    body = b'{"model":"claude-haiku-4-5","messages":[],"tools":[' + tool + b'],"tools":[]}'
    assert send(line, "/v1/messages", body).status == 200
    assert "tools" not in scene[1].asked[-1].body


def test_many_streams_at_once(scene: tuple[Gateway, Provider]) -> None:
    made, _ = scene
    with made.line("many", "anthropic") as opened, ThreadPoolExecutor(30) as pool:
        assert opened
        answers = list(pool.map(lambda _: ask(opened, "anthropic", stream=True), range(30)))
    assert {(answer.status, b"message_stop" in answer.body) for answer in answers} == {(200, True)}
    usage = made.usage("many")
    assert usage
    assert (usage.requests, usage.output, usage.estimated) == (30, 1500, 0)


def test_the_log_holds_no_key_and_nothing_of_what_was_said(line: Line, scene: tuple[Gateway, Provider]) -> None:
    ask(line, "anthropic", headers={"x-api-key": "own-key"}, system="a-secret-thought")
    send(line, "/v1/files?key=own-key")
    log = scene[0].log.read_text()
    last = [json.loads(text) for text in log.splitlines()][-2:]
    assert [(each["path"], each["status"]) for each in last] == [("/v1/messages", 200), ("/v1/files", 403)]
    assert last[0]["output"] == 50
    assert not any(word in log for word in (SECRET, "own-key", "a-secret-thought"))
    assert scene[0].log.stat().st_mode & 0o777 == 0o600


def test_on_the_hosts_loopback_a_line_has_a_key_of_its_own(tmp_path: Path) -> None:
    with Provider().serving() as provider, gateway(tmp_path, agent("anthropic", provider.url), network="host") as made:
        with made.line("0001", "anthropic") as opened:
            assert opened
            assert opened.socket is None
            assert ask(opened, "anthropic").status == 401
            assert ask(opened, "anthropic", headers={"x-api-key": "harness"}).status == 401
            assert ask(opened, "anthropic", headers={"x-api-key": opened.key}).status == 200
        assert opened.key not in (SECRET, "harness")
    assert len(provider.asked) == 1


class Parrot(BaseHTTPRequestHandler):
    """A provider that repeats what it is shown, and tries to lead elsewhere."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said = json.dumps({"error": {"message": str(self.headers)}}).encode()
        self.send_response(302 if "redirect" in str(self.headers["User-Agent"]) else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.send_header("Location", "http://127.0.0.1:9/v1/files")
        self.send_header("Set-Cookie", f"key={SECRET}")
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def test_a_provider_cannot_give_the_key_away_or_lead_elsewhere(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Parrot)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        with gateway(tmp_path, agent("anthropic", f"http://127.0.0.1:{server.server_address[1]}")) as made:
            with made.line("0001", "anthropic") as opened:
                assert opened
                told = ask(opened, "anthropic")
                led = ask(opened, "anthropic", headers={"User-Agent": "redirect"})
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert told.status == 400
    assert "[the key]" in told.body.decode()
    assert SECRET not in told.body.decode() + str(told.headers)
    assert led.status == 502
    assert "redirect" in led.body.decode()
    assert "location" not in led.headers


def test_a_missing_key_is_said_before_the_night(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"agent 'anthropic' needs a key: set SOME_KEY or OTHER_KEY"):
        with gateway(tmp_path, agent("anthropic", "http://127.0.0.1:9", key_env=["SOME_KEY", "OTHER_KEY"])):
            pass
    with pytest.raises(UserError, match=r"`sh -c exit 3`, failed with exit code 3"):
        with gateway(tmp_path, agent("anthropic", "http://127.0.0.1:9", key_env=[], key_cmd=["sh", "-c", "exit 3"])):
            pass
