"""The driver for agents that speak the Agent Client Protocol: JSON-RPC 2.0, a message a line, over pipes.

https://agentclientprotocol.com, version 1: initialize, session/new, session/prompt, and the answer to that is the end. The
agent reads and edits files itself, in its sandbox: it is told that this client has neither files nor terminals to offer, so
nothing that an agent sends ever names a file for the harness to open. Sizes are bounded, and a message that makes no sense
is passed over: an agent can waste its own time, and nothing else.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from harness.agents.start import prepare
from harness.models import AgentSpec
from harness.process import LOG_BYTES, TAIL_BYTES, Process
from harness.protocols import Box, Cancel, Exit, Sandbox

LOOK_S = 0.25
LEAVE_S = 3.0  # that an agent has to stop by itself when its time is over
MOST_MESSAGE = 16 << 20  # bytes
MOST_UNREAD = 1 << 20  # bytes of answers that an agent may leave unread
MOST_SAID = 8000  # characters
NOT_FOUND = -32601
NOTHING = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
HELLO = {"protocolVersion": 1, "clientCapabilities": NOTHING, "clientInfo": {"name": "harness", "version": "1"}}
ALLOW = ("allow_once", "allow_always")


class AcpAgent:
    """One entry of agents.yaml, run in a sandbox and talked to."""

    def __init__(self, spec: AgentSpec, sandbox: Sandbox) -> None:
        """Nothing is started yet."""
        self.spec, self.sandbox = spec, sandbox

    def propose(self, prompt: str, box: Box, log: Path, seed: int, deadline_s: float, cancel: Cancel, session: str = "") -> Exit:
        """One turn. `log` gets what the agent sent, then a line of ours; the exit code is 0 if the turn ended as it should."""
        start = prepare(self.spec, prompt, box, seed)
        log.parent.mkdir(parents=True, exist_ok=True)
        with self.sandbox.wrap(start.argv, start.box) as launch, opened() as (theirs, ours), log.open("wb") as transcript:
            with Process(launch, log.with_suffix(".stderr.log"), pipes=theirs) as process:
                for end in theirs:
                    os.close(end)
                wire = Wire(*ours, transcript)
                turn = Turn(wire, str(box.cwd), prompt)
                failed, stopped = turn.play(process, deadline_s, cancel)
                ended = (process.wait(LOOK_S) if failed else None) or process.kill()
                if failed and not stopped:
                    last = next((line for line in reversed(ended.tail.splitlines()) if line.strip()), "")
                    wire.note({"type": "failed", "message": f"{failed}: {last}"[:2000] if last else failed})
                wire.note({"type": "said", "text": turn.said})
                tail = (ended.tail[-TAIL_BYTES // 4 :] + "\n" + wire.tail.decode("utf-8", "replace"))[-TAIL_BYTES:]
                code = (ended.code or 1) if failed else 0
                return replace(ended, code=code, tail=tail, timed_out=stopped == "time", cancelled=stopped == "user")


@contextmanager
def opened() -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Two pipes as (their stdin, their stdout), (our reading, our writing end). Whoever is given the first pair closes it."""
    stdin, writing = os.pipe()
    reading, stdout = os.pipe()
    os.set_blocking(writing, False)
    with ExitStack() as stack:
        for end in (stdin, stdout, reading, writing):
            stack.callback(_close, end, os.fstat(end).st_ino)
        yield (stdin, stdout), (reading, writing)


def _close(end: int, inode: int) -> None:
    """Close a descriptor, unless it was closed before and its number may be another file's."""
    with suppress(OSError):
        if os.fstat(end).st_ino == inode:
            os.close(end)


class Broken(Exception):
    """The conversation cannot go on; the reason."""


class Wire:
    """Messages to and from somebody who is not trusted. `tail` is the end of what came."""

    def __init__(self, reading: int, writing: int, transcript: BinaryIO) -> None:
        """What comes goes to `transcript`, its first megabytes at least."""
        self.reading, self.writing, self.transcript = reading, writing, transcript
        self.tail, self._room = b"", LOG_BYTES
        self._in, self._out = bytearray(), bytearray()

    def send(self, message: dict[str, Any], room: int = MOST_UNREAD) -> None:
        """Queue a message; it goes out while others are waited for."""
        data = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        if len(self._out) > room:
            raise Broken("the agent does not read what it is sent")
        self._out += data

    def receive(self, seconds: float) -> Iterator[dict[str, Any]]:
        """The messages that came within a moment; Broken at the end of them all."""
        read, write, _ = select.select([self.reading], [self.writing] if self._out else [], [], seconds)
        if write:
            self._flush()
        if not read:
            return
        data = os.read(self.reading, 1 << 16)
        self._in += data
        *lines, rest = self._in.split(b"\n") if b"\n" in data else [self._in]
        self._in = bytearray(rest)
        for line in lines:
            self._keep(bytes(line))
            with suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict):
                    yield message
        if len(self._in) > MOST_MESSAGE:
            raise Broken(f"the agent sent a message of more than {MOST_MESSAGE >> 20} MB")
        if not data:
            raise Broken("the agent ended before its turn did")

    def note(self, message: dict[str, Any]) -> None:
        """Add a line of our own to the transcript."""
        self._room += LOG_BYTES
        self._keep(json.dumps(message).encode())

    def _flush(self) -> None:
        try:
            sent = os.write(self.writing, self._out[: 1 << 16])
        except BlockingIOError:
            return
        except BrokenPipeError:
            raise Broken("the agent ended before its turn did") from None
        del self._out[:sent]

    def _keep(self, line: bytes) -> None:
        line += b"\n"
        self.tail = (self.tail + (line if len(line) < MOST_SAID else line[:MOST_SAID] + b"...\n"))[-TAIL_BYTES:]
        if len(line) <= self._room:
            self._room -= len(line)
            with suppress(OSError):  # a full disk costs the transcript
                self.transcript.write(line)
                self.transcript.flush()


