"""One request, from an agent to its provider and back: checked, paid for, given the key, sent, counted, and written down."""

from __future__ import annotations

import asyncio
import time
import traceback
from pathlib import Path

import aiohttp
from aiohttp import web

from harness.gateway import answers, content, routes
from harness.gateway.answers import Refused, Trouble
from harness.gateway.content import Asked
from harness.gateway.journal import Journal, Note
from harness.gateway.meter import Events, Meter
from harness.gateway.pace import OVERLOADED
from harness.gateway.purse import Purse
from harness.gateway.upstream import Broken, Exchange, Upstream, parts, whole

LARGEST_BODY, LARGEST_ANSWER = 32 << 20, 64 << 20
AT_ONCE = 8  # requests of one line; the others wait, their bodies unread
FASTEST = 100  # tokens that a model may have written in a second, where an answer was cut off


class Line:
    """The way of one experiment's agent to its provider. `key` is what an agent must show; empty when the socket is proof."""

    def __init__(self, experiment: str, key: str, upstream: Upstream, purse: Purse, journal: Journal) -> None:
        """Nothing listens yet."""
        self.experiment, self.key, self.upstream, self.purse, self.journal = experiment, key, upstream, purse, journal
        self.opened = time.monotonic()
        self.first_s = 0.0
        self.trouble: tuple[Trouble, str] = ("", "")  # why the last request that concerned the provider failed
        self._room = asyncio.Semaphore(AT_ONCE)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of the agent's."""
        note = Note(self.experiment, self.upstream.agent, request.method, routes.printable(request.raw_path.partition("?")[0]))
        try:
            async with self._room:
                return await self._serve(request, note)
        except Refused as refused:
            note.status, note.why = refused.status, refused.message
            self.trouble = (refused.kind, refused.message) if refused.kind else self.trouble
            headers = {"X-Should-Retry": "false"}
            if refused.wait_s is not None and refused.wait_s < 1e9:
                headers["Retry-After"] = str(int(refused.wait_s) + 1)
            body = answers.body(self.upstream.provider.api, refused)
            return web.Response(status=refused.status, body=body, content_type="application/json", headers=headers)
        except (asyncio.CancelledError, ConnectionError):
            note.why = note.why or "the agent hung up"
            raise
        except Exception as bug:  # the night goes on; where it happened is written down, what was said is not
            where = traceback.extract_tb(bug.__traceback__)[-1]
            note.status, note.why = 500, f"{type(bug).__name__} in {Path(where.filename).name}, line {where.lineno}"
            if request.transport:
                request.transport.abort()
            return web.Response(status=500)
        finally:
            self.journal.write(note)

    async def _serve(self, request: web.BaseRequest, note: Note) -> web.StreamResponse:
        exchange, kind = await self._checked(request, note)
        if kind in ("list", "count"):
            async with self.upstream.answer(exchange) as answer:
                return await self._reply(answer, exchange)
        async with self.purse.request(self.experiment, exchange.asked):
            self.first_s = self.first_s or round(time.monotonic() - self.opened, 3)
            try:
                async with self.upstream.answer(exchange) as answer:
                    if answer.status < 300 and answer.content_type == "text/event-stream":
                        return await self._stream(request, answer, exchange)
                    return await self._reply(answer, exchange)
            finally:
                if exchange.sent:
                    self._charge(exchange)

    async def _checked(self, request: web.BaseRequest, note: Note) -> tuple[Exchange, routes.Kind]:
        """What may go to the provider of a request, and what kind of request it is."""
        provider, target = self.upstream.provider, request.raw_path
        if "Upgrade" in request.headers:
            raise Refused(403, "a connection may not be upgraded here")
        if self.key and self.key not in routes.presented(request.headers, target):
            raise Refused(401, "this line belongs to somebody else")
        route = routes.find(provider, request.method, target)
        note.path = route.path
        raw = await _body(request)
        if route.kind == "list":
            asked = Asked(b"", "", False, 0)
        else:
            asked = content.inspect(provider.api, route.kind, route.model, raw, provider.web)
        note.model = asked.model
        meter = Meter(provider.api, len(asked.body))
        return Exchange(route.url, request.method, routes.upward(request.headers.items()), asked, note, meter), route.kind

    async def _reply(self, answer: aiohttp.ClientResponse, exchange: Exchange) -> web.Response:
        """Pass on an answer that is not a stream."""
        said = exchange.error
        if answer.status < 300:
            try:
                said = await whole(answer, LARGEST_ANSWER)
            except Broken:
                raise Refused(502, "the provider broke off its answer", "network") from None
            exchange.meter.whole(said)
        exchange.note.status = answer.status
        account = self.upstream.account
        limited = answer.status in OVERLOADED or (answer.status >= 400 and account.quota and account.wait_s() > 0)
        self.trouble = (self.upstream.trouble(), account.reason) if limited else ("", "")
        headers = self._headers(answer)
        return web.Response(status=answer.status, body=self.upstream.scrubbed(said), headers=headers)

    async def _stream(self, request: web.BaseRequest, answer: aiohttp.ClientResponse, exchange: Exchange) -> web.StreamResponse:
        """Pass on a stream, event by event, as they come."""
        down = web.StreamResponse(status=answer.status, headers=self._headers(answer))
        exchange.note.status = answer.status
        await down.prepare(request)
        events = Events()
        try:
            async for data in parts(answer):
                for event in events.feed(data):
                    only_usage = exchange.meter.event(event)
                    if not (only_usage and exchange.asked.added):
                        await down.write(self.upstream.scrubbed(event))
        except Broken:
            exchange.note.why = "the provider broke off"
            self.trouble = ("network", "the provider broke off its answer")
            if request.transport:
                request.transport.abort()  # an end that looks like one would make half an answer a whole one
            return down
        if rest := events.rest():
            exchange.meter.event(rest)
            await down.write(self.upstream.scrubbed(rest))
        await down.write_eof()
        self.trouble = ("", "")
        return down

    def _headers(self, answer: aiohttp.ClientResponse) -> list[tuple[str, str]]:
        found = routes.downward(answer.headers.items())
        return [(name, self.upstream.scrubbed(value.encode()).decode()) for name, value in found]

    def _charge(self, exchange: Exchange) -> None:
        """Put what was used on the experiment's account, whether or not the agent waited for it."""
        note, meter = exchange.note, exchange.meter
        tokens = meter.tokens()
        if not meter.told:
            written = min(exchange.asked.output, int(FASTEST * (time.monotonic() - exchange.sent)))
            tokens = tokens.model_copy(update={"output": max(tokens.output, written)})
        model = meter.model if self.purse.prices.of(meter.model) else exchange.asked.model or meter.model
        note.tokens, note.told = tokens, meter.told
        note.usd = self.purse.charge(self.experiment, model, tokens, told=meter.told, retries=note.retries, first_s=self.first_s)


async def _body(request: web.BaseRequest) -> bytes:
    """A request's body, if it is of a bearable size and plain."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(400, "the request is compressed: send it as it is")
    found, size = [], 0
    async for part in request.content.iter_any():
        found.append(part)
        if (size := size + len(part)) > LARGEST_BODY:
            raise Refused(413, f"the request is larger than {LARGEST_BODY >> 20} MiB")
    return b"".join(found)
