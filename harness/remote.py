"""The branches of another repository: listed, fetched, pushed. Nothing is ever forced, and no secret is part of a URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from harness import git, refs
from harness.models import UserError

BEHIND = ("fastforward", "fast-forward", "not present locally")  # how libgit2 says that a push would have to be forced
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def tracked(branch: str) -> str:
    """The ref that says where a branch of ours was on the forge when we last pushed or fetched it."""
    return f"refs/forge/{branch}"


class Refused(UserError):
    """The other repository did not take a push."""


class Login(git.Callbacks):
    """Gives the token to the host that it belongs to, once, and only where nobody can listen; notes what a push came to."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__()
        self._host, self._token, self._asked = urlsplit(url).hostname, token, False
        self.refused: dict[str, str] = {}

    def credentials(self, url: str, username_from_url: str | None, allowed_types: object) -> git.UserPass:
        """The token as the password of a user whom forges ignore."""
        found = urlsplit(url)
        safe = found.scheme == "https" or (found.scheme == "http" and found.hostname in LOOPBACK)
        if not self._token or not safe or found.hostname != self._host:
            raise UserError(f"{_plain(url)} asks for a password that the harness does not have: see docs/review.md for tokens")
        if self._asked:
            raise UserError(f"{_plain(url)} refused the token: it needs the right to write contents (`gh auth status` shows it)")
        self._asked = True
        return git.UserPass("x-access-token", self._token)

    def push_update_reference(self, refname: str, message: str | None) -> None:
        """What the other side says of one ref; None when it took it."""
        if message is not None:
            self.refused[refname] = message


class Remote:
    """Another repository at a `url`, for a while."""

    def __init__(self, repo: git.Repo, url: str, token: str = "") -> None:
        """Nothing is asked yet."""
        self._repo, self.url, self._token = repo, url, token
        self._remote = repo.remotes.create_anonymous(url)

    def refs(self, prefix: str) -> dict[str, str]:
        """Every ref there below `prefix`, with the id it points at."""
        with _told(self.url):
            listed = self._remote.list_heads(callbacks=Login(self.url, self._token))
        return {str(head.name): str(head.oid) for head in listed if str(head.name).startswith(prefix)}

    def fetch(self, branch: str) -> str | None:
        """Bring a branch here, as a ref that nobody works on; its commit, or None when there is no such branch."""
        if f"refs/heads/{branch}" not in self.refs(f"refs/heads/{branch}"):
            return None
        with _told(self.url):
            self._remote.fetch([f"+refs/heads/{branch}:{tracked(branch)}"], callbacks=Login(self.url, self._token))
        return refs.resolve(git.Repo(self._repo.path), tracked(branch))

    def push(self, specs: list[str]) -> None:
        """Push `ours:theirs` refspecs, and delete with `:theirs`; a Refused when they would have to be forced."""
        if not specs:
            return
        login = Login(self.url, self._token)
        with _told(self.url):
            self._remote.push(specs, callbacks=login)
        if login.refused:
            ref, why = next(iter(login.refused.items()))
            raise Refused(f"{_plain(self.url)} did not take {ref}: {why}; `harness sync` brings what it has, then push again")


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turns what git says of a remote into a sentence for people."""
    try:
        yield
    except git.GitError as error:
        if any(words in str(error) for words in BEHIND):
            raise Refused(
                f"{_plain(url)} has commits that are not here, and nothing is ever forced: run `harness sync`"
            ) from error
        raise UserError(f"{_plain(url)} cannot be reached: {error}; check its address and your rights") from error


def _plain(url: str) -> str:
    """A URL without a name or a password in it."""
    found = urlsplit(url)
    return url if not found.hostname else found._replace(netloc=found.netloc.rpartition("@")[2]).geturl()
