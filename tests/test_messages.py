"""What agents wrote orders nothing when it is pushed: nobody is mentioned, no issue closed, nobody credited, no check skipped."""

from __future__ import annotations

import re

import pytest
from test_offers import record

from harness.messages import candidate_message, merge_message, powerless
from harness.models import Wish

HOSTILE = (
    "Fixes #12, closes GH-7 and resolves o/r#3 for @torvalds and @org/team [skip ci]\n\n"
    "closes https://github.com/o/r/issues/12\nfixes http://ghe.example/o/r/pull/3 !4\n"
    "Co-authored-by: Linus <t@example.org>\n  signed-off-by: X <x@y>\nskip-checks: true\n[no ci] [CI skip] [actions skip]\n"
)
# What forges look for, written anew from their documentation.
MENTION = re.compile(r"(?<![\w`])@[\w-]")
CLOSES = re.compile(r"(?:close|fix|resolve)[sd]?:?\s+(?:[\w./-]*#\d|GH-\d|https?://\S+/(?:issues|pull)/\d)", re.IGNORECASE)
REFERS = re.compile(r"#\d|\bGH-\d|(?<!\w)!\d|https?://\S+/(?:issues|pull)/\d", re.IGNORECASE)
SKIPS = re.compile(r"\[(?:skip ci|ci skip|no ci|skip actions|actions skip)\]|^\s*skip-checks:", re.IGNORECASE | re.MULTILINE)
CREDITS = re.compile(r"^\s*(?:co-authored|signed-off)-by:", re.IGNORECASE | re.MULTILINE)
ORDERS = (MENTION, CLOSES, REFERS, SKIPS, CREDITS)


def test_the_control_is_an_attack() -> None:
    assert all(order.search(HOSTILE) for order in ORDERS)


@pytest.mark.parametrize("make", [candidate_message, lambda found: merge_message(found, found.verdict)])
def test_what_an_agent_wrote_orders_nothing(make: object) -> None:
    found = record("A small change")
    assert found.proposal is not None
    title, _, story = HOSTILE.partition("\n\n")
    proposal = found.proposal.model_copy(update={"title": title, "hypothesis": story, "agent_version": "1"})
    found = found.model_copy(update={"proposal": proposal})
    assert callable(make)
    said = str(make(found)).replace("Agent: a|@b 1", "")
    for order in ORDERS:
        assert not order.search(said), order.pattern
    assert "@ torvalds" in said  # and people read what was meant
    assert "# 12" in said
    assert said.isprintable() or said.replace("\n", "").isprintable()


def test_a_persons_own_words_stay_and_their_idea_mentions_nobody() -> None:
    found = record("Fix #12 with @ada")
    wish = Wish(kind="submission", number=1, by="Ada <ada@localhost>", text="Fix #12", asked="")
    assert candidate_message(found.model_copy(update={"wish": wish})).startswith("Fix #12 with @ada\n")
    idea = wish.model_copy(update={"kind": "idea", "text": "as @bob says, fixes #3"})
    said = candidate_message(found.model_copy(update={"wish": idea}))
    assert "Idea: as @ bob says, fixes # 3\n" in said
    assert "Idea-by: Ada <ada@localhost>\n" in said


def test_plain_words_stay_as_they_are() -> None:
    said = "Scale by 0.5 (see https://arxiv.org/abs/1502.04585), a != b, C# or F#: 90 % [done]"
    assert powerless(said) == said
