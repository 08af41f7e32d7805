"""The four protocols: a request -> a Turn, and a Move -> the bytes of an answer, whole or as server-sent events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

from moves import Move, Tool, Turn

INPUT, CACHED, OUTPUT = 1000, 200, 50  # tokens of every answer; CACHED are some of INPUT
Json = dict[str, Any]
Events = Iterable[tuple[str, Json | str]]


class Anthropic:
    """POST /v1/messages."""

    name = "anthropic"

    def turn(self, body: Json) -> Turn:
        blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
        tools = [Tool(tool["name"], tool.get("input_schema", {})) for tool in body.get("tools", [])]
        return Turn(tools, sum(b["type"] == "tool_result" for b in blocks), _text(body))

    def whole(self, move: Move, model: str) -> Json:
        usage = {"input_tokens": INPUT - CACHED, "cache_read_input_tokens": CACHED, "output_tokens": OUTPUT}
        block: Json = {"type": "text", "text": move.text}
        if move.tool:
            block = {"type": "tool_use", "id": fresh("toolu_"), "name": move.tool, "input": move.arguments}
        stop = "tool_use" if move.tool else "end_turn"
        head = {"id": fresh("msg_"), "type": "message", "role": "assistant", "model": model, "stop_sequence": None}
        return {**head, "content": [block], "stop_reason": stop, "usage": usage}

    def events(self, move: Move, model: str, body: Json) -> Events:
        message = self.whole(move, model)
        block, usage = message["content"][0], message["usage"]
        start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        yield "message_start", {"type": "message_start", "message": start}
        empty = {**block, "input": {}} if move.tool else {**block, "text": ""}
        yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": empty}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(move.arguments)}
        if not move.tool:
            delta = {"type": "text_delta", "text": move.text}
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": 0}
        end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        yield "message_delta", {"type": "message_delta", "delta": end, "usage": {"output_tokens": OUTPUT}}
        yield "message_stop", {"type": "message_stop"}

    def error(self, status: int, kind: str, message: str) -> Json:
        return {"type": "error", "error": {"type": kind, "message": message}}


class Chat:
    """POST /v1/chat/completions, OpenAI's and everybody's."""

    name = "openai-chat"

    def turn(self, body: Json) -> Turn:
        tools = [Tool(t["function"]["name"], t["function"].get("parameters", {})) for t in body.get("tools", [])]
        return Turn(tools, sum(m["role"] == "tool" for m in body["messages"]), _text(body))

    def _usage(self) -> Json:
        details = {"prompt_tokens_details": {"cached_tokens": CACHED}}
        return {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT, **details}

    def _message(self, move: Move) -> Json:
        if not move.tool:
            return {"role": "assistant", "content": move.text}
        function = {"name": move.tool, "arguments": json.dumps(move.arguments)}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": fresh("call_"), "type": "function", "function": function}],
        }

    def whole(self, move: Move, model: str) -> Json:
        choice = {"index": 0, "message": self._message(move), "finish_reason": "tool_calls" if move.tool else "stop"}
        head = {"id": fresh("chatcmpl-"), "object": "chat.completion", "created": 1, "model": model}
        return {**head, "choices": [choice], "usage": self._usage()}

    def events(self, move: Move, model: str, body: Json) -> Events:
        head = {"id": fresh("chatcmpl-"), "object": "chat.completion.chunk", "created": 1, "model": model}
        delta = self._message(move)
        for call in delta.get("tool_calls", []):
            call["index"] = 0
        yield "", {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield "", {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if move.tool else "stop"}]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield "", {**head, "choices": [], "usage": self._usage()}
        yield "", "[DONE]"

    def error(self, status: int, kind: str, message: str) -> Json:
        return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


class Responses(Chat):
    """POST /v1/responses, OpenAI's newer one."""

    name = "openai-responses"

    def turn(self, body: Json) -> Turn:
        tools = [
            Tool(tool["name"], tool.get("parameters") or {}, tool["type"] == "custom")
            for tool in body.get("tools", [])
            if "name" in tool
        ]
        asked = body["input"] if isinstance(body["input"], list) else []
        results = sum(str(each.get("type", "")).endswith("_call_output") for each in asked)
        return Turn(tools, results, _text(body))

    def _item(self, move: Move) -> Json:
        if move.free:
            call = {"call_id": fresh("call_"), "name": move.tool, "input": move.text}
            return {"type": "custom_tool_call", "id": fresh("item_"), **call}
        if move.tool:
            call = {"call_id": fresh("call_"), "name": move.tool, "arguments": json.dumps(move.arguments)}
            return {"type": "function_call", "id": fresh("item_"), "status": "completed", **call}
        content = [{"type": "output_text", "text": move.text, "annotations": []}]
        return {"type": "message", "id": fresh("item_"), "role": "assistant", "status": "completed", "content": content}

    def whole(self, move: Move, model: str) -> Json:
        usage = {"input_tokens": INPUT, "input_tokens_details": {"cached_tokens": CACHED}, "output_tokens": OUTPUT}
        usage |= {"output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": INPUT + OUTPUT}
        head = {"id": fresh("resp_"), "object": "response", "created_at": 1, "model": model, "status": "completed"}
        return {**head, "output": [self._item(move)], "usage": usage}

    def events(self, move: Move, model: str, body: Json) -> Events:
        whole = self.whole(move, model)
        item = whole["output"][0]
        started = {**whole, "output": [], "status": "in_progress", "usage": None}
        yield "response.created", {"type": "response.created", "response": started}
        added = {**item, "status": "in_progress", **({"content": []} if item["type"] == "message" else {})}
        yield "response.output_item.added", {"type": "response.output_item.added", "output_index": 0, "item": added}
        if item["type"] == "message":
            where = {"item_id": item["id"], "output_index": 0, "content_index": 0, "delta": move.text}
            yield "response.output_text.delta", {"type": "response.output_text.delta", **where}
        yield "response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}
        yield "response.completed", {"type": "response.completed", "response": whole}


