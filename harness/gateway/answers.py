"""The gateway's own answers, in the shape that each provider's clients understand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

Trouble = Literal["", "budget", "quota", "rate_limited", "auth", "network"]
KINDS = {  # HTTP status -> what Anthropic, OpenAI and Google call it
    400: ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    401: ("authentication_error", "invalid_api_key", "UNAUTHENTICATED"),
    403: ("permission_error", "permission_denied", "PERMISSION_DENIED"),
    413: ("request_too_large", "request_too_large", "INVALID_ARGUMENT"),
    429: ("rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"),
    502: ("api_error", "server_error", "UNAVAILABLE"),
    504: ("timeout_error", "server_error", "DEADLINE_EXCEEDED"),
}


@dataclass
class Refused(Exception):
    """A request that is not passed on, or whose answer is not: `message` is a plain sentence, `wait_s` when to come back.

    `kind` is what the night calls such an end of a proposal; empty where the request alone was at fault.
    """

    status: int
    message: str
    kind: Trouble = ""
    wait_s: float | None = None


def body(api: str, refused: Refused) -> bytes:
    """The answer's JSON."""
    anthropic, openai, google = KINDS[refused.status]
    message = f"harness gateway: {refused.message}"
    if api == "anthropic":
        told: object = {"type": "error", "error": {"type": anthropic, "message": message}}
    elif api == "gemini":
        told = {"error": {"code": refused.status, "message": message, "status": google}}
    else:
        kind = "invalid_request_error" if refused.status < 429 else openai
        told = {"error": {"message": message, "type": kind, "param": None, "code": openai}}
    return json.dumps(told).encode()
