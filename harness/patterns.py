"""Names and globs of a task -> which files of a tree may be changed. Pure.

As in .gitignore, but always from the root of the repository: `*`, `?` and `[a-z]` stay within one name, `**/` crosses
folders, a last `/**` means everything inside. A name that equals its pattern is meant literally, brackets and all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

# Files that coding agents read by themselves; in a repository they are for people who work on it, not for a proposal.
INSTRUCTIONS = ("AGENTS.md", "CLAUDE.md", "GEMINI.md", "QWEN.md", ".cursorrules", ".aider.conf.yml", ".mcp.json")
INSTRUCTION_FOLDERS = (".claude", ".cursor", ".codex", ".gemini")
NEVER = {name.casefold() for name in (*INSTRUCTIONS, *INSTRUCTION_FOLDERS, ".git", "git~1", "__pycache__")}
VARIANTS = "variants"  # where an agent leaves several variants of an idea, a numbered folder each
OURS = ("lab", "notes", VARIANTS)  # at the root of a worktree: what the harness tells agents, and what they tell it


def editable_files(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """The files of a tree that match the task's names and globs."""
    return sorted(name for name in names if editable(patterns, name))


def editable(patterns: Sequence[str], name: str) -> bool:
    """Whether the task means this file. A glob never means .gitattributes, .github and the like: they act in every clone."""
    if reserved(name):
        return False
    dot_git = any(part.casefold().startswith(".git") for part in name.split("/"))
    return name in patterns or (not dot_git and any(_fits(name.split("/"), each.split("/"), below=False) for each in patterns))


def reserved(name: str) -> bool:
    """Whether a path belongs to git, to the harness or to other people's agents, whatever the task says."""
    parts = name.split("/")
    return parts[0] in OURS or any(part.casefold().rstrip(" .") in NEVER for part in parts)


def may_hold(patterns: Iterable[str], folder: str) -> bool:
    """Whether something below `folder` may be editable; "" is the root."""
    parts = folder.split("/") if folder else []
    return not reserved(folder) and any(_fits(parts, each.split("/"), below=True) for each in patterns)


def base(pattern: str) -> str:
    """The innermost folder that everything meant by the pattern lies in; "" is the root."""
    parts = pattern.split("/")[:-1]
    return "/".join(parts[: next((index for index, part in enumerate(parts) if is_glob(part)), len(parts))])


def is_glob(pattern: str) -> bool:
    """Whether a pattern can mean more than one file."""
    return re.search(r"[*?[\\]", pattern) is not None


def _fits(parts: Sequence[str], pattern: Sequence[str], below: bool) -> bool:
    """Whether a path fits a pattern or, with `below`, something that lies below the path may."""
    if not parts:
        return bool(pattern) is below
    if not pattern:
        return False
    if pattern[0] == "**":
        rest = pattern[1:]
        return not rest or _fits(parts, rest, below) or _fits(parts[1:], pattern, below)
    same = parts[0] == pattern[0] or fnmatchcase(parts[0], _component(pattern[0]))
    return same and _fits(parts[1:], pattern[1:], below)


def _component(pattern: str) -> str:
    """One part of a pattern in the dialect of fnmatch, which negates with `!` and has no backslash."""
    escaped = re.sub(r"\\(.)", lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], pattern)
    return escaped.replace("[^", "[!")