class Gemini:
    """POST /v1beta/models/NAME:generateContent and :streamGenerateContent."""

    name = "gemini"

    def turn(self, body: Json) -> Turn:
        declared = [each for group in body.get("tools", []) for each in group.get("functionDeclarations", [])]
        tools = [Tool(each["name"], each.get("parametersJsonSchema") or each.get("parameters") or {}) for each in declared]
        parts = [part for content in body["contents"] for part in content.get("parts", [])]
        return Turn(tools, sum("functionResponse" in part for part in parts), _text(body))

    def whole(self, move: Move, model: str) -> Json:
        part: Json = {"functionCall": {"name": move.tool, "args": move.arguments}} if move.tool else {"text": move.text}
        usage = {"promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "totalTokenCount": INPUT + OUTPUT}
        usage["cachedContentTokenCount"] = CACHED
        answer = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        return {"candidates": [answer], "usageMetadata": usage, "modelVersion": model, "responseId": fresh("")}

    def events(self, move: Move, model: str, body: Json) -> Events:
        yield "", self.whole(move, model)

    def error(self, status: int, kind: str, message: str) -> Json:
        return {"error": {"code": status, "message": message, "status": kind}}


Protocol = Anthropic | Chat | Gemini


def protocol(path: str) -> Protocol | None:
    """The protocol that a path belongs to; None for paths that ask no model."""
    for end, found in (("/messages", Anthropic), ("/chat/completions", Chat), ("/responses", Responses)):
        if path.endswith(end):
            return found()
    return Gemini() if path.endswith(("enerateContent",)) else None


def fresh(prefix: str) -> str:
    """A new id: CLIs take two messages with the same one for the same message."""
    return prefix + uuid.uuid4().hex[:20]


def _text(body: Json) -> str:
    """Every string of a request, a line each: what the model has read."""
    found: list[str] = []
    waiting: list[Any] = [{name: part for name, part in body.items() if name != "tools"}]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict | list):
            waiting += part.values() if isinstance(part, dict) else part
    return "\n".join(reversed(found))
