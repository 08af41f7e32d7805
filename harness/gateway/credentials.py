"""The real keys: where they come from, and how they are shown to a provider. They are never printed, not even in part."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness.agentspec import Provider
from harness.models import UserError
from harness.process import run
from harness.protocols import Launch

WAIT_S = 120  # a command may ask its user to touch something
OAUTH_TOKEN, OAUTH_BETA = "sk-ant-oat", "oauth-2025-04-20"  # what `claude setup-token` makes, and what it is sent with


def set_by_variable(provider: Provider, env: Mapping[str, str]) -> str:
    """The variable that the key is taken from; empty when none is set."""
    return next((name for name in provider.variables if env.get(name, "").strip()), "")


def source(provider: Provider, env: Mapping[str, str]) -> str:
    """What the key comes from, for people: a variable's name or the command's; empty when the provider needs none."""
    return set_by_variable(provider, env) or (f"`{' '.join(provider.key_cmd)}`" if provider.key_cmd else "")


def key(agent: str, provider: Provider, env: Mapping[str, str]) -> str:
    """The key, empty for a provider that needs none; a UserError names the variable to set."""
    if not provider.variables and not provider.key_cmd:
        return ""
    if name := set_by_variable(provider, env):
        return checked(env[name].strip(), f"the variable {name}", agent)
    if not provider.key_cmd:
        names = " or ".join(provider.variables)
        raise UserError(f"agent {agent!r} needs a key: set {names} in the environment that `harness` is started from")
    return from_command(agent, provider, env)


def from_command(agent: str, provider: Provider, env: Mapping[str, str]) -> str:
    """What `key_cmd` prints last; it runs with the user's own environment."""
    command = " ".join(provider.key_cmd)
    try:
        ended = run(Launch(tuple(provider.key_cmd), dict(env), Path("/")), Path(os.devnull), WAIT_S)
    except OSError as error:
        raise UserError(f"the key_cmd of agent {agent!r}, `{command}`, does not start: {error.strerror}") from None
    lines = [line.strip() for line in ended.tail.splitlines() if line.strip()]
    if ended.code != 0 or not lines:
        how = "took too long" if ended.timed_out else f"failed with exit code {ended.code}" if ended.code else "printed nothing"
        raise UserError(f"the key_cmd of agent {agent!r}, `{command}`, {how}: run it by hand to see why")
    return checked(lines[-1], f"what `{command}` printed", agent)


def checked(value: str, what: str, agent: str) -> str:
    """A key that can be sent in a header; what is wrong with it is said without showing it."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UserError(f"{what} is not a key that agent {agent!r} could use: it holds spaces or other odd characters")
    return value


def shown(provider: Provider, secret: str, betas: str) -> dict[str, str]:
    """The headers that show a key to the provider. `betas` is the request's own anthropic-beta header, empty for none."""
    if not secret:
        return {}
    subscription = provider.api == "anthropic" and secret.startswith(OAUTH_TOKEN)
    usual = {"anthropic": "bearer" if subscription else "x-api-key", "gemini": "x-goog-api-key"}.get(provider.api, "bearer")
    way = usual if provider.auth == "auto" else provider.auth
    added = {"authorization": f"Bearer {secret}"} if way == "bearer" else {way: secret}
    if subscription and OAUTH_BETA not in betas.split(","):
        added["anthropic-beta"] = f"{betas},{OAUTH_BETA}" if betas else OAUTH_BETA
    return added
