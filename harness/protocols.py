"""The seams of the engine, all in one place. Each has at least two real implementations, named in one table a seam."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from harness.models import AgentSpec, Limits, Measurement, Request
from harness.profiles import PROFILES, Role


@dataclass(frozen=True)
class Line:
    """The way from one proposal to its LLM provider, through the gateway. `key` opens this line only and is no secret.

    `url` is what the agent is told. With a `socket` it is a relay's on the sandbox's own loopback that leads there. `proxy`: it
    is the weaker way, a proxy that passes on connections to a few hosts, for an agent that holds its own login.
    """

    url: str
    key: str
    socket: Path | None = None
    proxy: bool = False


@dataclass(frozen=True)
class Box:
    """What one sandboxed process may see. Every path is bound at its own place, so a path means the same on both sides.

    `hidden` wins over everything: a hidden file reads as empty, or not at all. The order is: readable, writable, frozen
    (read-only files and folders inside writable ones), hidden. `fds` are inherited. There is no network but `gateway`.
    `limits` are settled ones (limits.settle), for everything in it together. `terminal`: it keeps the one it is started at.
    A box with more than the profile of its role has is a ValueError.
    """

    cwd: Path
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    frozen: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    home: Path | None = None
    gpu: bool = False
    fds: tuple[int, ...] = ()
    limits: Limits | None = None
    gateway: Line | None = None
    terminal: bool = False
    role: Role = "agent"

    def __post_init__(self) -> None:
        profile = PROFILES[self.role]
        asked = {
            "gpu": self.gpu,
            "home": self.home is not None,
            "writes": bool(self.writable),
            "gateway": self.gateway is not None,
        }
        if more := [name for name, given in asked.items() if given and not getattr(profile, name)]:
            raise ValueError(f"the profile {self.role!r} has no {' and no '.join(more)}")

    @property
    def places(self) -> tuple[Path, ...]:
        """The folders and files outside that can be written to."""
        return (*self.writable, *([self.home] if self.home else []))


@dataclass(frozen=True)
class Launch:
    """A command ready to be spawned: nothing in it needs interpretation. `{info_fd}` in argv asks for bubblewrap's pid report.

    With `limits` the tree is held to them, in `places` too, by the best means of this machine or those that `enforce` names.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    fds: tuple[int, ...] = ()
    limits: Limits | None = None
    places: tuple[Path, ...] = ()
    enforce: str = ""


@dataclass(frozen=True)
class Exit:
    """How a process tree ended. `code` is negative for a signal; `tail` the last bytes of its output as text.

    `exceeded` says what it did too much of, as in "wrote more than 100 MB"; `limits` who held it to that.
    """

    code: int
    seconds: float
    cpu_s: float
    peak_memory_mb: float
    tail: str
    timed_out: bool = False
    cancelled: bool = False
    exceeded: str = ""
    limits: str = ""


Cancel = Callable[[], bool]


class Sandbox(Protocol):
    """Confines one command. `network` is what a command in it can reach: a loopback of its own, the host's, or none at all."""

    name: str
    network: Literal["own", "host", "none"]

    def problem(self, secret: tuple[Path, ...] = ()) -> str | None:
        """Why this sandbox cannot be used here or would show a `secret` folder, and what mends it; None when all is well."""

    def wrap(self, argv: list[str], box: Box) -> AbstractContextManager[Launch]:
        """The command that runs `argv` confined to `box`; what it needs on disk lives as long as the context."""


class Agent(Protocol):
    """Turns a prompt into changes of a worktree."""

    spec: AgentSpec

    def propose(self, prompt: str, box: Box, log: Path, seed: int, deadline_s: float, cancel: Cancel, session: str = "") -> Exit:
        """Run the agent in its sandbox until it ends, is cancelled or `deadline_s` seconds are over; its tree is dead after.

        With a `session`, the id of one that it had in the same HOME, it goes on with that.
        """


@dataclass(frozen=True)
class Offer:
    """An experiment that waits for a person, as a forge is to show it: `branch`, at `commit`, would be merged into `into`.

    `title` and `body` are Markdown for people; what candidates wrote is quoted in them. The first line of the body says which
    experiment it is of. `news` is the part of it that changes later; `notes` are what people there have to be told once.
    """

    experiment: str
    branch: str
    commit: str
    into: str
    title: str
    body: str
    label: str
    news: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What people did with an offer, and who; `merged` is the commit on the lab branch there that holds it.

    What a `reason` says after a semicolon is for people at the forge to know as well.
    """

    kind: Literal["accept", "reject"]
    by: str
    merged: str | None = None
    reason: str = ""


class Forge(Protocol):
    """Where people look at branches and merge them. `url` is what git pushes to, `records`: whether records go there, too."""

    name: str
    url: str
    records: bool

    def token(self) -> str:
        """What git shows as its password at `url`; empty where it needs none."""

    def offer(self, offer: Offer) -> str:
        """Show a branch that was pushed, once however often it is asked, and `update` it; where it can be seen."""

    def update(self, offer: Offer) -> None:
        """Bring what is shown of it up to date, and tell people there the notes, each once. Harmless where nothing is shown."""

    def answers(self, offers: list[Offer]) -> dict[str, Answer]:
        """What people did with them since, by experiment; none for what still waits."""


class Runner(Protocol):
    """Executes measurements somewhere."""

    def measure(self, request: Request, cancel: Cancel) -> Measurement | None:
        """One timed run of a candidate; None when it was cancelled."""
