"""Names in an entry of agents.yaml, and what it says of `network: provider`: the hosts that it may reach, and its login."""

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


KEY = re.compile(r"\b(sk-[\w-]{20,}|AIza[\w-]{30,}|gh[pousr]_\w{30,}|github_pat_\w{30,}|hf_\w{30,}|gsk_\w{30,}|xai-\w{30,})")


def plain_name(text: str) -> str:
    """Reject what cannot be an agent's name: it is part of paths, of options and of trailers in commit messages."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", text):
        raise ValueError(f"{text!r} cannot be an agent's name: use up to 40 letters, digits, '-', '_' and '.'")
    return text


def variable(text: str) -> str:
    """Reject what is not the name of a variable, without repeating it: it may be the key itself."""
    if KEY.search(text) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,79}", text):
        raise ValueError("the name of an environment variable is expected, such as OPENAI_API_KEY, and never the key itself")
    return text


def no_key(text: str) -> str:
    """Reject a key, without repeating it."""
    if KEY.search(text):
        raise ValueError("this holds what looks like a key, which git and the sandbox would show: name its variable in `key_env`")
    return text


Open = Annotated[str, AfterValidator(no_key)]
Host = Annotated[str, AfterValidator(named)]


class Login(Written):
    """A login that an agent holds itself, in a HOME that the harness keeps for it and lends to one proposal at a time."""

    files: Annotated[NonEmpty, AfterValidator(lambda paths: [beneath(path) for path in paths])]
    """What it consists of, as paths below HOME; whatever else a proposal leaves there is removed before the next."""
    command: list[str] = []
    """What `harness agents login NAME` starts at your terminal, outside the sandbox, with that HOME."""
