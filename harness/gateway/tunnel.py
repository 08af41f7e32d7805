"""The weaker way to a provider, for an agent that holds its own login: CONNECT to the hosts that its entry names, and no other.

What passes is encrypted: it can be counted, bounded and cut off, but neither read nor priced, and no key is added. A name is
looked up once, out here, and the connection goes to the address that was looked at. The first bytes that pass have to ask the
very same host for a TLS connection, as thousands of hosts share the addresses of a large network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from harness.gateway import routes
from harness.gateway.answers import Refused, Trouble
from harness.gateway.hello import NotTls, host_of
from harness.gateway.journal import Journal, Note

PORT = 443
AT_ONCE = 64  # connections of one line
MOST_BYTES = 1 << 30  # of one line, both directions together
MOST_HELLO, CHUNK = 32 << 10, 1 << 16
BEGIN_S, DIAL_S = 30.0, 10.0  # for what comes before the first byte passes; for one address
EMBEDDED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses in IPv6, RFC 6052
REASONS = {400: "Bad Request", 403: "Forbidden", 405: "Method Not Allowed", 502: "Bad Gateway", 503: "Service Unavailable"}
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def public(address: str) -> bool:
    """Whether an address is one of the internet: not this machine's, not its network's, nor one that stands for such."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, found.teredo[1] if found.teredo else None]
        inner += [ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)] if found in EMBEDDED else []
        if any(each is not None and not public(str(each)) for each in inner):
            return False
    return found.is_global and not found.is_multicast


async def connect(host: str) -> Streams:
    """A connection to a host by one of its addresses, all of which have to be public; they are looked up once."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    except OSError:
        raise Refused(502, f"{host} is not known to the domain name system", "network") from None
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    if odd := [address for address in addresses if not public(address)]:
        raise Refused(403, f"{host} leads to {odd[0]}, which is no address of the internet")
    for address in addresses:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(DIAL_S):
                return await asyncio.open_connection(address, PORT)
    raise Refused(502, f"{host} cannot be reached", "network")


class Tunnel:
    """The way of one experiment's agent to its hosts."""

    def __init__(
        self,
        experiment: str,
        agent: str,
        hosts: list[str],
        journal: Journal,
        dial: Callable[[str], Awaitable[Streams]] = connect,
        most: int = MOST_BYTES,
    ) -> None:
        """Nothing listens yet. `dial` connects to a host that may be reached; `most` bytes may pass in all."""
        self.experiment, self.agent, self.hosts, self.journal, self.dial = experiment, agent, hosts, journal, dial
        self.trouble: tuple[Trouble, str] = ("", "")  # why the last host that may be reached was not
        self._most = self._left = most
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve a listening socket."""
        make = asyncio.start_unix_server if listening.family == socket.AF_UNIX else asyncio.start_server
        self._server = await make(self._accept, sock=listening, limit=CHUNK)

    async def stop(self) -> None:
        """Hang up on everybody."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        note = Note(self.experiment, self.agent, "CONNECT", "")
        try:
            await self._serve(reader, writer, note)
        except Refused as refused:
            note.status, note.why = refused.status, refused.message
            if refused.kind:
                self.trouble = (refused.kind, refused.message)
            with suppress(OSError):
                writer.write(_refusal(refused))
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            note.why = note.why or ("broken off" if note.status != 200 else "")
        finally:
            self._tasks.discard(task)
            writer.close()
            self.journal.write(note)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Note) -> None:
        """One connection, from its first line to its end."""
        if len(self._tasks) > AT_ONCE:
            raise Refused(503, f"more than {AT_ONCE} connections at once")
        try:
            async with asyncio.timeout(BEGIN_S):
                host = self._allowed(await _head(reader), note)
                far_reader, far_writer = await self.dial(host)
                try:
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    note.status = 200
                    hello = await _hello(reader, host)
                except BaseException:
                    far_writer.transport.abort()
                    raise
        except TimeoutError:
            raise Refused(400, f"nothing came of it within {BEGIN_S:.0f} s") from None
        self.trouble = ("", "")
        try:
            self._count(note, hello, up=True)
            far_writer.write(hello)
            await asyncio.gather(self._pump(reader, far_writer, note, True), self._pump(far_reader, writer, note, False))
        except Refused as refused:
            note.why = refused.message  # in the middle of what is encrypted nobody would understand an answer
            writer.transport.abort()
        finally:
            far_writer.transport.abort()

    def _allowed(self, head: bytes, note: Note) -> str:
        """The host that a request asks for, if the entry names it."""
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        method, _, rest = line.partition(" ")
        target = rest.partition(" ")[0]
        note.path = routes.printable(target.partition("?")[0])
        if method != "CONNECT":
            note.method = routes.printable(method)
            raise Refused(405, "only HTTPS passes here, by CONNECT")
        host, _, port = target.rpartition(":")
        if host.lower() not in self.hosts or port != str(PORT):
            raise Refused(403, f"{note.path} is not among the hosts that this agent may reach, on port {PORT}")
        return host.lower()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Note, up: bool) -> None:
        """Copy one direction to its end, and close that direction alone."""
        while data := await reader.read(CHUNK):
            self._count(note, data, up)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    def _count(self, note: Note, data: bytes, up: bool) -> None:
        note.sent += len(data) if up else 0
        note.received += 0 if up else len(data)
        self._left -= len(data)
        if self._left < 0:
            raise Refused(403, f"this experiment has moved more than {self._most >> 20} MiB")


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The head of a request."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refused(400, f"the request's head is longer than {CHUNK >> 10} KiB") from None


async def _hello(reader: asyncio.StreamReader, host: str) -> bytes:
    """The beginning of a TLS connection to `host`, as it has to be passed on; Refused for another host and for other bytes."""
    data = b""
    try:
        while (named := host_of(data)) is None:
            if not (more := await reader.read(CHUNK)) or len(data) > MOST_HELLO:
                raise NotTls
            data += more
    except NotTls:
        raise Refused(403, f"what was sent to {host} does not begin a TLS connection") from None
    if named != host:
        raise Refused(403, f"a connection to {host} asked for {routes.printable(named) or 'no host'} instead")
    return data


def _refusal(refused: Refused) -> bytes:
    """An answer that a person who reads the client's error understands."""
    told = f"harness: {refused.message}\n".encode()
    head = f"HTTP/1.1 {refused.status} {REASONS[refused.status]}\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(told)}\r\n\r\n".encode() + told
