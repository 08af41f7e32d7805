"""What the night and its gateway say to each other, over a socket pair that nobody else has."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.agentspec import Provider
from harness.gateway.answers import Trouble
from harness.models import Usage, Value

LARGEST = 1 << 18


class Entry(Value):
    """An agent's provider and its key; or, without a provider, the hosts that it may reach by itself."""

    agent: str
    provider: Provider | None = None
    secret: str = Field(default="", repr=False)
    hosts: list[str] = []


class Start(Value):
    """What the gateway has to know before the first line is opened."""

    entries: list[Entry]
    folder: Path
    log: Path
    cost_usd: float | None
    propose_usd: float | None
    quota_share: float | None
    spent_usd: float


class Closed(Value):
    """What a line came to: all that its experiment has used, and the provider's or our own last word where it was a refusal.

    `usage` is None where nobody could count: what went past the gateway.
    """

    usage: Usage | None = None
    trouble: Trouble = ""
    reason: str = ""


class Wait(Value):
    """Until when an agent's provider must not be asked, in seconds since 1970 or None when nobody knows, and why."""

    until: float | None
    reason: str


class State(Value):
    """How the gateway stands: what the night has spent, who has to wait, whose key was refused, quota used by window."""

    spent_usd: float = 0.0
    waiting: dict[str, Wait] = {}
    refused: dict[str, str] = {}
    windows: dict[str, dict[str, float]] = {}


def send(end: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """One message, with descriptors."""
    socket.send_fds(end, [json.dumps(message).encode()], list(fds))


def receive(end: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message; EOFError when the other side is gone."""
    data, fds, _, _ = socket.recv_fds(end, LARGEST, 1)
    if not data:
        raise EOFError
    return dict(json.loads(data)), fds
