"""The commands of pages below docs/, pasted one after the other into a shell, and the links between pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pasted(page: str, cwd: Path, tmp_path: Path) -> str:
    """What the blocks of commands of a page say, run in `cwd` by a user of their own."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "harness").write_text(f"#!/bin/sh\nexec '{sys.executable}' -c 'from harness.cli import main; main()' \"$@\"\n")
    (tools / "harness").chmod(0o755)
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path), "GIT_CONFIG_SYSTEM": "/dev/null"}
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = you\n\temail = you@localhost\n")
    done = subprocess.run(["bash", "-ec", "\n".join(blocks)], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_of_the_page_on_tasks_works(tmp_path: Path) -> None:
    said = pasted("docs/tasks.md", tmp_path, tmp_path)
    assert "passed in " in said
    told = re.findall(r"^000\d .*|^5 discard, .*", (ROOT / "docs/tasks.md").read_text(), re.MULTILINE)
    assert len(told) == 10
    for line in told:
        assert line in said


def fresh_clone(tmp_path: Path) -> None:
    """A repository of the tour alone, in `lab`."""
    shutil.copytree(
        ROOT / "examples/tour", tmp_path / "lab/examples/tour", ignore=shutil.ignore_patterns("tour.txt", "__pycache__")
    )
    shutil.copy(ROOT / "agents.yaml", tmp_path / "lab")
    you = ("-c", "user.name=you", "-c", "user.email=you@localhost")
    for words in (("init", "-qb", "main"), ("add", "."), (*you, "commit", "-qm", "the clone")):
        subprocess.run(["git", *words], cwd=tmp_path / "lab", check=True)


@pytest.mark.heavy
def test_every_command_of_the_page_on_review_works_in_a_clone_with_a_remote(tmp_path: Path) -> None:
    fresh_clone(tmp_path)
    for words in (("init", "-q", "--bare", "../shared.git"), ("remote", "add", "origin", "../shared.git")):
        subprocess.run(["git", *words], cwd=tmp_path / "lab", check=True)
    said = pasted("docs/review.md", tmp_path / "lab", tmp_path)
    assert "0007 merged into autoresearch/morning\n0009 rejected\n" in said
    assert "0002 merged into autoresearch/stack\n0008 merged into autoresearch/stack\n0009 rejected\n" in said
    assert said.endswith("autoresearch/stack at origin is up to date\n")


@pytest.mark.heavy
def test_every_command_of_the_tutorial_works_in_a_fresh_clone(tmp_path: Path) -> None:
    """Its night is the same every time: what the page says of it is what is printed."""
    fresh_clone(tmp_path)
    said = pasted("docs/tutorial.md", tmp_path / "lab", tmp_path)
    page = (ROOT / "docs/tutorial.md").read_text()
    told = [
        line
        for line in page.splitlines()
        if re.match(r"000\d (keep|discard|waiting|merged)|tour_length|000\d: |     built on", line)
    ]
    assert len(told) > 15
    for line in told:
        assert line.replace("/home/you", str(tmp_path)) in said


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        found = page.parent / target if target else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings], anchor
