"""The way past the gateway: CONNECT to named hosts, and nothing else. Each attack against a server that would be glad of it."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.gateway.hello import NotTls, host_of
from harness.gateway.journal import Journal
from harness.gateway.tunnel import AT_ONCE, Streams, Tunnel, public

HOST = "api.example.com"
CONNECT = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode()


def hello(name: str | None = HOST) -> bytes:
    """What a real TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    talk = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        talk.do_handshake()
    return outgoing.read()


class Far:
    """The server that every host leads to: it keeps what it is told, and says it again."""

    def __init__(self) -> None:
        self.dialled: list[str] = []
        self.got = b""
        self.tasks: list[asyncio.Task[None]] = []

    async def dial(self, host: str) -> Streams:
        self.dialled.append(host)
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)

        async def echo() -> None:
            while data := await reader.read(1 << 16):
                self.got += data
                writer.write(data)
                await writer.drain()
            writer.close()

        self.tasks.append(asyncio.create_task(echo()))
        return await asyncio.open_connection(sock=ours)


def tried(place: Path, attack: Callable[[int, Far], Awaitable[Any]], **bounds: int) -> tuple[Any, Far, list[dict[str, Any]]]:
    """What an attack on a tunnel's port comes to, the server behind it, and the tunnel's log."""

    async def main() -> tuple[Any, Far]:
        far = Far()
        tunnel = Tunnel("0001", "agent", [HOST, "other.example.com"], Journal(place / "log"), far.dial, **bounds)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            await tunnel.start(listening)
            try:
                return await asyncio.wait_for(attack(port, far), 30), far
            finally:
                await tunnel.stop()
                await asyncio.gather(*far.tasks)

    said, far = asyncio.run(main())
    log = place / "log"
    return said, far, [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


async def talk(port: int, *parts: bytes) -> bytes:
    """Say one part after the other, each after an answer; all that was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told = b""
    with suppress(OSError):  # whoever is refused is hung up on
        for part in parts:
            writer.write(part)
            told += await reader.read(1 << 16)
        writer.write_eof()
        told += await reader.read()
    await hang_up(writer)
    return told


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


def test_a_named_host_is_reached_and_its_bytes_are_counted(tmp_path: Path) -> None:
    first = hello()
    said, far, log = tried(tmp_path, lambda port, _: talk(port, CONNECT, first, b"secret words"))
    assert said == b"HTTP/1.1 200 Connection established\r\n\r\n" + first + b"secret words"
    assert (far.dialled, far.got) == ([HOST], first + b"secret words")
    (line,) = log
    assert (line["path"], line["status"]) == (f"{HOST}:443", 200)
    assert line["sent"] == line["received"] == len(far.got)
    assert "secret" not in json.dumps(log)


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT evil.example.com:443",
        "CONNECT 93.184.216.34:443",
        "CONNECT 127.0.0.1:443",
        "CONNECT localhost:443",
        "CONNECT [::1]:443",
        f"CONNECT {HOST}:80",
        f"CONNECT {HOST}:",
        f"CONNECT {HOST}",
        f"CONNECT {HOST}.:443",
        f"CONNECT x.{HOST}:443",
        f"CONNECT {HOST}@evil.example.com:443",
        f"CONNECT evil.example.com:443@{HOST}:443",
        f"CONNECT {HOST}\x00.evil.example.com:443",
        f"GET http://{HOST}/",
        f"GET https://{HOST}/",
        f"POST https://{HOST}/v1/messages",
        "connect",
        "",
    ],
)
def test_nothing_else_is_even_looked_up(request_line: str, tmp_path: Path) -> None:
    said, far, log = tried(tmp_path, lambda port, _: talk(port, f"{request_line} HTTP/1.1\r\n\r\n".encode(), hello()))
    assert said.startswith((b"HTTP/1.1 403", b"HTTP/1.1 405"))
    assert b"harness: " in said
    assert (far.dialled, far.got) == ([], b"")
    assert log[0]["status"] in (403, 405)


@pytest.mark.parametrize(
    "said_first",
    [
        hello("evil.example.com"),
        hello("other.example.com"),
        hello(None),
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x00\x00",
    ],
    ids=["evil", "other", "nobody", "http", "ssh", "empty"],
)
def test_a_named_host_is_not_a_way_to_another_one_or_to_another_protocol(said_first: bytes, tmp_path: Path) -> None:
    """Hosts of a large network share its addresses, so the name in the TLS connection decides who is reached."""
    _, far, log = tried(tmp_path, lambda port, _: talk(port, CONNECT, said_first))
    assert far.got == b""
    assert log[0]["status"] == 403


def test_raw_bytes_and_an_endless_head_get_nowhere(tmp_path: Path) -> None:
    said, far, _ = tried(tmp_path, lambda port, _: talk(port, b"CONNECT " + b"x" * 300_000))
    assert b"400 Bad Request" in said
    assert far.dialled == []
    said, far, _ = tried(tmp_path, lambda port, _: talk(port, hello() + b"\r\n\r\n"))
    assert b"405 Method Not Allowed" in said
    assert far.dialled == []


def test_an_experiment_moves_a_bounded_number_of_bytes_over_all_its_connections(tmp_path: Path) -> None:
    async def flood(port: int, far: Far) -> bytes:
        for _ in range(3):
            await talk(port, CONNECT, hello(), *[b"x" * 40_000] * 10)
        return far.got

    assert len(tried(tmp_path, flood)[0]) > 1_200_000
    (tmp_path / "log").unlink()
    got, _, log = tried(tmp_path, flood, most=1 << 20)
    assert len(got) < 1 << 20
    assert "has moved more than 1 MiB" in json.dumps(log)


def test_connections_at_once_are_bounded(tmp_path: Path) -> None:
    async def crowd(port: int, _: Far) -> list[bytes]:
        many = [await asyncio.open_connection("127.0.0.1", port) for _ in range(AT_ONCE + 3)]
        answers = []
        for reader, writer in many:
            writer.write(CONNECT)
            answers.append(await reader.readline())
        for _, writer in many:
            await hang_up(writer)
        return answers

    answers, _, _ = tried(tmp_path, crowd)
    assert sum(b"200" in each for each in answers) == AT_ONCE
    assert sum(b"503" in each for each in answers) == 3


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        *(
            (each, False)
            for each in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0")
        ),
        *((each, False) for each in ("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1")),
        *((each, False) for each in ("::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1")),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, good: bool) -> None:
    assert public(address) is good


def test_the_host_in_a_hello_however_it_is_cut() -> None:
    whole = hello()
    assert host_of(whole) == HOST
    assert host_of(hello(None)) == ""
    assert all(host_of(whole[:end]) is None for end in range(len(whole)))
    body, pieces = whole[5:], b""
    for at in range(0, len(body), 100):  # as many records as it likes
        part = body[at : at + 100]
        pieces += b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
    assert host_of(pieces) == HOST


def test_bytes_that_mean_nothing_are_not_taken_for_a_hello() -> None:
    chance, whole = random.Random(7), hello()
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(NotTls):
            assert isinstance(host_of(bytes(data)), str | None)
