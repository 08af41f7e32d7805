"""What GitHub shows of an experiment is brought up to date, once; people's own words there stay, and nothing is told twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub import TOKEN, Hub

from harness.forges.github import GitHub
from harness.forges.rest import Rest
from harness.models import UserError
from harness.protocols import Offer

BODY = "<!-- harness experiment t/0001 abc -->\n**keep**\n\n```text\n<!-- harness text 000000000000 111111111111 -->\n```"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path) as made:
        tree = made.git("hash-object", "-t", "tree", "-w", "/dev/null")
        lab = made.git("commit-tree", tree, "-m", "lab")
        made.git("update-ref", "refs/heads/autoresearch/t", lab)
        made.git("update-ref", "refs/heads/exp/t/0001-x", made.git("commit-tree", tree, "-p", lab, "-m", "x"))
        yield made


@pytest.fixture
def first(hub: Hub) -> Offer:
    commit = hub.git("rev-parse", "exp/t/0001-x")
    return Offer("0001", "exp/t/0001-x", commit, "autoresearch/t", "t/0001: x", BODY, "harness: keep", "a sibling is under way")


def github(hub: Hub, told: list[str] | None = None) -> GitHub:
    """As a command finds it, but without pauses."""
    forge = GitHub("github.com", "o/r")
    forge.__dict__["_rest"] = Rest(hub.url, TOKEN, print, 0.0)
    return forge


def later(first: Offer, news: str = "a sibling was discarded", *notes: str) -> Offer:
    return replace(first, body=f"{BODY}\n{news}", news=news, notes=notes)


def writes(hub: Hub) -> list[tuple[str, str]]:
    found = [(method, path) for method, path, _ in hub.asked if method != "GET"]
    hub.asked.clear()
    return found


def test_news_change_the_text_once(hub: Hub, first: Offer) -> None:
    github(hub).offer(first)
    assert hub.pulls[0]["body"].startswith(f"{BODY}\n<!-- harness text ")
    assert [method for method, _ in writes(hub)] == ["POST", "POST"]
    github(hub).offer(first)
    github(hub).update(replace(first, body=f"{BODY}\nanother picture"))  # which is no news
    assert writes(hub) == []
    for _ in range(2):
        github(hub).update(later(first))
        github(hub).offer(later(first))
    assert "a sibling was discarded" in hub.pulls[0]["body"]
    assert writes(hub) == [("PATCH", "/repos/o/r/pulls/1")]


def test_peoples_words_around_it_stay(hub: Hub, first: Offer) -> None:
    github(hub).offer(first)
    hub.pulls[0]["body"] = f"For @ada.\r\n\r\n{hub.pulls[0]['body']}\nSee #3.".replace("\n", "\r\n").replace("\r\r", "\r")
    github(hub).update(later(first))
    assert hub.pulls[0]["body"].startswith(f"For @ada.\n\n{BODY}\na sibling was discarded\n<!--")
    assert hub.pulls[0]["body"].endswith("-->\nSee #3.")


@pytest.mark.parametrize("edit", [lambda text: text.replace("**keep**", "**great**"), lambda _: "mine", lambda _: None])
def test_a_text_that_somebody_edited_stays_and_the_pull_request_is_still_known(hub: Hub, first: Offer, edit: object) -> None:
    github(hub).offer(first)
    assert callable(edit)
    hub.pulls[0]["body"] = edited = edit(hub.pulls[0]["body"])
    for _ in range(2):
        assert github(hub).offer(later(first, "bad news", "bad news")) == "https://github.com/o/r/pull/1"
    assert [hub.pulls[0]["body"], len(hub.pulls)] == [edited, 1]
    assert [text.partition("\n")[2] for _, text in hub.comments] == ["bad news"]
    hub.close(1)
    assert github(hub).answers([first])["0001"].kind == "reject"


def test_a_branch_of_an_earlier_night_with_the_same_name_is_another_matter(hub: Hub, first: Offer) -> None:
    github(hub).offer(first)
    hub.close(1)
    commit = hub.add("exp/t/0001-x")
    mine = replace(first, commit=commit, body=BODY.replace("abc", "def"))
    assert github(hub).answers([mine]) == {}
    assert github(hub).offer(mine) == "https://github.com/o/r/pull/2"


def test_whoever_died_after_the_comment_makes_no_second_one(hub: Hub, first: Offer) -> None:
    github(hub).offer(first)
    hub.faults.append(("PATCH", 502, {}, {"message": "bad gateway"}))
    with pytest.raises(UserError, match="what was done is not done twice"):
        github(hub).update(later(first, "rejected", "what it was built on was rejected"))
    assert len(hub.comments) == 1
    github(hub).update(later(first, "rejected", "what it was built on was rejected"))
    assert len(hub.comments) == 1
    assert "rejected" in hub.pulls[0]["body"]


def test_a_label_that_was_lost_is_given_later_and_none_is_no_reason_to_stop(hub: Hub, first: Offer) -> None:
    github(hub).offer(first)
    hub.pulls[0]["labels"] = []
    hub.faults.append(("POST", 403, {}, {"message": "Resource not accessible"}))
    github(hub).offer(first)
    assert hub.pulls[0]["labels"] == []
    github(hub).offer(first)
    assert hub.pulls[0]["labels"] == [{"name": "harness: keep"}]


def test_a_locked_conversation_is_said_and_no_reason_to_stop(hub: Hub, first: Offer, capfd: pytest.CaptureFixture[str]) -> None:
    github(hub).offer(first)
    hub.locked = True
    github(hub).update(later(first, "rejected", "note"))
    assert "https://github.com/o/r/pull/1 was not brought up to date" in capfd.readouterr().err
    assert hub.comments == []


def test_what_people_closed_is_left_alone_and_what_they_merged_is_told(hub: Hub, first: Offer) -> None:
    github(hub).offer(first)
    hub.close(1)
    writes(hub)
    github(hub).update(later(first, "rejected", "note"))
    assert writes(hub) == []
    hub.pulls[0]["merged_at"] = "2026"
    for _ in range(2):
        github(hub).update(later(first, "rejected", "the lab does not take it"))
    assert writes(hub) == [("POST", "/repos/o/r/issues/1/comments")]


@pytest.mark.parametrize("said", [b"<html>log in</html>", 7, None])
def test_an_answer_that_is_no_api_is_a_sentence(hub: Hub, said: object) -> None:
    hub.faults.append(("GET", 200, {}, said))
    with pytest.raises(UserError, match="no JSON"):
        Rest(hub.url, TOKEN, print, 0.0).get("/repos/o/r/pulls/1")
