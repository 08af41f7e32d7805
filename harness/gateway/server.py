"""The gateway's process: opens and closes lines as the night asks, and ends with it."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
import time
import traceback
from typing import Any

import aiohttp
from aiohttp import web

from harness.gateway import prices
from harness.gateway.control import Closed, Start, State, Wait, receive, send
from harness.gateway.journal import Journal
from harness.gateway.pace import NEVER, Account
from harness.gateway.proxy import Line
from harness.gateway.purse import Purse
from harness.gateway.tunnel import Tunnel
from harness.gateway.upstream import SILENCE_S, Upstream
from harness.models import Usage

CONNECTIONS = 200  # of one line
CONNECT_S = 30.0


class Bounded(web.Server):
    """A server that hangs up on whoever opens too many connections."""

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """A new connection."""
        if len(self.connections) >= CONNECTIONS:
            transport.abort()
        super().connection_made(handler, transport)


class Server:
    """All lines of a night."""

    def __init__(self, start: Start, session: aiohttp.ClientSession) -> None:
        """Nothing listens yet."""
        self.folder = start.folder
        self.journal = Journal(start.log)
        self.purse = Purse(prices.load(), start.cost_usd, start.propose_usd, start.spent_usd)
        accounts: dict[tuple[str, str], Account] = {}
        self.upstreams = {}
        self.hosts = {entry.agent: entry.hosts for entry in start.entries if entry.provider is None}
        for entry in start.entries:
            if entry.provider is None:
                continue
            whose = (entry.provider.url or entry.provider.api.split("-")[0], entry.secret)
            account = accounts.setdefault(whose, Account(share=start.quota_share))
            self.upstreams[entry.agent] = Upstream(entry.agent, entry.provider, entry.secret, account, session)
        self.runners: dict[str, web.ServerRunner] = {}
        self.lines: dict[str, Line] = {}
        self.tunnels: dict[str, Tunnel] = {}

    async def open(self, experiment: str, agent: str, key: str, usage: Usage, listening: socket.socket) -> None:
        """Serve an experiment's agent on a socket; harmless when that was done."""
        if experiment in self.lines or experiment in self.tunnels:
            listening.close()
            return
        if agent in self.hosts:
            self.tunnels[experiment] = Tunnel(experiment, agent, self.hosts[agent], self.journal)
            await self.tunnels[experiment].start(listening)
            return
        self.purse.open(experiment, usage, self.folder / f"{experiment}.json")
        line = self.lines[experiment] = Line(experiment, key, self.upstreams[agent], self.purse, self.journal)
        server = Bounded(line.handle, handler_cancellation=True, access_log=None)
        runner = self.runners[experiment] = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, listening).start()

    async def close(self, experiment: str) -> Closed | None:
        """Hang up on whoever still talks; None when nobody can."""
        if tunnel := self.tunnels.pop(experiment, None):
            await tunnel.stop()
            return Closed(trouble=tunnel.trouble[0], reason=tunnel.trouble[1])
        if experiment not in self.lines:
            return None
        await self.runners.pop(experiment).cleanup()
        kind, reason = self.lines.pop(experiment).trouble
        return Closed(usage=self.purse.accounts[experiment].usage, trouble=kind, reason=reason)

    def state(self) -> State:
        """How things stand."""
        held = {name: up.account for name, up in self.upstreams.items() if up.account.until > time.time()}
        return State(
            spent_usd=self.purse.spent,
            waiting={name: Wait(until=None if a.until == NEVER else a.until, reason=a.reason) for name, a in held.items()},
            refused={name: up.account.refused for name, up in self.upstreams.items() if up.account.refused},
            windows={name: up.account.windows for name, up in self.upstreams.items() if up.account.windows},
        )

    async def answer(self, asked: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Do what the night asks."""
        match asked["do"]:
            case "open":
                usage = Usage.model_validate(asked["usage"])
                await self.open(asked["experiment"], asked["agent"], asked["key"], usage, socket.socket(fileno=fds[0]))
            case "close":
                closed = await self.close(asked["experiment"])
                return closed.model_dump() if closed else {}
            case "state":
                return self.state().model_dump()
        return {}


async def serve(control: socket.socket) -> None:
    """Work until the night hangs up."""
    start = Start.model_validate((await asyncio.to_thread(receive, control))[0]["start"])
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=("User-Agent",)
    ) as session:
        server = Server(start, session)
        while True:
            try:
                asked, fds = await asyncio.to_thread(receive, control)
            except EOFError:
                return
            send(control, await server.answer(asked, fds))


def main(handle: int) -> None:
    """Be the gateway of the night at the other end of a descriptor."""
    logging.disable()  # libraries quote what they stumble over, and that may be anybody's secret
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with socket.socket(fileno=handle) as control:
        os.set_inheritable(handle, False)
        try:
            asyncio.run(serve(control))
        except KeyboardInterrupt:
            pass
        except Exception as bug:  # what it says could hold a key; where it happened does not
            traceback.print_tb(bug.__traceback__)
            sys.exit(f"it stumbled over a {type(bug).__name__}")
