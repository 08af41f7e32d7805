"""What a request asks of the provider. A model may be talked to; the internet behind it is open only as far as `web` says.

Providers fetch URLs, run remote tools and search the web for whoever asks in a request's body: ways out of the sandbox that
no path allow-list closes. Tools of that kind are taken out of a request, the rest is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.gateway.answers import Refused
from harness.gateway.routes import Kind

LOCAL_TOOLS = re.compile(  # those that the agent runs by itself, in its sandbox
    r"|custom|function|local_shell|shell|apply_patch|namespace|tool_search|(bash|text_editor|memory|computer|tool_search_tool)_\w+"
)
SEARCH_TOOLS = re.compile(r"web_search(_\w+)?")
GOOGLE_LOCAL = {"functionDeclarations", "function_declarations"}
GOOGLE_SEARCH = {"googleSearch", "google_search"}
REMOTE = ("mcp_servers", "prompt", "background", "container", "conversation")  # other people's servers; work that goes on unseen
DROPPED = ("plugins", "speed", "web_search_options")  # a router's web search; a price of its own
OWN = {"tools", "functionCall", "function_call", "response"}  # what the agent's own tools are, were asked and answered
SEARCHING = re.compile(r"search|deep-research|:online")
OUTPUT_TOKENS = 32_000  # how long an answer may become when a request does not say


@dataclass(frozen=True)
class Asked:
    """A request's body as it goes to the provider, the model it names, and whether the answer is a stream.

    `output` is the most tokens that it may answer. `added` says that the stream was made to tell its usage.
    """

    body: bytes
    model: str
    stream: bool
    output: int
    added: bool = False


def inspect(api: str, kind: Kind, model: str, raw: bytes, web: str) -> Asked:
    """The request as it may pass, or Refused. It is written anew, so that what was looked at is what the provider reads."""
    try:
        asked = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(400, "the request is not JSON") from None
    if not isinstance(asked, dict):
        raise Refused(400, "the request is not a JSON object")
    model = model or str(asked.get("model") or "")
    if web == "off" and SEARCHING.search(model):
        raise Refused(403, f"the model {model[:100]} searches the web, which is off here")
    if found := next((name for name in REMOTE if asked.get(name)), None):
        raise Refused(403, f"{found} may not be used here")
    _without_tools(api, asked, web)
    if url := next(_remote(asked), None):
        raise Refused(403, f"the provider may not fetch {url[:100]} for you: send the content itself")
    stream = kind == "stream" or (api != "gemini" and asked.get("stream") is True)
    added = api == "openai-chat" and stream and not (asked.get("stream_options") or {}).get("include_usage")
    if added:
        asked["stream_options"] = {**(asked.get("stream_options") or {}), "include_usage": True}
    return Asked(json.dumps(asked).encode(), model, stream, _output(asked), added)


def without_usage(asked: Asked) -> Asked:
    """The same request for a provider that does not know `stream_options`."""
    body = json.loads(asked.body)
    del body["stream_options"]
    return Asked(json.dumps(body).encode(), asked.model, asked.stream, asked.output)


def _without_tools(api: str, asked: dict[str, Any], web: str) -> None:
    """Take out the tools that would run at the provider."""
    for name in DROPPED:
        if name != "web_search_options" or web == "off":
            asked.pop(name, None)
    if asked.get("service_tier") in ("priority", "fast"):
        del asked["service_tier"]  # costs a multiple of the list price
    tools = asked.get("tools")
    if not isinstance(tools, list):
        asked.pop("tools", None)
        return
    asked["tools"] = [kept for tool in tools if isinstance(tool, dict) and (kept := _tool(api, tool, web))]
    if not asked["tools"]:
        del asked["tools"]
        if api != "gemini":
            asked.pop("tool_choice", None)


def _tool(api: str, tool: dict[str, Any], web: str) -> dict[str, Any] | None:
    """A tool as it may pass, or None."""
    if api == "gemini":
        allowed = GOOGLE_LOCAL | (GOOGLE_SEARCH if web == "search" else set())
        return {name: value for name, value in tool.items() if name in allowed}
    kind = str(tool.get("type") or "")
    passes = LOCAL_TOOLS.fullmatch(kind) or (web == "search" and SEARCH_TOOLS.fullmatch(kind))
    return tool if passes else None


def _remote(part: Any) -> Iterator[str]:
    """URLs that the provider would fetch: of images, documents and files."""
    if isinstance(part, list):
        for each in part:
            yield from _remote(each)
    if not isinstance(part, dict):
        return
    for name, value in part.items():
        if name in OWN or (name == "input" and part.get("type") == "tool_use" and isinstance(value, dict)):
            continue
        held = value.get("url") if name in ("image_url", "video_url", "audio_url") and isinstance(value, dict) else value
        if name in ("image_url", "video_url", "audio_url", "file_url", "fileUri", "file_uri") and isinstance(held, str):
            if not held.startswith("data:"):
                yield held
        elif name == "source" and isinstance(value, dict) and value.get("type") == "url":
            yield str(value.get("url"))
        else:
            yield from _remote(value)


def _output(asked: dict[str, Any]) -> int:
    """The most tokens that a request may be answered with."""
    google = asked.get("generationConfig")
    google = google.get("maxOutputTokens") if isinstance(google, dict) else None
    told = [asked.get("max_tokens"), asked.get("max_completion_tokens"), asked.get("max_output_tokens"), google]
    return max((each for each in told if isinstance(each, int) and each > 0), default=OUTPUT_TOKENS)
