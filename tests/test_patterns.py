"""Names and globs mean what git means by them, and never a file that is not the task's to give away."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.patterns import base, editable, editable_files, may_hold

NAMES = (
    "a.py",
    "b.txt",
    ".hidden.py",
    "src/a.py",
    "src/b.py",
    "src/a.pyc",
    "src/deep/a.py",
    "src/deep/er/a.py",
    "src/deep/[id].py",
    "src/deep/i.py",
    "src2/a.py",
    "docs/src/a.py",
)
GLOBS = (
    "*",
    "*.py",
    "*.??",
    "src/*",
    "src/*.py",
    "src/?.py",
    "src/[ab].py",
    "src/[!a].py",
    "src/[^a].py",
    "src/[a-b].p*",
    "src/*/a.py",
    "src*/a.py",
    "src/**",
    "src/**/a.py",
    "src/**/er/*",
    "**",
    "**/*.py",
    "**/a.py",
    "**/src/*.py",
    "src/deep/\\[id\\].py",
    "src/a\\.py",
    "src/d**p/a.py",
    "nothing/*",
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("globs")
    for name in NAMES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=top, check=True)
    subprocess.run(["git", "add", "-A"], cwd=top, check=True)
    return top


@pytest.mark.parametrize("glob", GLOBS)
def test_globs_mean_what_git_means_by_them(glob: str, repository: Path) -> None:
    asked = ["git", "ls-files", "-z", "--", f":(glob){glob}"]
    said = subprocess.run(asked, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert editable_files([glob], NAMES) == sorted(filter(None, said.split("\0")))


def test_a_name_is_meant_literally_brackets_and_all() -> None:
    assert editable_files(["src/deep/[id].py"], NAMES) == ["src/deep/[id].py", "src/deep/i.py"]
    assert editable_files(["src/a.py", "b.txt"], NAMES) == ["b.txt", "src/a.py"]


@pytest.mark.parametrize(
    "name",
    [
        "AGENTS.md",
        "docs/Claude.md",
        "lab/history.md",
        "notes/x.md",
        ".git/x.md",
        "x/.GIT/x.md",
        "x/git~1/x.md",
        ".claude/x.md",
        "x/__pycache__/x.md",
        ".github/x.md",
        "x/.gitmodules.md",
    ],
)
def test_a_glob_never_means_what_belongs_to_others(name: str) -> None:
    assert not editable(["**/*.md", "**"], name)
    assert editable([name], name) == name.startswith((".github", "x/.gitm"))


@pytest.mark.parametrize(
    ("glob", "inside", "outside"),
    [
        ("src/*.py", ["src", ""], ["src/deep", "docs"]),
        ("src/**/*.py", ["src", "src/deep/er/any"], ["docs"]),
        ("src/*/a.py", ["src", "src/any"], ["src/any/deep"]),
        ("**", ["", "any/where"], ["lab", "any/.git", ".claude"]),
        ("src/a.py", ["src"], ["src/a.py", "docs"]),
    ],
)
def test_folders_that_may_hold_what_a_glob_means(glob: str, inside: list[str], outside: list[str]) -> None:
    assert [may_hold([glob], folder) for folder in (*inside, *outside)] == [True] * len(inside) + [False] * len(outside)


def test_the_folder_that_a_glob_starts_from() -> None:
    globs = ("a.py", "src/a.py", "src/deep/*.py", "src/*/a.py", "src/**", "**/a.py")
    assert [base(glob) for glob in globs] == ["", "src", "src/deep", "src", "src", ""]
