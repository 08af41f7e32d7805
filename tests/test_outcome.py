"""How an agent's work ended, from what CLIs really print; and files written beneath a folder that an agent has set traps in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import outcome
from harness.agents.start import write_beneath
from harness.agentspec import AgentSpec
from harness.protocols import Exit

SHIPPED = yaml.safe_load(Path(__file__).parents[1].joinpath("agents.yaml").read_text())


def spec(name: str) -> AgentSpec:
    return AgentSpec.model_validate({**SHIPPED[name], "name": name})


def ended(tail: str, code: int = 0, **more: Any) -> Exit:
    return Exit(code, 7.0, 0.0, 0.0, tail, **more)


def told(name: str, output: str, folder: Path, code: int = 0, changed: bool = False, **more: Any) -> outcome.Outcome:
    (folder / "log").write_text(output)
    how = ended(output[-outcome.SEARCHED_CHARS :], code, **more)
    entry = spec(name)
    return outcome.outcome(entry, how, outcome.read(entry.output, folder / "log", how.tail), changed)


# name, exit code, the last words that the pinned version printed, what they mean
SAID = [
    ("claude", 1, '{"type":"result","subtype":"success","is_error":true,"result":"Invalid API key"}', "auth"),
    ("claude", 1, '{"type":"result","is_error":true,"result":"API Error: Request rejected (429) · hit your limit"}', "quota"),
    ("claude", 1, '{"type":"result","is_error":true,"result":"API Error: 529 Overloaded."}', "rate_limited"),
    ("claude", 1, '{"type":"result","is_error":true,"result":"Prompt is too long"}', "context"),
    ("claude", 0, '{"type":"result","is_error":false,"result":"I raised the rate limit of the loop to 429."}', "unchanged"),
    ("claude", 0, '{"type":"result","is_error":false,"result":"I can\'t help with that."}', "refused"),
    ("codex", 1, '{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized"}}', "auth"),
    ("codex", 1, '{"type":"turn.failed","error":{"message":"stream disconnected before completion"}}', "network"),
    ("codex", 1, '{"type":"turn.failed","error":{"message":"Codex ran out of room in the model\'s context window."}}', "context"),
    ("codex", 0, '{"type":"error","message":"Reconnecting... 1/1 (429)"}\n{"type":"turn.completed"}', "unchanged"),
    ("gemini", 145, '{"type":"result","status":"error","error":{"message":"API key not valid"}}\n    at node:429', "auth"),
    ("opencode", 1, '{"type":"error","error":{"name":"APIError","data":{"statusCode":503}}}', "rate_limited"),
    ("pi", 0, '{"type":"agent_end","messages":[{"stopReason":"error","errorMessage":"terminated"}]}', "network"),
    ("pi", 0, '{"type":"agent_end","messages":[{"stopReason":"stop","content":[{"text":"Fine."}]}]}', "unchanged"),
    ("aider", 0, "litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect\nAPI key provided", "auth"),
    ("aider", 0, "litellm.RateLimitError: RateLimitError: OpenAIException - You exceeded your\ncurrent quota", "quota"),
    ("aider", 0, "HTTPSConnectionPool: Max retries exceeded, no network\nI left it as it is.", "unchanged"),
    (
        "mini",
        1,
        "❱ 311 raise RateLimitError(\nlitellm.RateLimitError: RateLimitError: OpenAIException - Rate\nlimit reached",
        "rate_limited",
    ),
    ("tuner", 1, "ZeroDivisionError: division by zero", "crashed"),
    ("tuner", 1, "OSError: [Errno 101] Network is unreachable", "crashed"),
]


@pytest.mark.parametrize(("name", "code", "output", "kind"), SAID)
def test_what_clis_say(name: str, code: int, output: str, kind: str, tmp_path: Path) -> None:
    assert told(name, output, tmp_path, code).kind == kind


def test_the_file_comes_first_and_the_exit_code_last(tmp_path: Path) -> None:
    failed = '{"type":"result","is_error":true,"result":"API Error: 529 Overloaded."}'
    assert told("claude", failed, tmp_path, 1, changed=True).kind == "changed"
    assert told("claude", failed, tmp_path, 0).kind == "rate_limited"
    assert told("claude", "", tmp_path, 137, timed_out=True).kind == "timeout"
    assert told("tuner", "429", tmp_path, 0, exceeded="used more than 1 MB").reason == "the agent used more than 1 MB"


def test_the_last_message_is_found_behind_a_log_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"type":"thread.started","thread_id":"s1"}\n{"type":"item.comp')
    tail = 'leted"}\n{"type":"item.completed","item":{"type":"agent_message","text":"Done."}}\n'
    assert outcome.read(spec("codex").output, tmp_path / "log", tail) == outcome.Said("Done.", [], "s1")


def test_pieces_of_a_message_are_joined_and_plain_text_is_searched(tmp_path: Path) -> None:
    piece = '{{"type":"message","role":"{}","content":"{}"}}\n'
    (tmp_path / "log").write_text(
        piece.format("user", "no") + piece.format("assistant", "One ") + piece.format("assistant", "two.")
    )
    assert outcome.read(spec("gemini").output, tmp_path / "log", "").text == "One two."
    said = "Added solution.py to the chat.\n\nI halved it.\n\nIt was too large.\n\nTokens: 1.0k sent"
    assert outcome.read(spec("aider").output, tmp_path / "log", said).text == "I halved it.\n\nIt was too large."


@pytest.mark.parametrize("trap", ["link", "folder link", "hard link", "fifo", "file for a folder"])
def test_nothing_is_written_through_a_trap_in_a_home(trap: str, tmp_path: Path) -> None:
    victim, home = tmp_path / "victim", tmp_path / "home"
    victim.mkdir()
    home.mkdir()
    (victim / "config").write_text("mine")
    if trap in ("link", "hard link", "fifo"):
        (home / ".cli").mkdir()
    if trap == "link":
        (home / ".cli/config").symlink_to(victim / "config")
    elif trap == "hard link":
        (home / ".cli/config").hardlink_to(victim / "config")
    elif trap == "fifo":
        os.mkfifo(home / ".cli/config")
    elif trap == "folder link":
        (home / ".cli").symlink_to(victim)
    else:
        (home / ".cli").write_text("in the way")
    if "link" in trap:  # what it prevents
        (home / ".cli/config").write_text("written through")
        assert (victim / "config").read_text() == "written through"
        (victim / "config").write_text("mine")
    write_beneath(home, ".cli/config", "theirs")
    assert (home / ".cli/config").read_text() == "theirs"
    assert (victim / "config").read_text() == "mine"
