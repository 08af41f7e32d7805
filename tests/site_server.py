"""A local web server that misbehaves as it is told to, one fault a request, and remembers what it was asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """`files` by path; `faults` of a path are used up one a request, the last of them for ever when it ends with "!"."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def fault(self, path: str) -> str:
        waiting = self.faults.get(path, [])
        if waiting and waiting[0].endswith("!"):
            return waiting[0][:-1]
        return waiting.pop(0) if waiting else ""


@contextmanager
def serve() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers["Range"]))
            answer(self, site, site.fault(self.path))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, site: Site, fault: str) -> None:
    """One answer: a status, a redirect to /cdn, or the file as the fault has it."""
    data = site.files.get(handler.path.removeprefix("/cdn"))
    if fault.isdigit() or data is None:
        send(handler, int(fault or 404), b"no", {"Retry-After": "1"} if fault == "429" else {})
    elif fault.startswith("redirect"):
        named = {"X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'} if fault == "redirect" else {}
        send(handler, 302, b"", {"Location": f"/cdn{handler.path}", **named})
    elif fault == "page":
        send(handler, 200, b"<html>please log in</html>", {"Content-Type": "text/html"})
    else:
        send_file(handler, site, data, fault)


def send_file(handler: BaseHTTPRequestHandler, site: Site, data: bytes, fault: str) -> None:
    etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    if fault == "corrupt":
        data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
    if fault == "short":
        data = data[:-1000]  # and a Content-Length that agrees
    asked, valid = handler.headers["Range"], handler.headers.get("If-Range", etag) == etag
    first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and valid and fault != "no range" else 0
    headers = {"ETag": etag, "Content-Length": str(len(data) - first)}
    if fault == "no length":
        headers = {"ETag": etag, "Connection": "close"}
        handler.close_connection = True
    if first >= len(data):
        return send(handler, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
    handler.send_response(206 if first else 200)
    if first:
        first -= 1 if fault == "shifted" else 0
        headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    body = data[first:]
    if fault in ("truncate", "stall"):
        body, handler.close_connection = body[: len(body) // 2], True
    handler.wfile.write(body)
    handler.wfile.flush()
    if fault == "stall":
        site.closing.wait(60)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
