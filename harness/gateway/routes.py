"""What may pass: a provider's model endpoints by method and exact path, a few headers each way, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.agentspec import Provider
from harness.gateway.answers import Refused

Kind = Literal["generate", "stream", "count", "list"]  # "generate" streams when the body asks for it
MODEL = r"(?P<model>[A-Za-z0-9][A-Za-z0-9._-]{0,100})"
URLS = {
    "anthropic": "https://api.anthropic.com",
    "openai-chat": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com",
}
LIST: tuple[str, str, Kind] = ("GET", r"(/v1)?(?P<path>/models)", "list")
ENDPOINTS: dict[str, list[tuple[str, str, Kind]]] = {
    "anthropic": [
        ("POST", r"(?P<path>/v1/messages)", "generate"),
        ("POST", r"(?P<path>/v1/messages/count_tokens)", "count"),
        ("GET", r"(?P<path>/v1/models)", "list"),
    ],
    "openai-chat": [("POST", r"(/v1)?(?P<path>/chat/completions)", "generate"), LIST],
    "openai-responses": [("POST", r"(/v1)?(?P<path>/responses)", "generate"), LIST],
    "gemini": [
        ("POST", rf"(?P<path>/v1(beta|alpha)?/models/{MODEL}:generateContent)", "generate"),
        ("POST", rf"(?P<path>/v1(beta|alpha)?/models/{MODEL}:streamGenerateContent)", "stream"),
        ("POST", rf"(?P<path>/v1(beta|alpha)?/models/{MODEL}:countTokens)", "count"),
        ("GET", r"(?P<path>/v1(beta|alpha)?/models)", "list"),
    ],
}
QUERY = {"alt": {"sse", "json"}, "beta": {"true"}}
UP = {
    "accept",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "content-type",
    "conversation_id",
    "idempotency-key",
    "openai-beta",
    "originator",
    "session_id",
    "user-agent",
    "x-app",
    "x-goog-api-client",
}
DOWN = {"content-type", "request-id", "retry-after", "x-request-id", "x-should-retry"}
LIMITS_DOWN = ("anthropic-ratelimit-", "x-ratelimit-")
CREDENTIALS = ("authorization", "x-api-key", "x-goog-api-key")


@dataclass(frozen=True)
class Route:
    """A request that may pass: where to, what it does, and the model when the path names it."""

    url: str
    kind: Kind
    path: str
    model: str = ""


def find(provider: Provider, method: str, target: str) -> Route:
    """The route of a request line. `target` is as it was sent: nothing is decoded or normalised, what is odd is refused."""
    path, _, query = target.partition("?")
    for allowed, pattern, kind in ENDPOINTS[provider.api]:
        if method == allowed and (found := re.fullmatch(pattern, path)):
            named = found.groupdict()
            return Route(base(provider) + named["path"] + _query(query), kind, named["path"], named.get("model") or "")
    raise Refused(403, f"{method} {printable(path)} is not one of the model endpoints that pass here")


def base(provider: Provider) -> str:
    """The provider's base URL without a trailing slash; Anthropic's and Google's without a version, which their paths have."""
    url = (provider.url or URLS[provider.api]).rstrip("/")
    return url if provider.api.startswith("openai") else re.sub(r"/v1(beta|alpha)?$", "", url)


def upward(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers that go to the provider, their names in lower case: no credential, no cookie, nothing about the connection."""
    kept: dict[str, str] = {}
    for name, value in ((name.lower(), value) for name, value in headers):
        if name in UP or name.startswith("x-stainless-"):
            kept[name] = f"{kept[name]},{value}" if name in kept else value
    return {**kept, "accept-encoding": "identity", **({"content-type": "application/json"} if "content-type" in kept else {})}


def downward(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that go back to the agent."""
    return [(name, value) for name, value in headers if name.lower() in DOWN or name.lower().startswith(LIMITS_DOWN)]


def presented(headers: Mapping[str, str], target: str) -> set[str]:
    """Every credential that a request shows, of whatever kind."""
    found = {headers[name].removeprefix("Bearer ").strip() for name in CREDENTIALS if name in headers}
    return found | set(re.findall(r"[?&]key=([^&]*)", target))


def printable(text: str) -> str:
    """What an agent wrote, short enough and harmless in a log."""
    return "".join(char if " " <= char <= "~" else "?" for char in text[:120])


def _query(query: str) -> str:
    pairs = [part.partition("=") for part in query.split("&")]
    kept = [f"{name}={value}" for name, _, value in pairs if value in QUERY.get(name, set())]
    return "?" + "&".join(kept) if kept else ""
