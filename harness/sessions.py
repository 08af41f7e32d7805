"""A CLI's own session that goes on from proposal to proposal: its private HOME, kept for the night, and the session's id.

The id is noted outside the HOME, after a proposal that ended well, and taken away while the next one is at work. So a harness
that was killed, and a session that broke, leave none, and the agent begins anew in an empty HOME.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import trees
from harness.folders import replace
from harness.models import AgentSpec, Outcome
from harness.state import StateFolder
from harness.usage import written

ENDED_WELL = ("changed", "unchanged", "refused_file", "rate_limited", "network", "auth", "quota")
LOST = ("crashed", "context")  # what comes of a session that is gone, broken, or too long: asked again without it
IDENTIFIER = re.compile(r"\w[\w.:-]{0,127}", re.ASCII)  # as an argument it can be taken for no option
MOST_BYTES = 1 << 30
MOST_FILES = 50_000


@dataclass(frozen=True)
class Session:
    """The HOME of one proposal, and the session to go on with; its id is empty when a new one begins."""

    home: Path
    id: str = ""


def owner(spec: AgentSpec, worker: int) -> str:
    """Whose HOME and session these are: an agent that works in two slots at a time has two of them."""
    return spec.name if worker == 1 else f"{spec.name}@{worker}"


def begin(state: StateFolder, tag: str, spec: AgentSpec, worker: int) -> Session:
    """The session that an agent's next proposal in a worker's slot goes on with, or an empty HOME."""
    note, home = state.session(tag, owner(spec, worker)), state.home(tag, owner(spec, worker))
    known = ""
    with suppress(OSError, UnicodeDecodeError):
        known = note.read_text("utf-8")
    note.unlink(missing_ok=True)
    if spec.context == "resume" and IDENTIFIER.fullmatch(known) and _usable(home):
        return Session(home, known)
    trees.remove(home)
    home.mkdir(parents=True)
    return Session(home)


def end(state: StateFolder, tag: str, spec: AgentSpec, worker: int, told: str, outcome: Outcome) -> None:
    """Note the session that a proposal named, if the next one may go on with it."""
    if spec.context == "resume" and outcome.kind in ENDED_WELL and IDENTIFIER.fullmatch(told):
        replace(state.session(tag, owner(spec, worker)), told)


def _usable(home: Path) -> bool:
    """Whether a HOME as an agent left it is a folder of a sensible size; its permissions are mended."""
    with suppress(OSError), trees.opened(str(home)):
        found = written((home,), MOST_FILES)
        return found.files <= MOST_FILES and found.size <= MOST_BYTES and not found.deep
    return False
