"""What an entry of agents.yaml says of `network: provider`: which hosts it may reach, and what its login consists of."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from harness.value import NonEmpty, Written

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(
    rf"(?=.{{1,253}}$)({LABEL}\.)+(?=[a-z]){LABEL}"
)  # the last label of a name begins with a letter, no address's does


def named(text: str) -> str:
    """Reject what is not the full name of one host."""
    if not HOST.fullmatch(text):
        raise ValueError(f"{text!r} is not the full name of a host, such as api.example.com: no address, no port, no wildcard")
    return text


def beneath(text: str) -> str:
    """Reject what is not a path below HOME."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{text!r} is not a path below HOME, such as .codex/auth.json")
    return str(path)


Host = Annotated[str, AfterValidator(named)]


class Login(Written):
    """A login that an agent holds itself, in a HOME that the harness keeps for it and lends to one proposal at a time."""

    files: Annotated[NonEmpty, AfterValidator(lambda paths: [beneath(path) for path in paths])]
    """What it consists of, as paths below HOME; whatever else a proposal leaves there is removed before the next."""
    command: list[str] = []
    """What `harness agents login NAME` starts at your terminal, outside the sandbox, with that HOME."""
