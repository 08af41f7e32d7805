"""Large public files over HTTP into a folder: parallel, resumed, retried, and compared with a checksum before they count.

A file is loaded as `NAME.part` and gets its name when it is whole and its SHA-256 is right. `checksums.json` beside it
keeps what is known: a checksum pinned here, else the one that the server names (Hugging Face's `X-Linked-ETag`), else that of
the first download, which later ones have to equal. So a folder that was loaded once is verified again without a network.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from pydantic import TypeAdapter, ValidationError

from harness import __version__
from harness.models import UserError
from nanochat_train.progress import Bar
from nanochat_train.remote import PATIENT, Known, Patience, Remote
from nanochat_train.transfer import Again, reason_of, size, transfer

LONGEST_WAIT_S = 120.0
DAMAGED = 2  # downloads that may end with a wrong checksum


def download(files: Sequence[Remote], folder: Path, patience: Patience = PATIENT) -> list[Path]:
    """Load what is missing or damaged; the paths of all. A UserError says what stands in the way, and keeps what was loaded."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Bar("download", sum(file.about for file in files)) as bar:
        asyncio.run(_Downloads(folder, patience, bar).run(files))
    return [folder / file.name for file in files]


class _Downloads:
    """Some files on their way into a folder."""

    def __init__(self, folder: Path, patience: Patience, bar: Bar) -> None:
        self.folder, self.patience, self.bar = folder, patience, bar
        self.known = _load(folder / "checksums.json")
        self.turn = asyncio.Semaphore(patience.streams)

    async def run(self, files: Sequence[Remote]) -> None:
        stall = self.patience.stall_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=stall, sock_read=stall)
        headers = {"Accept-Encoding": "identity", "User-Agent": f"harness/{__version__}"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers, auto_decompress=False) as session:
            tasks = [asyncio.create_task(self._get(session, file)) for file in files]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _get(self, session: aiohttp.ClientSession, file: Remote) -> None:
        path, part = self.folder / file.name, self.folder / f"{file.name}.part"
        async with self.turn:
            wanted = self._wanted(file)
            if path.exists():
                found = await asyncio.to_thread(_sha256, path)
                if wanted is None or found == wanted.sha256:
                    self.bar.advance(file.about)
                    return self._note(file, wanted or Known(sha256=found, by="first download"))
                self.bar.say(f"{path} is damaged: loading it again")
                path.unlink()
            for _ in range(DAMAGED):
                named = await self._fill(session, file, part)
                wanted = wanted or named
                found = await asyncio.to_thread(_sha256, part)
                if wanted is None or found == wanted.sha256:
                    part.replace(path)
                    return self._note(file, wanted or Known(sha256=found, by="first download"))
                self.bar.advance(-part.stat().st_size)
                part.unlink()
                self.bar.say(f"{file.url} arrived damaged: loading it again")
            assert wanted
            told = {
                "pinned": "what this version of nanochat_train knows",
                "server": "what the server names",
                "first download": "its first download",
            }
            raise UserError(
                f"{file.url} is not what it should be: its SHA-256 is {found}, by {told[wanted.by]} it is {wanted.sha256}; "
                f"try again later, or if it was changed on purpose, delete {self.folder}"
            )

    def _wanted(self, file: Remote) -> Known | None:
        return Known(sha256=file.sha256, by="pinned") if file.sha256 else self.known.get(file.name)

    def _note(self, file: Remote, known: Known) -> None:
        if self.known.get(file.name) != known:
            self.known[file.name] = known
            written = self.folder / "checksums.json.new"
            written.write_bytes(LEDGER.dump_json(self.known, indent=1))
            written.rename(self.folder / "checksums.json")

    async def _fill(self, session: aiohttp.ClientSession, file: Remote, part: Path) -> Known | None:
        """Load until `part` is whole, and return the checksum that the server names; Again as often as there is patience."""
        failures, most = 0, size(part)
        self.bar.advance(most)
        while True:
            try:
                return await transfer(session, file, part, self.bar)
            except (Again, aiohttp.ClientError, TimeoutError) as error:
                failures = 1 if size(part) > most else failures + 1
                most = max(most, size(part))
                reason = reason_of(error)
                if failures >= self.patience.tries:
                    raise UserError(
                        f"{file.url} could not be loaded: {reason}. Check the network (HTTPS_PROXY and HF_ENDPOINT are obeyed) "
                        "and run the same command again; it goes on where it stopped"
                    ) from None
                wait = self.patience.wait_s * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
                if isinstance(error, Again) and error.after_s is not None:
                    wait = max(wait, error.after_s)
                wait = min(wait, LONGEST_WAIT_S)
                self.bar.say(f"{file.name}: {reason}; try {failures + 1} in {wait:.0f} s")
                await asyncio.sleep(wait)


LEDGER = TypeAdapter(dict[str, Known])


def _load(path: Path) -> dict[str, Known]:
    try:
        return LEDGER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise UserError(f"{path} cannot be read: delete it, and the files beside it that you do not trust") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