class Turn:
    """One prompt and what follows. `said` is the agent's last message: what came since it last used a tool."""

    def __init__(self, wire: Wire, cwd: str, prompt: str) -> None:
        """The session works in `cwd`."""
        self.wire, self.cwd, self.prompt = wire, cwd, prompt
        self.said, self.session, self.over, self._asked = "", "", False, ""

    def play(self, process: Process, deadline_s: float, cancel: Cancel) -> tuple[str, str]:
        """The turn to its end; why it failed, and who stopped it, `time` or `user`. Both are empty when all is well."""
        end, leaving = process.started + deadline_s, False
        try:
            self._ask("initialize", HELLO)
            while not self.over:
                late = time.monotonic() - end
                if cancel():
                    return "cancelled", "user"
                if late > (LEAVE_S if self.session else 0):
                    return "its time is over", "time"
                if late > 0 and not leaving:
                    leaving = True
                    self.wire.send({"method": "session/cancel", "params": {"sessionId": self.session}})
                for message in self.wire.receive(LOOK_S):
                    self._take(message)
        except Broken as reason:
            return str(reason), "time" if leaving else ""
        return ("its time is over", "time") if leaving else ("", "")

    def _ask(self, method: str, params: dict[str, Any]) -> None:
        self._asked = method
        self.wire.send({"id": method, "method": method, "params": params})

    def _take(self, message: dict[str, Any]) -> None:
        """What one message means."""
        method, params = message.get("method"), _mapping(message.get("params"))
        if method is None:
            if message.get("id") == self._asked:
                self._answered(message)
        elif method == "session/update":
            self._update(_mapping(params.get("update")))
        elif isinstance(name := message.get("id"), str | int) and len(str(name)) < 200:
            known = method == "session/request_permission"
            error = {"code": NOT_FOUND, "message": "this client offers no files and no terminals: use your own tools"}
            self.wire.send({"id": name, **({"result": {"outcome": permission(params)}} if known else {"error": error})})

    def _answered(self, message: dict[str, Any]) -> None:
        """The agent's answer to what it was asked last, and the next question."""
        if "error" in message:
            error = _mapping(message["error"])
            raise Broken(f"{self._asked} failed: {error.get('message')} {json.dumps(error.get('data', ''))}"[:2000])
        result = _mapping(message.get("result"))
        if self._asked == "initialize":
            self._ask("session/new", {"cwd": self.cwd, "mcpServers": []})
        elif self._asked == "session/new":
            self.session = str(result.get("sessionId", ""))[:200]
            self._ask("session/prompt", {"sessionId": self.session, "prompt": [{"type": "text", "text": self.prompt}]})
        elif (reason := result.get("stopReason")) in ("end_turn", "cancelled"):
            self.over = True
        else:
            raise Broken(f"the turn ended with stop_reason: {str(reason)[:100]}")

    def _update(self, update: dict[str, Any]) -> None:
        kind, content = update.get("sessionUpdate"), _mapping(update.get("content"))
        if kind == "tool_call":
            self.said = ""
        elif kind == "agent_message_chunk" and isinstance(text := content.get("text"), str):
            self.said = (self.said + text)[-MOST_SAID:]


def permission(params: dict[str, Any]) -> dict[str, str]:
    """Yes to everything: what an agent may do, its sandbox decides. `cancelled` where no yes is offered."""
    options = params.get("options")
    offered = [_mapping(each) for each in options[:100]] if isinstance(options, list) else []
    for kind in ALLOW:
        for option in offered:
            if option.get("kind") == kind and isinstance(name := option.get("optionId"), str) and len(name) < 200:
                return {"outcome": "selected", "optionId": name}
    return {"outcome": "cancelled"}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
