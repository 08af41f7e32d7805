"""Pull requests on a small GitHub of ours (hub.py): what is opened, what a merge or a close there means here, and what is kept
to ourselves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, heavy
from hub import TOKEN, Hub
from test_review import lab2, night, record, statuses, tip

from harness import git
from harness.forges.github import address
from harness.forges.rest import Rest, Unprocessable
from harness.models import UserError
from harness.remote import Refused, Remote

__all__ = ["lab2"]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path) as made:
        yield made


@pytest.fixture
def there(lab2: Lab, hub: Hub) -> Lab:
    """A lab whose origin is the hub."""
    lab2.git("remote", "add", "origin", "https://github.com/o/r.git")
    lab2.git("config", f"url.{hub.bare}.insteadOf", "https://github.com/o/r.git")
    lab2.env |= {"GITHUB_API_URL": hub.url, "GH_TOKEN": TOKEN}
    return lab2


def holders(lab: Lab, secret: str) -> list[Path]:
    """Every file of the lab and of its state folder that holds a secret."""
    files = [path for path in lab.path.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if secret.encode() in path.read_bytes()]


def test_pull_requests_are_opened_once_and_a_merge_there_is_taken_over(there: Lab, hub: Hub) -> None:
    night(there, "a", "b")
    said = there.harness("review", "--push").stdout
    assert "0001: https://github.com/o/r/pull/1" in said
    assert hub.branches() == ["autoresearch/t", "exp/t/0001-lower-a", "exp/t/0002-lower-b"]
    first = hub.pulls[0]
    assert first["title"] == "t/0001: Lower A"
    assert (first["base"]["ref"], first["labels"]) == ("autoresearch/t", [{"name": "harness: keep"}])
    for wanted in (
        "| distance | 2.00 |",
        "Because it may help.",
        "git fetch origin exp/t/0001-lower-a && harness measure",
        'xychart-beta\n  x-axis ["0000", "0001"]\n  y-axis "distance"',
    ):
        assert wanted in first["body"]
    there.harness("review", "--push")
    assert len(hub.pulls) == 2
    merged = hub.merge(1)
    done = there.harness("sync")
    assert tip(there) == merged  # the very commit: an identical measured tree is a fast-forward
    assert statuses(there) == ["keep", "keep", "waiting"]
    assert record(there, "0001")["review"]["decisions"][0]["by"] == "grace"
    assert hub.branches() == ["autoresearch/t", "exp/t/0002-lower-b"]
    assert TOKEN not in said + done.stdout + done.stderr
    assert holders(there, TOKEN) == []
    assert {auth for _, _, auth in hub.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.heavy
def test_what_was_merged_there_untested_is_measured_and_never_forced(there: Lab, hub: Hub) -> None:
    night(there, "a", "b", "late")
    there.harness("review", "--push")
    hub.merge(1)
    second = hub.merge(2)
    assert "measured again" not in there.harness("sync").stdout
    assert statuses(there) == ["keep", "keep", "accepted", "waiting", "keep"]
    assert there.git("rev-parse", "autoresearch/t^{tree}") == record(there, "0004")["experiment"]["tree"]
    assert hub.git("rev-parse", "autoresearch/t") == tip(there)
    assert there.git("merge-base", "--is-ancestor", second, "autoresearch/t") == ""
    there.harness("run", "--tag", "t", "--review", "--agent", "idle", "--experiments", "5")
    assert record(there, "0005")["experiment"]["base"] == tip(there)
    there.harness("resume", "--tag", "t")
    assert "1.00" in there.harness("status").stdout


@pytest.mark.heavy
def test_a_merge_there_whose_gain_does_not_survive_is_undone_there_without_force(there: Lab, hub: Hub) -> None:
    night(there, "a", "late")
    there.harness("review", "--push")
    hub.merge(1)
    bad = hub.merge(2)
    there.harness("sync")
    assert statuses(there) == ["keep", "keep", "accepted", "discard"]
    assert there.git("rev-parse", "autoresearch/t^{tree}") == record(there, "0001")["experiment"]["tree"]
    assert hub.git("rev-parse", "autoresearch/t") == tip(there)
    assert hub.git("merge-base", "--is-ancestor", bad, "autoresearch/t") == ""
    there.harness("run", "--tag", "t", "--agent", "b", "--experiments", "4")
    assert statuses(there)[-1] == "keep"
    there.harness("sync")
    assert hub.git("rev-parse", "autoresearch/t") == tip(there)


@pytest.mark.heavy
def test_squashed_closed_and_decided_here(there: Lab, hub: Hub) -> None:
    night(there, "a", "b", "late")
    there.harness("review", "--push")
    squashed = hub.merge(1, "squash")
    hub.close(2)
    there.harness("reject", "3", "--reason", "no")
    there.harness("sync")
    assert tip(there) == squashed
    assert statuses(there) == ["keep", "keep", "rejected", "rejected"]
    assert record(there, "0002")["review"]["decisions"][0]["reason"] == "closed https://github.com/o/r/pull/2"
    assert hub.branches() == ["autoresearch/t"]
    hub.refresh()
    assert [pull["state"] for pull in hub.pulls] == ["closed"] * 3
    before = there.git("for-each-ref"), hub.git("for-each-ref")
    there.harness("sync")
    assert (there.git("for-each-ref"), hub.git("for-each-ref")) == before


@pytest.mark.heavy
def test_a_strangers_commit_on_the_lab_branch_there_is_refused(there: Lab, hub: Hub) -> None:
    night(there, "a")
    there.harness("review", "--push")
    lab = hub.git("rev-parse", "autoresearch/t")
    hub.git("update-ref", "refs/heads/autoresearch/t", hub.git("commit-tree", f"{lab}^{{tree}}", "-p", lab, "-m", "mine"))
    before = hub.git("for-each-ref")
    assert "which is no merged experiment: move it to a branch" in there.harness("sync", code=1).stderr
    assert "nothing is ever forced: run `harness sync`" in there.harness("review", "--push", code=1).stderr
    assert hub.git("for-each-ref") == before


@pytest.mark.heavy
def test_a_pull_request_of_somebody_else_decides_nothing(there: Lab, hub: Hub) -> None:
    """With our mark in its text and our branch's name, but from a fork."""
    night(there, "a")
    there.harness("review", "--push")
    hub.pulls[0]["head"]["repo"]["full_name"] = "mallory/r"
    hub.close(1)
    there.harness("sync")
    assert statuses(there) == ["keep", "waiting"]
    hub.pulls[0]["head"]["repo"]["full_name"] = "O/R"
    there.harness("sync")
    assert statuses(there) == ["keep", "rejected"]


