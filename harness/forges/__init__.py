"""Where people look at branches: each implementation one file, chosen here by the address of a remote."""

from __future__ import annotations

import os
from pathlib import Path

from harness import git
from harness.forges.github import GitHub, address
from harness.forges.local import Local
from harness.models import UserError
from harness.protocols import Forge


def get(repo: git.Repo, remote: str | None) -> tuple[str, Forge]:
    """A remote's name and the forge at its address: `remote`, the only one there is, or origin."""
    names = [name for name in repo.remotes.names() if name]
    chosen = remote or (names[0] if len(names) == 1 else "origin")
    if chosen not in names:
        known = f"there are: {', '.join(names)}" if names else "add one: `git remote add origin URL`"
        raise UserError(f"there is no remote {chosen!r}, name one with --remote; {known}")
    url = str(repo.config[f"remote.{chosen}.url"])
    if place := address(url):
        return chosen, GitHub(*place)
    if os.path.lexists(url) or "://" not in url:
        url = os.path.normpath(Path(git.root(repo), url)) if ":" not in url else url
    return chosen, Local(repo, url)
