"""The server: addresses of the page, of what runs now, and of each experiment by its number. No path is one of a file, and
nothing is ever written.

One request a connection, so that a connection has one deadline: for its head, until it has shown that it may look. Whoever
cannot show that is dropped first when there are too many.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import logging
import re
import signal
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from harness import git
from harness.models import UserError
from harness.report.page import own
from harness.serve.door import COOKIE, METHODS, Door, Refusal
from harness.serve.now import now
from harness.serve.press import PASSING, Press

HEAD_S, STALL_S = 10.0, 60.0  # for the head of a request; for each part of a page to be taken
LOOK_S, PATIENCE_S = 0.5, 10.0  # for news of what runs, and for a newer page than there is
STRANGERS, GUESTS = 64, 64  # connections that have not shown yet that they may look, and those that have
PART = 1 << 16
EXPERIMENT = re.compile(r"experiment/([0-9]{4,9})", re.ASCII)
CLOSED = "default-src 'none'; frame-ancestors 'none'"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CLOSED,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "harness",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LOCKED = "this needs the address that `harness serve` printed, with its token; each start has a new one"


class Hall(web.Server):
    """Connections, and which of them are strangers."""

    def __init__(self, handler: Any) -> None:
        """Nobody is there."""
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self.strangers: dict[Any, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}
        self.guests: set[Any] = set()

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """A new connection; where there are too many, the stranger that has been here longest goes."""
        super().connection_made(handler, transport)
        if len(self.strangers) >= STRANGERS:
            oldest = next(iter(self.strangers))
            self.strangers[oldest][0].abort()
            self._forget(oldest)
        self.strangers[handler] = (transport, asyncio.get_running_loop().call_later(HEAD_S, transport.abort))

    def connection_lost(self, handler: Any, error: BaseException | None = None) -> None:
        """One less."""
        self._forget(handler)
        self.guests.discard(handler)
        super().connection_lost(handler, error)

    def greet(self, handler: Any) -> bool:
        """A stranger no more; False when there are too many guests."""
        self._forget(handler)
        self.guests.add(handler)
        return len(self.guests) <= GUESTS

    def _forget(self, handler: Any) -> None:
        if found := self.strangers.pop(handler, None):
            found[1].cancel()


class Site:
    """One night, for those who come through the door."""

    def __init__(self, repo: git.Repo, tag: str, door: Door, ended: asyncio.Future[None]) -> None:
        """`ended` gets the exception when there is a bug."""
        self.door, self.ended = door, ended
        self.press, self.hall = Press(repo, tag, self.bug), Hall(self.handle)
        self.policy = f"{own(live=True)['policy']}; frame-ancestors 'none'"

    def bug(self, error: BaseException) -> None:
        """End the server with an error."""
        if not self.ended.done():
            self.ended.set_exception(error)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        try:
            return await self.answer(request)
        except (OSError, asyncio.CancelledError):  # whoever asked is gone
            raise
        except Exception as error:
            if request.protocol not in self.hall.guests:  # a stranger's words end nothing
                return _text(Refusal(400, "nobody understands this request"))
            self.bug(error)
            return _text(Refusal(500, "this is a bug of ours, and it ends the server"))

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Refuse, let in, or show. The path is compared as it was sent, never decoded, and never made a file's."""
        path, _, query = request.raw_path.partition("?")
        if refused := self.door.refusal(request.method, request.headers):
            return _text(refused)
        if path == "/" and self.door.opens(_token(query)):
            return self._enter()
        if not self.door.knows(request.cookies.get(COOKIE, "")):
            return _text(Refusal(403, LOCKED))
        if not self.hall.greet(request.protocol):
            return _text(Refusal(503, "too many look at this page at the same time"))
        if path == self.door.folder:
            return await self._page(request)
        if path == f"{self.door.folder}live":
            return await self._live()
        if path.startswith(self.door.folder) and (found := EXPERIMENT.fullmatch(path, len(self.door.folder))):
            return await self._experiment(found[1])
        return _text(Refusal(404, f"nothing is here: the page is {self.door.site}{self.door.folder}"))

    def _enter(self) -> web.Response:
        """The token for a cookie, and on to an address without it."""
        answer = web.Response(status=303, headers={**HEADERS, "Location": self.door.folder})
        answer.set_cookie(COOKIE, self.door.session, path=self.door.folder, httponly=True, samesite="Strict")
        answer.force_close()
        return answer

    async def _live(self) -> web.Response:
        """What runs now, and the version of the newest edition; asking for it is what makes a newer one."""
        await self.press.look(LOOK_S)
        edition, live = self.press.edition, self.press.live
        told = {"version": edition.version if edition else "", "problem": self.press.problem, **(now(live) if live else {})}
        return _json(json.dumps(told).encode())

    async def _experiment(self, name: str) -> web.Response:
        """What the page shows of one experiment when somebody opens it."""
        try:
            return _json(await self.press.experiment(name))
        except UserError as error:
            return _text(Refusal(404, str(error)))
        except PASSING as error:
            return _text(Refusal(503, str(error)))

    async def _page(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.press.look(PATIENCE_S)
        if (edition := self.press.edition) is None:
            return _text(Refusal(503, self.press.problem))
        look = {"Content-Security-Policy": self.policy, "Content-Type": "text/html; charset=utf-8"}
        answer = web.StreamResponse(headers={**HEADERS, **look, "Content-Length": str(len(edition.html))})
        answer.force_close()
        await answer.prepare(request)
        try:
            for start in range(0, len(edition.html), PART) if request.method == "GET" else ():
                async with asyncio.timeout(STALL_S):  # a slow reader holds a part of the page in memory, never a copy of it
                    await answer.write(edition.html[start : start + PART])
        except TimeoutError:
            if request.transport:
                request.transport.abort()
        return answer


def _token(query: str) -> str:
    try:
        return parse_qs(query, max_num_fields=10, errors="surrogateescape").get("token", [""])[0]
    except ValueError:  # more fields than anybody needs
        return ""


def _json(body: bytes) -> web.Response:
    answer = web.Response(body=body, headers={**HEADERS, "Content-Type": "application/json"})
    answer.force_close()
    return answer


def _text(said: Refusal) -> web.Response:
    more = {"Content-Type": "text/plain; charset=utf-8"} | ({"Allow": ", ".join(METHODS)} if said.status == 405 else {})
    answer = web.Response(status=said.status, body=f"harness: {said.reason}\n".encode(), headers={**HEADERS, **more})
    answer.force_close()
    return answer


def listen(address: str, port: int) -> socket.socket:
    """A listening socket; a UserError where there can be none. Port 0 is any that is free."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    except ValueError:
        raise UserError(f"--address {address} is no IP address: leave it out, or write one such as 127.0.0.1") from None
    try:
        return socket.create_server((address, port), family=family, backlog=STRANGERS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} of {address} is in use: choose another with --port, or --port 0 for any") from error
        why = f"{error.strerror}; choose with --address and --port"
        raise UserError(f"nothing can listen at {address}, port {port}: {why}") from error


def serve(repo: git.Repo, tag: str, listening: socket.socket, ready: Callable[[Door], None]) -> None:
    """Serve a night until SIGINT or SIGTERM; `ready` is told when the first request can be made."""
    logging.disable()  # libraries quote what they stumble over, which is anybody's
    try:
        asyncio.run(_serve(repo, tag, listening, ready))
    finally:
        logging.disable(logging.NOTSET)


async def _serve(repo: git.Repo, tag: str, listening: socket.socket, ready: Callable[[Door], None]) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    address, port, *_ = listening.getsockname()
    door = Door(address, port)
    runner = web.ServerRunner(Site(repo, tag, door, ended).hall, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        ready(door)
        await ended
    finally:
        await runner.cleanup()