@pytest.mark.heavy
def test_what_was_merged_there_and_conflicts_here_is_rejected_with_the_reason(there: Lab, hub: Hub) -> None:
    night(there, "c", "a")
    there.harness("review", "--push")
    hub.merge(1)
    there.harness("accept", "2")
    there.harness("sync")
    assert statuses(there) == ["keep", "rejected", "keep"]
    (decision,) = record(there, "0001")["review"]["decisions"]
    assert "merged by grace, but what was merged here before changed the same lines of toy/solution.py" in decision["reason"]
    assert there.git("rev-parse", "autoresearch/t^{tree}") == record(there, "0002")["experiment"]["tree"]
    assert hub.git("rev-parse", "autoresearch/t") == tip(there)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://github.com/o/r.git", ("github.com", "o/r")),
        ("https://user:pw@github.com/o/r", ("github.com", "o/r")),
        ("git@github.com:o/r.git", ("github.com", "o/r")),
        ("ssh://git@github.com/o/r", ("github.com", "o/r")),
        ("https://github.com.evil.example/o/r", None),
        ("https://example.org/github.com/o/r", None),
        ("/srv/git/github.com/o/r.git", None),
    ],
)
def test_what_is_on_github(url: str, found: Any) -> None:
    assert address(url) == found


def rest(hub: Hub, told: list[str] | None = None, token: str = TOKEN) -> Rest:
    return Rest(hub.url, token, (told if told is not None else []).append, 0.0)


def test_every_page_is_read(hub: Hub) -> None:
    for name in ("x", "main"):
        tree = hub.git("hash-object", "-t", "tree", "-w", "/dev/null")
        hub.git("update-ref", f"refs/heads/{name}", hub.git("commit-tree", tree, "-m", "x"))
    for _ in range(5):
        hub.open({"head": "x", "base": "main", "title": "t", "body": ""})
        hub.close(len(hub.pulls))
    assert [each["number"] for each in rest(hub).pages("/repos/o/r/pulls", base="main")] == [5, 4, 3, 2, 1]


def test_the_next_page_of_another_host_is_not_asked_for(hub: Hub) -> None:
    hub.faults.append(("GET", 200, {"Link": '<http://localhost:1/evil>; rel="next"'}, []))
    with pytest.raises(UserError, match="points to another host"):
        list(rest(hub).pages("/repos/o/r/pulls", base="main"))


LIMIT = {"x-ratelimit-remaining": "0"}


