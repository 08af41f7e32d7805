"""The first message of a TLS connection, as far as it says which host it is for (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, 3).

Read by hand, in the few lines that it takes: these bytes are an agent's, and a whole TLS library would lie open to them.
"""

from __future__ import annotations

HANDSHAKE, CLIENT_HELLO, SERVER_NAME = 22, 1, 0
MOST_RECORD = 1 << 14


class NotTls(Exception):
    """These bytes begin no TLS connection."""


class Reader:
    """Takes fields off the front of some bytes; NotTls where they are too short."""

    def __init__(self, data: bytes) -> None:
        """At the beginning."""
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self.at += count
        if self.at > len(self.data):
            raise NotTls
        return self.data[self.at - count : self.at]

    def number(self, width: int) -> int:
        """The next number of so many bytes."""
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """The next field that is led by its length."""
        return self.take(self.number(width))

    def more(self) -> bool:
        """Whether anything is left."""
        return self.at < len(self.data)


def host_of(data: bytes) -> str | None:
    """The host that a ClientHello names, empty when it names none; None while it is not complete. NotTls for other bytes."""
    message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if data[:1] != bytes([HANDSHAKE])[: len(data[:1])] or message[:1] not in (b"", bytes([CLIENT_HELLO])):
            raise NotTls
        if len(data) < 5 or len(data) < 5 + (size := int.from_bytes(data[3:5], "big")):
            return None
        if data[1] != 3 or not 0 < size <= MOST_RECORD:
            raise NotTls
        message, data = message + data[5 : 5 + size], data[5 + size :]
    if message[0] != CLIENT_HELLO:
        raise NotTls
    return _name(Reader(message[4 : 4 + int.from_bytes(message[1:4], "big")]))


def _name(hello: Reader) -> str:
    hello.take(2 + 32)  # version, random
    for width in (1, 2, 1):  # session, ciphers, compressions
        hello.vector(width)
    extensions = Reader(hello.vector(2) if hello.more() else b"")
    while extensions.more():
        kind, body = extensions.number(2), Reader(extensions.vector(2))
        if kind == SERVER_NAME:
            names = Reader(body.vector(2))
            if names.number(1) != 0:
                raise NotTls
            name = names.vector(2)
            if names.more() or body.more():
                raise NotTls  # one host; a second name could be the one that counts at the other end
            return name.decode("ascii", "replace").lower()
    return ""
