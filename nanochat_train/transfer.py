"""One try to load a file over HTTP, from where the last one ended, and how its answers are to be understood."""

from __future__ import annotations

import os
import re
import shutil
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from harness.models import UserError
from nanochat_train.progress import Bar
from nanochat_train.remote import Known, Remote

CHUNK = 1 << 20


class Again(Exception):
    """A try failed in a way that another may not; `after_s` is when the server wants it."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


async def transfer(session: aiohttp.ClientSession, file: Remote, part: Path, bar: Bar) -> Known | None:
    """Load what `part` lacks of a file; the checksum that the server names. Again, when it is not whole afterwards."""
    offset, tag = size(part), part.with_name(f"{part.name}.etag")
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and tag.exists():
        headers["If-Range"] = tag.read_text()
    async with session.get(file.url, headers=headers, proxy=_proxy(file.url)) as response:
        named = _named(response)
        total = _total(response, file.url, offset)
        if response.status == 416 and total == offset:
            return named
        if response.status == 416 or (response.status == 206 and _first(response) != offset):
            part.unlink()
            bar.advance(-offset)
            raise Again("what was loaded is no part of the file any more")
        if response.status == 200:
            bar.advance(-offset)
            offset = 0
        etag = response.headers.get("ETag", "")
        tag.unlink(missing_ok=True)
        if re.fullmatch(r'"[!-~]+"', etag):  # a weak one cannot be asked for by If-Range
            tag.write_text(etag)
        if total is not None and (free := shutil.disk_usage(part.parent).free) < total - offset:
            raise UserError(
                f"the disk of {part.parent} has {free / 1e6:,.0f} MB left, {file.name} needs {(total - offset) / 1e6:,.0f} MB: "
                "make room, or let XDG_CACHE_HOME name another disk"
            )
        await _write(response, part, offset, bar)
    if total is not None and size(part) != total:
        raise Again(f"{size(part):,} of {total:,} bytes came")
    tag.unlink(missing_ok=True)
    return named


async def _write(response: aiohttp.ClientResponse, part: Path, offset: int, bar: Bar) -> None:
    with part.open("r+b" if offset else "wb") as out:
        out.seek(offset)
        async for chunk in response.content.iter_chunked(CHUNK):
            out.write(chunk)
            bar.advance(len(chunk))
        out.flush()
        os.fsync(out.fileno())


def size(path: Path) -> int:
    """Bytes of a file; none where there is none."""
    return path.stat().st_size if path.exists() else 0


def _named(response: aiohttp.ClientResponse) -> Known | None:
    """The SHA-256 that Hugging Face names for a large file, in the answer that redirects to it."""
    for each in (*response.history, response):
        if named := re.fullmatch(r'"?([0-9a-f]{64})"?', each.headers.get("X-Linked-ETag", "")):
            return Known(sha256=named[1], by="server")
    return None


def _total(response: aiohttp.ClientResponse, url: str, offset: int) -> int | None:
    """The size of the whole file, as far as the server says; an answer that is not the file is an error."""
    status = response.status
    if status in (408, 429) or status >= 500:
        after = response.headers.get("Retry-After", "")
        raise Again(f"the server answered {status}", float(after) if after.isdigit() else None)
    if status == 404:
        raise UserError(f"{url} does not exist (404): it was moved or removed, and this version does not know where to")
    if status not in (200, 206, 416):
        raise UserError(f"{url} cannot be had: the server answered {status} {response.reason}")
    if status == 200 and response.content_type == "text/html":
        raise UserError(f"{url} answered with a web page: a login page of your network, perhaps; open it in a browser")
    if status == 200:
        return response.content_length
    found = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _first(response: aiohttp.ClientResponse) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def reason_of(error: Exception) -> str:
    """Why a try failed, for a person."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection to {error.host}: {error.os_error.strerror or error.os_error}"
    if isinstance(error, TimeoutError):
        return "nothing came any more"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection ended too early"
    return str(error) or type(error).__name__


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL."""
    parts = urlsplit(url)
    return None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)
