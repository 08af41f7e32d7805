"""A scripted LLM provider on loopback: the four protocols, streamed or whole, behaving well or badly. No account, no network.

python tests/agents/provider.py rate_limited_once        prints its address and serves until it is killed
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, get_args

from moves import Change, move
from wire import Protocol, protocol

Behaviour = Literal[
    "success",  # reads the file, changes it with the CLI's own tool, says so
    "rename",  # changes it in a shell, by a new file renamed over it; with the CLI's own tool where there is no shell
    "other",  # changes a file that it may not change
    "idle",  # changes nothing and says why
    "auth",  # 401 for every request
    "quota",  # a used up subscription or account; with anthropic-ratelimit-unified-* headers where they belong
    "rate_limited",  # 429 for every request
    "rate_limited_once",  # 429 for the first
    "overloaded",  # 529 for every request (503 where a protocol knows no 529)
    "context",  # 400: the prompt is too long
    "dropped",  # the connection is gone in the middle of every answer
    "hang",  # no request is ever answered
]

STATUS = {"auth": 401, "quota": 429, "rate_limited": 429, "overloaded": 529, "context": 400}
ANTHROPIC = {
    "auth": ("authentication_error", "invalid x-api-key"),
    "quota": ("rate_limit_error", "You have hit your limit"),
    "rate_limited": ("rate_limit_error", "This request would exceed your rate limit"),
    "overloaded": ("overloaded_error", "Overloaded"),
    "context": ("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
}
GEMINI = {
    "auth": ("UNAUTHENTICATED", "API key not valid. Please pass a valid API key."),
    "quota": ("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."),
    "rate_limited": ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "overloaded": ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    "context": ("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
}
OPENAI = {
    "auth": ("invalid_api_key", "Incorrect API key provided"),
    "quota": ("insufficient_quota", "You exceeded your current quota, please check your plan and billing details"),
    "rate_limited": ("rate_limit_exceeded", "Rate limit reached"),
    "overloaded": ("server_error", "The server is overloaded"),
    "context": ("context_length_exceeded", "This model's maximum context length is 8 tokens"),
}


@dataclass(frozen=True)
class Seen:
    """One request as it arrived. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


class Provider:
    """The server, in a thread of its own. `url` is its address without /v1; `seen` what arrived, `asked` the model requests."""

    def __init__(
        self,
        behaviour: Behaviour = "success",
        change: Change | None = None,
        other: Change | None = None,
        retry_after: float = 1.0,
        reset_s: float = 3600.0,
        address: str = "",
        certificate: Path | None = None,
    ) -> None:
        """Listen on a free port. `change` is the edit, `other` the one of the behaviour that edits another file.

        With an `address`, listen there on 443, with TLS by a `certificate`.
        """
        self.behaviour, self.retry_after, self.reset_s = behaviour, retry_after, reset_s
        self.change = change or Change()
        self.other = other or Change("toy/evaluate.py", "x - 3", "x - x")
        self.seen: list[Seen] = []
        self.refreshed: list[str] = ["first"]  # the refresh tokens of a login, of which only the last one is good
        self.lock, self.over = threading.Lock(), threading.Event()
        self._server = _Server((address, 443) if address else ("127.0.0.1", 0), _Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.provider = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[Seen]:
        """The requests that asked a model."""
        return [each for each in self.seen if protocol(each.path.partition("?")[0])]

    @property
    def texts(self) -> list[str]:
        """What each model request said, as text."""
        return [json.dumps(each.body) for each in self.asked]

    @contextmanager
    def serving(self) -> Iterator[Provider]:
        """Serve until the end of the context."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def work(self) -> Change | None:
        """The change that the model is about to make."""
        return None if self.behaviour == "idle" else self.other if self.behaviour == "other" else self.change

    def failing(self) -> str | None:
        """The kind of error that a model request gets now; None for an answer."""
        if self.behaviour == "rate_limited_once":
            return "rate_limited" if len(self.asked) == 1 else None
        return self.behaviour if self.behaviour in STATUS else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    provider: Provider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed drops its connections: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def provider(self) -> Provider:
        return self.server.provider  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(200, {})

    def do_GET(self) -> None:
        self.note({})
        self.answer(200, {"object": "list", "data": [], "models": []})

    def do_POST(self) -> None:
        raw = self._body()
        try:
            body = json.loads(raw)
        except ValueError:
            body = {}
        with self.provider.lock:
            self.note(body)
            failing = self.provider.failing()
        path = self.path.partition("?")[0]
        spoken = protocol(path)
        if path.endswith("/oauth/token"):
            self.renew(str(body.get("refresh_token")))
        elif path.endswith(("/count_tokens", ":countTokens")):
            self.answer(200, {"input_tokens": len(raw) // 4, "totalTokens": len(raw) // 4})
        elif spoken is None:
            self.answer(404, {"error": {"message": f"there is no {self.path} here"}})
        elif self.provider.behaviour == "hang":
            self.provider.over.wait()
            self.close_connection = True
        elif failing:
            self.refuse(spoken, failing)
        else:
            self.reply(spoken, body, "stream" in path or body.get("stream") is True)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def note(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.provider.seen.append(Seen(self.command, self.path, headers, body, time.monotonic()))

    def refuse(self, spoken: Protocol, kind: str) -> None:
        status = STATUS[kind]
        if status == 529 and spoken.name != "anthropic":
            status = 503
        what, message = {"anthropic": ANTHROPIC, "gemini": GEMINI}.get(spoken.name, OPENAI)[kind]
        headers = {"retry-after": f"{self.provider.retry_after:g}"} if status in (429, 503, 529) else {}
        if kind == "quota" and spoken.name == "anthropic":
            reset = str(int(time.time() + self.provider.reset_s))
            headers |= {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": reset}
        self.answer(status, spoken.error(status, what, message), headers)

    def renew(self, shown: str) -> None:
        """Trade a refresh token for the next one, once; what it gives access with is over in a minute."""
        if shown != self.provider.refreshed[-1]:
            self.answer(400, {"error": "invalid_grant", "error_description": "the refresh token was used before"})
            return
        self.provider.refreshed.append(f"renewed-{len(self.provider.refreshed)}")
        told = {"access_token": f"access-{len(self.provider.refreshed)}", "refresh_token": self.provider.refreshed[-1]}
        self.answer(200, {**told, "expires_in": 60, "token_type": "Bearer", "scope": "user:inference user:profile"})

    def reply(self, spoken: Protocol, body: dict[str, Any], stream: bool) -> None:
        provider = self.provider
        made = move(spoken.turn(body), provider.work(), provider.behaviour == "rename")
        model = str(body.get("model", "")) or self.path.rpartition("/")[2].partition(":")[0]
        dropped = provider.behaviour == "dropped"
        if not stream:
            self.answer(200, spoken.whole(made, model), cut=dropped)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for index, (name, event) in enumerate(spoken.events(made, model, body)):
            data = event if isinstance(event, str) else json.dumps(event)
            sent = ((f"event: {name}\n" if name else "") + f"data: {data}\n\n").encode()
            cut = dropped and (index == 1 or spoken.name == "gemini")
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent[: len(sent) // 2] if cut else sent))
            if cut:
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None, cut: bool = False) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut


if __name__ == "__main__":
    asked = sys.argv[1] if sys.argv[1:] else "success"
    assert asked in get_args(Behaviour), f"choose one of: {', '.join(get_args(Behaviour))}"
    with Provider(asked).serving() as server:  # type: ignore[arg-type]
        print(server.url, flush=True)
        threading.Event().wait()
