"""Counts the tokens of an answer from what the provider says in it, streamed or not.

Fields: Anthropic `usage` of message_start and message_delta; OpenAI `usage` of the last chunk, or of response.completed;
Google `usageMetadata` of every chunk, the last one being the sum. OpenAI and Google count cached tokens in their input,
Anthropic apart from it; here they are apart.
"""

from __future__ import annotations

import json
from typing import Any

from harness.gateway.prices import Tokens

BYTES_A_TOKEN = 3  # where an answer was cut off before it told its usage: rather too many tokens than too few
LARGEST = 16 << 20


class Meter:
    """The tokens of one answer. `told` says whether the provider has given its final count, `model` which one answered."""

    def __init__(self, api: str, sent: int) -> None:
        """`sent`: the bytes of the request."""
        self.api, self.sent = api, sent
        self.model, self.told = "", False
        self._usage: dict[str, Any] = {}
        self._received = 0

    def event(self, event: bytes) -> bool:
        """Take note of one server-sent event; whether it holds nothing but the usage."""
        data = b"\n".join(line[5:].lstrip() for line in event.splitlines() if line.startswith(b"data:"))
        self._received += len(data)
        if not data or data == b"[DONE]" or len(data) > LARGEST:
            return False
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return False
        if isinstance(found, dict):
            self._note(found)
            return self.api == "openai-chat" and bool(found.get("usage")) and found.get("choices") == []
        return False

    def whole(self, body: bytes) -> None:
        """Take note of an answer that is not a stream of events; Google also streams one JSON list."""
        self._received += len(body)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            return
        for part in found if isinstance(found, list) else [found]:
            if isinstance(part, dict):
                self._note(part)
        self.told = self.told or self._tokens().prompt > 0

    def tokens(self) -> Tokens:
        """What was counted; estimated from the bytes, and then rather too high, where the provider has told nothing."""
        told = self._tokens()
        if self.told:
            return told
        guessed = Tokens(input=self.sent // BYTES_A_TOKEN) if not told.prompt else told
        return guessed.model_copy(update={"output": max(told.output, self._received // BYTES_A_TOKEN)})

    def _note(self, found: dict[str, Any]) -> None:
        inner = found.get("message") or found.get("response")
        holder = inner if isinstance(inner, dict) else found
        name = holder.get("model") or holder.get("modelVersion") or found.get("modelVersion")
        if isinstance(name, str):
            self.model = name[:100]
        usage = holder.get("usageMetadata") or holder.get("usage")
        if isinstance(usage, dict):
            self._usage.update({key: value for key, value in usage.items() if value is not None})
        self.told = self.told or self._is_last(found, isinstance(usage, dict))

    def _is_last(self, found: dict[str, Any], has_usage: bool) -> bool:
        """Whether nothing of the count can come after this part."""
        if self.api == "anthropic":
            return found.get("type") in ("message", "message_stop") or (found.get("type") == "message_delta" and has_usage)
        if self.api == "gemini":
            return has_usage and any(isinstance(c, dict) and c.get("finishReason") for c in found.get("candidates") or [])
        return has_usage and (self.api == "openai-chat" or found.get("object") == "response" or "response" in found)

    def _tokens(self) -> Tokens:
        usage = self._usage
        if self.api == "anthropic":
            hours = _count(usage.get("cache_creation"), "ephemeral_1h_input_tokens")
            written = _count(usage, "cache_creation_input_tokens")
            read, told = _count(usage, "cache_read_input_tokens"), _count(usage, "input_tokens")
            output = _count(usage, "output_tokens")
            return Tokens(input=told, output=output, cached=read, written=max(0, written - hours), written_1h=hours)
        if self.api == "gemini":
            read = _count(usage, "cachedContentTokenCount")
            told = _count(usage, "promptTokenCount") + _count(usage, "toolUsePromptTokenCount")
            output = _count(usage, "candidatesTokenCount") + _count(usage, "thoughtsTokenCount")
            return Tokens(input=max(0, told - read), output=output, cached=read)
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        read, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
        told = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
        output = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
        return Tokens(input=max(0, told - read - written), output=output, cached=read, written=written)


class Events:
    """Cuts a stream of bytes into server-sent events, as they become complete."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with the empty line that ends it."""
        self._rest += data
        found = []
        while (end := _end(self._rest)) or len(self._rest) > LARGEST:
            cut = end or len(self._rest)
            found.append(self._rest[:cut])
            self._rest = self._rest[cut:]
        return found

    def rest(self) -> bytes:
        """What came after the last complete event."""
        rest, self._rest = self._rest, b""
        return rest


def _end(data: bytes) -> int:
    """Where the first event ends, or 0."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := data.find(mark)) >= 0]
    return min(ends, default=0)


def _count(usage: object, name: str) -> int:
    """A count of tokens that may be missing."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
