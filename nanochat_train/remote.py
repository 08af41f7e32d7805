"""What is known of files that are to be loaded, and how long to try. Free of the HTTP client, which is slow to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.models import Value


@dataclass(frozen=True)
class Remote:
    """A file to load: the name that it gets, and what is known of it. `about` is its size for the eye."""

    name: str
    url: str
    about: int
    sha256: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long to try: so many tries in a row that bring nothing new, pauses that begin with `wait_s` and double."""

    tries: int = 6
    wait_s: float = 1.0
    stall_s: float = 30.0  # of silence, then the connection is given up
    streams: int = 4


PATIENT = Patience()


class Known(Value):
    """What is known of a loaded file, and from whom."""

    sha256: str
    by: Literal["pinned", "server", "first download"]