@pytest.mark.parametrize(
    ("status", "headers", "said", "least"),
    [
        (403, {"retry-after": "1"}, "You have exceeded a secondary rate limit", 1.0),
        (429, {"retry-after": "1"}, "slow down", 1.0),
        (403, {**LIMIT, "x-ratelimit-reset": "SOON"}, "API rate limit exceeded", 1.0),
        (502, {}, "bad gateway", 1.0),
        *heavy((503, {}, "unavailable", 1.0)),
    ],
)
def test_limits_and_failures_are_waited_for(hub: Hub, status: int, headers: dict[str, str], said: str, least: float) -> None:
    soon = {name: str(int(time.time()) + 1) if value == "SOON" else value for name, value in headers.items()}
    hub.faults.append(("GET", status, soon, {"message": said}))
    started = time.monotonic()
    assert list(rest(hub).pages("/repos/o/r/pulls", base="main")) == []
    assert time.monotonic() - started >= least


@pytest.mark.parametrize(
    ("status", "headers", "said", "wanted"),
    [
        (403, {**LIMIT, "x-ratelimit-reset": "9999999999"}, "API rate limit exceeded", "is used up until"),
        (403, {"retry-after": "3000"}, "secondary rate limit", "is used up until"),
        (403, {}, "Resource not accessible", "needs the rights to write contents and pull requests"),
        (404, {}, "Not Found", "no such repository, or the token may not see it"),
        (401, {}, "Bad credentials", "refused the token"),
    ],
)
def test_what_does_not_pass_is_a_sentence(hub: Hub, status: int, headers: dict[str, str], said: str, wanted: str) -> None:
    hub.faults.append(("GET", status, headers, {"message": said}))
    with pytest.raises(UserError, match=wanted) as error:
        rest(hub).get("/repos/o/r/pulls/1")
    assert TOKEN not in str(error.value)
    assert len(hub.asked) == 1


def test_a_post_that_may_have_been_done_is_not_repeated(hub: Hub) -> None:
    hub.faults.append(("POST", 502, {}, {"message": "bad gateway"}))
    with pytest.raises(UserError, match="what was done is not done twice"):
        rest(hub).post("/repos/o/r/pulls", {})
    assert len(hub.asked) == 1
    hub.faults.append(("POST", 429, {"retry-after": "0"}, {}))
    with pytest.raises(Unprocessable, match="Validation Failed"):
        rest(hub).post("/repos/o/r/pulls", {"head": "x", "base": "y", "title": "", "body": ""})
    assert len(hub.asked) == 3


def test_git_shows_the_token_to_its_own_host_and_only_there(hub: Hub, lab: Lab) -> None:
    repo, url = git.open_repo(lab.path), f"{hub.url}/git/o/r.git"
    Remote(repo, url, TOKEN).push(["refs/heads/main:refs/heads/main"])
    assert hub.git("rev-parse", "main") == lab.git("rev-parse", "main")
    assert Remote(repo, url, TOKEN).refs("refs/heads/") == {"refs/heads/main": lab.git("rev-parse", "main")}
    with pytest.raises(UserError, match="refused the token"):
        Remote(repo, url, "wrong").refs("refs/heads/")
    with pytest.raises(UserError, match="asks for a password that the harness does not have"):
        Remote(repo, url).refs("refs/heads/")
    lab.git("config", f"url.{hub.url}/git/.insteadOf", "https://github.com/")
    with pytest.raises(UserError, match="asks for a password"):  # the token is github.com's, and this is another host
        Remote(repo, "https://github.com/o/r.git", TOKEN).refs("refs/heads/")
    tree = lab.git("rev-parse", "main^{tree}")
    other = lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", tree, "-m", "another root")
    lab.git("branch", "other", other)
    with pytest.raises(Refused):
        Remote(git.open_repo(lab.path), url, TOKEN).push(["refs/heads/other:refs/heads/main"])
    assert hub.git("rev-parse", "main") == lab.git("rev-parse", "main")
    assert holders(lab, TOKEN) == []


@pytest.mark.heavy
def test_the_token_may_come_from_githubs_own_command_line(there: Lab, hub: Hub) -> None:
    night(there, "a")
    del there.env["GH_TOKEN"]
    assert "there is no token for github.com" in there.harness("review", "--push", code=1).stderr
    tools = there.path.parent / "bin"
    tools.mkdir()
    (tools / "gh").write_text(f'#!/bin/sh\necho "$@" > "{tools}/asked"\necho {TOKEN}\n')
    (tools / "gh").chmod(0o755)
    there.env["PATH"] = f"{tools}:{there.env['PATH']}"
    there.harness("review", "--push")
    assert (tools / "asked").read_text() == "auth token --hostname github.com\n"
    assert len(hub.pulls) == 1
    assert holders(there, TOKEN) == [tools / "gh"]


@pytest.mark.heavy
def test_an_answer_that_was_lost_makes_no_second_pull_request(there: Lab, hub: Hub) -> None:
    night(there, "a")
    there.harness("review", "--push")
    body = json.dumps(hub.pulls[0])
    hub.faults.append(("GET", 200, {}, []))  # the list does not know it yet
    there.harness("review", "--push")
    assert [json.dumps(pull) for pull in hub.pulls] == [body]
