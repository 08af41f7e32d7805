"""A provider as seen from here: the key it is shown, the pace it wants, and how often it is asked the same thing again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from harness.agentspec import Provider
from harness.gateway import content, credentials
from harness.gateway.answers import Refused, Trouble
from harness.gateway.content import Asked
from harness.gateway.journal import Note
from harness.gateway.meter import Meter
from harness.gateway.pace import Account, jitter
from harness.models import UserError

TRIES = 5
PATIENCE_S = 120.0  # how long a request is held back before its agent is told
SILENCE_S = 600.0
LARGEST_ERROR = 1 << 20


class Broken(Exception):
    """The provider broke off in the middle of an answer."""


@dataclass
class Exchange:
    """What is known of one request while it is under way."""

    url: str
    method: str
    headers: dict[str, str]
    asked: Asked
    note: Note
    meter: Meter
    sent: float = 0.0  # when it was handed to the provider, which has not refused it; 0 before
    error: bytes = b""  # what the provider said when it refused


@dataclass
class Upstream:
    """An agent's provider, with the key that its requests are given."""

    agent: str
    provider: Provider
    secret: str
    account: Account
    session: aiohttp.ClientSession
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def trouble(self) -> Trouble:
        """What the night calls it when the account makes everybody wait."""
        return "quota" if self.account.quota else "rate_limited"

    def scrubbed(self, data: bytes) -> bytes:
        """What a provider said, without the key if it repeats that."""
        return data.replace(self.secret.encode(), b"[the key]") if self.secret else data

    @asynccontextmanager
    async def answer(self, exchange: Exchange) -> AsyncIterator[aiohttp.ClientResponse]:
        """The provider's answer, after as many tries as are reasonable."""
        end = time.monotonic() + PATIENCE_S
        for tries in range(1, TRIES + 1):
            await self._turn(end)
            exchange.note.retries = tries - 1
            secret = self.secret
            answer = await self._send(exchange, secret, last=tries == TRIES, end=end)
            if answer is None:
                continue
            async with answer:
                if answer.status < 300:
                    self.account.learn(answer.status, answer.headers)
                    yield answer
                    return
                exchange.sent = 0.0
                again = await self._failed(answer, secret, exchange)
                if not again or tries == TRIES or self.account.wait_s() > end - time.monotonic():
                    yield answer
                    return

    async def _send(self, exchange: Exchange, secret: str, last: bool, end: float) -> aiohttp.ClientResponse | None:
        """The beginning of an answer; None when the provider was not reached and may be tried again."""
        headers = {**exchange.headers, **credentials.shown(self.provider, secret, exchange.headers.get("anthropic-beta", ""))}
        exchange.sent = time.monotonic()
        try:
            return await self.session.request(
                exchange.method,
                URL(exchange.url, encoded=True),
                data=exchange.asked.body or None,
                headers=headers,
                allow_redirects=False,
                proxy=_proxy(exchange.url),
            )
        except aiohttp.SocketTimeoutError:
            raise Refused(504, f"the provider said nothing for {SILENCE_S:.0f} s", "network") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            exchange.sent = 0.0
            raise Refused(502, "the provider's certificate is not one that this machine trusts", "network") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            self.account.lost()
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                exchange.sent = 0.0
            if last or self.account.wait_s() > end - time.monotonic():
                raise Refused(502, f"the provider cannot be reached ({type(error).__name__})", "network") from None
        return None

    async def _failed(self, answer: aiohttp.ClientResponse, secret: str, exchange: Exchange) -> bool:
        """Learn from an error; whether to ask again."""
        if answer.status < 400:
            raise Refused(502, "the provider answered with a redirect, which is not followed", "network")
        try:
            exchange.error = said = await whole(answer, LARGEST_ERROR)
        except Broken:
            raise Refused(502, "the provider broke off its answer", "network") from None
        if answer.status == 401:
            if await self._refresh(secret):
                return True
            self.account.refused = (
                f"the provider refused the key from {credentials.source(self.provider, os.environ) or 'nowhere'}"
            )
            raise Refused(401, self.account.refused, "auth")
        if exchange.asked.added and answer.status in (400, 422) and b"stream_options" in said:
            exchange.asked = content.without_usage(exchange.asked)
            return True
        return self.account.learn(answer.status, answer.headers, said)

    async def _refresh(self, refused: str) -> bool:
        """Whether there is another key than the one that was refused: the command that prints it is run, by one for all."""
        async with self.refreshing:
            if self.secret == refused and self.provider.key_cmd and not credentials.set_by_variable(self.provider, os.environ):
                try:
                    self.secret = await asyncio.to_thread(credentials.from_command, self.agent, self.provider, os.environ)
                except UserError:
                    return False
        return self.secret != refused

    async def _turn(self, end: float) -> None:
        """Wait until the account may be used; Refused when that takes longer than an agent would wait."""
        while (wait := self.account.wait_s()) > 0:
            if time.monotonic() + wait > end:
                raise Refused(429, f"the provider must not be asked now: {self.account.reason}", self.trouble(), wait)
            await asyncio.sleep(wait + jitter(min(wait, 1.0)))


def _proxy(url: str) -> str | None:
    """The HTTP proxy that the user's own environment names for a URL."""
    target = URL(url)
    if not target.host or target.host in ("127.0.0.1", "::1", "localhost") or proxy_bypass(target.host):
        return None
    return getproxies().get(target.scheme)


async def parts(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """An answer's body as it comes; Broken when the provider hangs up."""
    try:
        async for part in answer.content.iter_any():
            yield part
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Broken from error


async def whole(answer: aiohttp.ClientResponse, largest: int) -> bytes:
    """An answer's body; Broken when it is larger than `largest` bytes."""
    found, size = [], 0
    async for part in parts(answer):
        found.append(part)
        if (size := size + len(part)) > largest:
            raise Broken
    return b"".join(found)
