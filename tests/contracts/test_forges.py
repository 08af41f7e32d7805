"""What every forge does with an offer: shows it once, and says what people made of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import QUIET, TOKEN, WHO, Hub

from harness import git
from harness.forges.github import GitHub
from harness.forges.local import Local
from harness.protocols import Answer, Forge, Offer
from harness.remote import Remote

LAB = "autoresearch/t"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path) as made:
        yield made


@pytest.fixture
def repo(tmp_path: Path) -> git.Repo:
    """A repository with a lab branch and two branches that change a file each."""

    def run(*args: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path / "repo"), *args], env={"PATH": os.environ["PATH"], **QUIET, **WHO}, check=True)

    (tmp_path / "repo").mkdir()
    run("init", "-q", "-b", LAB)
    run("commit", "-q", "--allow-empty", "-m", "start")
    for name in ("one", "two"):
        run("switch", "-q", "-c", f"exp/t/{name}", LAB)
        (tmp_path / "repo" / name).write_text(name)
        run("add", name)
        run("commit", "-q", "-m", name)
    return git.open_repo(tmp_path / "repo")


@pytest.fixture(params=["local", "github"])
def forge(request: pytest.FixtureRequest, repo: git.Repo, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Forge:
    if request.param == "local":
        return Local(repo, str(hub.bare))
    monkeypatch.setenv("GITHUB_API_URL", hub.url)
    monkeypatch.setenv("GH_TOKEN", TOKEN)
    return GitHub("github.com", "o/r")


def again(forge: Forge) -> Forge:
    """The forge as the next command sees it, which remembers nothing."""
    return GitHub("github.com", "o/r") if isinstance(forge, GitHub) else forge


def test_an_offer_is_shown_once_and_answered_by_what_people_do(forge: Forge, repo: git.Repo, hub: Hub) -> None:
    there = Remote(repo, str(hub.bare))
    there.push([f"refs/heads/{name}:refs/heads/{name}" for name in (LAB, "exp/t/one", "exp/t/two")])
    offers = [
        Offer(name, f"exp/t/{name}", git.commit_of(repo, f"exp/t/{name}"), LAB, name, f"<!-- {name} -->\n{name}", "harness: keep")
        for name in ("one", "two")
    ]
    shown = [forge.offer(offer) for offer in offers]
    assert len(set(shown)) == 2
    assert [again(forge).offer(offer) for offer in offers] == shown
    assert len(hub.pulls) == (2 if forge.name == "github" else 0)
    assert again(forge).answers(offers) == {}
    if forge.name == "github":
        merged = hub.merge(1)
        hub.close(2)
    else:
        parents = [word for name in (LAB, "exp/t/one") for word in ("-p", name)]
        merged = hub.git("commit-tree", "exp/t/one^{tree}", *parents, "-m", "merged by hand")
        hub.git("update-ref", f"refs/heads/{LAB}", merged)
        hub.git("update-ref", "-d", "refs/heads/exp/t/two")
    found = again(forge).answers(offers)
    assert [found[name].kind for name in ("one", "two")] == ["accept", "reject"]
    assert found["one"].merged == merged
    assert isinstance(found["two"], Answer)
    assert found["two"].merged is None
    assert "grace" in found["one"].by
