"""Inside a sandbox: passes connections of its own loopback on to the gateway's unix socket. It knows no secret.

Our init makes the listening socket before the agent starts, so the agent never comes too early.

    python -I -S relay.py FD SOCKET
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress

CHUNK = 1 << 16


async def main(handle: int, path: str) -> None:
    """Serve the listening socket `handle` until killed."""
    under_way = set[asyncio.Task[None] | None]()  # nothing else holds a connection whose one side has said all that it will

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(task := asyncio.current_task())
        try:
            await connect(reader, writer)
        finally:
            under_way.discard(task)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(path)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        except OSError:
            pass  # one side is gone, so the other one has nobody to talk to
        finally:
            far_writer.transport.abort()
            writer.close()

    server = await asyncio.start_server(accept, sock=socket.socket(fileno=handle), backlog=512)
    await server.serve_forever()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction to its end and close that direction alone: the other one may have much to say yet."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
