"""The driver for terminals: replies to screens, a transcript that can be read, an end for everything."""

from __future__ import annotations

import json

import pytest
from clis import equip, night, record
from conftest import Lab
from provider import Provider

from harness.agents.tty import plain

ASKS = r"""\
import os, sys, tty
assert os.isatty(0) and os.isatty(1) and os.isatty(2)
open("/dev/tty").close()
print("\x1b[31mTrust\x1b[0m\x1b[1Cthis", os.get_terminal_size(), "\x1b]0;title\x07?", end="", flush=True)
assert input() == "yes"
if {again}: print("\nMore?", end="", flush=True), input()
print("\x1b[2J\x1b[1;1HWhat is to be done> ", end="", flush=True)
asked = input()
text = open("toy/solution.py").read()
open("toy/solution.py", "w").write(text.replace("X = 5.0", "X = 4.0"))
print("read", len(open(asked).read()) > 100)
"""


def interactive(lab: Lab, expect: list[dict[str, object]], again: bool = False) -> None:
    argv = ["{python}", "-c", ASKS.replace("{again}", str(again)).lstrip("\\\n")]
    entry = {"driver": "tty", "argv": argv, "prompt": {"via": "file"}, "expect": expect}
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"screens: {json.dumps(entry)}\n")


def test_screens_are_answered_and_told_without_escape_sequences(lab: Lab) -> None:
    answers = [{"pattern": "to be done>", "send": "{prompt_file}\r"}, {"pattern": r"Trust this .*\?", "send": "yes\r"}]
    interactive(lab, answers)
    lab.harness("run", "--tag", "t", "--agent", "screens", "--experiments", "1")
    told = lab.git("show", "refs/experiments/t/0001:transcript.txt")
    assert lab.rows()[1][3] == "keep", told
    assert "Trust this os.terminal_size(columns=200, lines=50) ?" in told
    assert "read True" in told
    assert "\x1b" not in told
    assert lab.strays() == []


@pytest.mark.heavy
def test_a_screen_that_nobody_answers_ends_with_the_time(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 2")
    interactive(lab, [{"pattern": "Trust", "send": "yes\r"}], again=True)
    lab.harness("run", "--tag", "t", "--agent", "screens", "--experiments", "1")
    assert record(lab)["proposal"]["outcome"]["kind"] == "timeout"
    assert lab.strays() == []


def test_plain_text_of_a_screen() -> None:
    assert plain("\x1b[1mbold\x1b[22m\x1b[3Cword\x1b[2Kx\x1b[5;1Hnext\r\r\nlast\x07\x1b(B") == "bold wordx\nnext\nlast"


@pytest.mark.heavy
def test_aider_is_led_through_its_first_screens(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 120")
    with Provider().serving() as provider:
        equip(lab, provider, "aider")
        with (lab.path / "agents.yaml").open("a") as file:
            file.write(AIDER.replace("URL", provider.url))
        done = night(lab, "aider-tty")
    told = lab.git("show", "refs/experiments/t/0001:transcript.txt")
    assert lab.rows()[1][3] == "keep", done.stderr + told
    assert "see what's new in this version? (Y)es/(N)o [Yes]: n" in told
    assert record(lab)["proposal"]["exit_code"] == 0
    assert lab.strays() == []


AIDER = r"""
aider-tty:
  driver: tty
  argv: [aider, --model, "openai/{model}", --no-git, --no-auto-commits, --no-check-update, --edit-format, diff, --map-tokens, "0",
         --chat-history-file, "{home}/chat.md", --input-history-file, "{home}/input", --no-stream, --no-fancy-input,
         --read, "{prompt_file}", "{file}"]
  prompt: {via: file}
  expect:
    - {pattern: 'Open documentation url.*\?', send: "n\r", times: 3}
    - {pattern: "see what's new", send: "n\r"}
    - {pattern: '> $', send: "Do what {prompt_file} says.\r"}
    - {pattern: 'Applied edit', send: "/exit\r"}
  model: gpt-5.5
  provider: {api: openai-chat, url: "URL/v1", key_env: TEST_KEY}
  env: {OPENAI_API_BASE: "{base_url}/v1", OPENAI_API_KEY: "{key}", LITELLM_LOCAL_MODEL_COST_MAP: "True"}
"""
