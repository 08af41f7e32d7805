"""Who may look. Pure, but for the random numbers of a start.

A browser carries anybody's requests to 127.0.0.1: those of a page that had its own name point there (DNS rebinding) carry that
name as Host; those of a foreign page say so in Origin or Sec-Fetch-Site; and none of them knows the token. Cookies do not tell
ports of one address apart, so another user's server on this machine would be sent ours: that is why it belongs to a path that
nobody can guess.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

COOKIE = "harness"
METHODS = ("GET", "HEAD")
OURS = ("same-origin", "none")  # none: typed, a bookmark, or opened by another program


class Headers(Protocol):
    """The headers of a request."""

    def getall(self, key: str, default: Sequence[str], /) -> Sequence[str]:
        """Every value of a header."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is a status and a sentence."""

    status: int
    reason: str


def _secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Door:
    """One start of the server: where it listens, and what opens it. `folder` is the path of the page, with `/` at both ends."""

    address: str
    port: int
    token: str = field(default_factory=_secret, repr=False)
    session: str = field(default_factory=_secret, repr=False)
    folder: str = field(default_factory=lambda: f"/{secrets.token_urlsafe(12)}/", repr=False)
    passes: set[str] = field(default_factory=set, repr=False)

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """Where it listens."""
        return ipaddress.ip_address(self.address)

    @property
    def site(self) -> str:
        """Its origin, as a browser on this machine says it."""
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}"

    @property
    def url(self) -> str:
        """The address for people; it works as often as they like."""
        return f"{self.site}/?token={self.token}"

    def once(self) -> str:
        """An address that works once: on the command line of a browser everybody on the machine can read it."""
        self.passes.add(made := _secret())
        return f"{self.site}/?token={made}"

    def opens(self, token: str) -> bool:
        """Whether this is the token, or one that works once and did not yet."""
        used = {each for each in self.passes if _same(each, token)}
        self.passes.difference_update(used)
        return _same(self.token, token) or bool(used)

    def knows(self, cookie: str) -> bool:
        """Whether this is what a browser got for the token."""
        return _same(self.session, cookie)

    def refusal(self, method: str, headers: Headers) -> Refusal | None:
        """Why a request is not even asked for its token; None when it is."""
        hosts, origins, sites = (headers.getall(name, ()) for name in ("Host", "Origin", "Sec-Fetch-Site"))
        if method not in METHODS:
            return Refusal(405, "this is for reading: GET and HEAD are all that it answers")
        if len(hosts) != 1 or not self._own(hosts[0]):
            return Refusal(403, f"this is {self.site} and no other host or port")
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins) or not set(sites) <= set(OURS):
            return Refusal(403, "another site asked for this page: copy its address into the address bar")
        return None

    def _own(self, host: str) -> bool:
        """Whether a Host header names where we listen; where that is every address of the machine, any number of an address."""
        name, _, port = (host if re.search(r":\d+$", host) else f"{host}:80").rpartition(":")
        if port != str(self.port):
            return False
        try:
            found = ipaddress.ip_address(name[1:-1] if name[:1] + name[-1:] == "[]" else name)
        except ValueError:
            return name.lower() == "localhost" and (self.ip.is_loopback or self.ip.is_unspecified)
        return found == self.ip or self.ip.is_unspecified


def _same(one: str, other: str) -> bool:
    """Compared in a time that says nothing of where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))
