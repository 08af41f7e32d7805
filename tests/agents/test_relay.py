"""The way out of a sandbox, as a program in the real one finds it: for many connections, half-closed ones, streams; no other."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.process import inner_env, run
from harness.protocols import Box, Line
from harness.sandboxes import relay
from harness.sandboxes.bubblewrap import Bubblewrap

URL = "http://127.0.0.1:8484"


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """A unix socket, for its owner alone, that answers each connection with `serve`."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen(200)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def inside(place: Path, script: str, line: bool = True) -> object:
    """What a program in the sandbox prints as JSON."""
    (place / "box").mkdir()
    gateway = Line(URL, "harness", place / "gateway.sock") if line else None
    box = Box(cwd=place / "box", writable=(place / "box",), env=inner_env(), gateway=gateway)
    with Bubblewrap().wrap([sys.executable, "-c", script], box) as launch:
        ended = run(launch, place / "log", 60)
    assert ended.code == 0, ended.tail
    return json.loads(ended.tail)


def count(connection: socket.socket) -> None:
    """Say how much came before the other side stopped talking, and that it did not change."""
    told = b""
    while part := connection.recv(65536):
        told += part
    connection.sendall(f"{len(told)} {set(told) == {120}}".encode())


MANY = """\
import json, socket, threading
said = []
def talk():
    with socket.create_connection(("127.0.0.1", 8484)) as connection:
        connection.sendall(b"x" * 300_000)
        connection.shutdown(socket.SHUT_WR)
        told = b""
        while part := connection.recv(4096):
            told += part
        said.append(told.decode())
threads = [threading.Thread(target=talk) for _ in range(100)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(said))
"""


def test_a_hundred_half_closed_connections_at_once(place: Path) -> None:
    with listening(place / "gateway.sock", count):
        assert inside(place, MANY) == ["300000 True"] * 100


def test_a_half_closed_connection_outlives_a_collection_of_garbage(place: Path) -> None:
    def late(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass
        gc.collect()  # the relay runs in this process
        connection.sendall(b"told")

    near = socket.create_server(("127.0.0.1", 0))
    address = near.getsockname()
    with listening(place / "gateway.sock", late):
        serving = relay.main(near.detach(), str(place / "gateway.sock"))
        threading.Thread(target=asyncio.run, args=(serving,), daemon=True).start()
        with socket.create_connection(address) as connection:
            connection.sendall(b"x")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(10) == b"told"


STREAM = """\
import json, socket
said = []
for _ in range(2):
    with socket.create_connection(("127.0.0.1", 8484)) as connection:
        for word in (b"go", b"on"):
            said.append(connection.recv(100).decode())
            connection.sendall(word)
        said.append(connection.recv(100).decode())
print(json.dumps(said))
"""


def test_a_stream_is_passed_on_as_it_comes(place: Path) -> None:
    """Each side waits for the other's word before it goes on, so whatever were held back would be missing for ever."""

    def turns(connection: socket.socket) -> None:
        for word in (b"first", b"second"):
            connection.sendall(word)
            assert connection.recv(100)

    with listening(place / "gateway.sock", turns):
        assert inside(place, STREAM) == ["first", "second", ""] * 2


REACH = """\
import json, os, socket
found = {}
def reach(name, family, address):
    try:
        with socket.socket(family) as connection:
            connection.settimeout(2)
            connection.connect(address)
            found[name] = "reached"
    except OSError as error:
        found[name] = "refused"
reach("relay", socket.AF_INET, ("127.0.0.1", 8484))
reach("host", socket.AF_INET, ("127.0.0.1", %d))
reach("outside", socket.AF_INET, ("192.0.2.1", 443))
reach("socket", socket.AF_UNIX, "/run/gateway.sock")
for name, act in {
    "unlink": lambda: os.unlink("/run/gateway.sock"),
    "rename": lambda: os.rename("/run/gateway.sock", "/run/other"),
    "chmod": lambda: os.chmod("/run/gateway.sock", 0o777),
    "new": lambda: open("/run/new", "w"),
}.items():
    try:
        act()
        found[name] = "done"
    except OSError:
        found[name] = "refused"
print(json.dumps(found))
"""


@pytest.mark.parametrize("line", [True, False], ids=["with a line", "without"])
def test_nothing_else_can_be_reached(place: Path, line: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host, listening(place / "gateway.sock", lambda connection: None):
        found = inside(place, REACH % host.getsockname()[1], line)
    way = "reached" if line else "refused"
    never = dict.fromkeys(("host", "outside", "unlink", "rename", "chmod", "new"), "refused")
    assert found == {"relay": way, "socket": way, **never}
    assert (place / "gateway.sock").stat().st_mode & 0o777 == 0o600


def test_a_gateway_that_is_gone_is_an_end_and_no_hang(place: Path) -> None:
    with listening(place / "gateway.sock", lambda connection: None):
        pass
    script = """\
import json, socket
with socket.create_connection(("127.0.0.1", 8484)) as connection:
    try:
        print(json.dumps(connection.recv(10).decode()))
    except ConnectionError:
        print(json.dumps("gone"))
"""
    assert inside(place, script) in ("", "gone")
    assert os.path.lexists(place / "gateway.sock")
