"""The gateway's log: a line of JSON for each request, without what was said in it and without any key."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.gateway.prices import Tokens

LARGEST = 8 << 20


@dataclass
class Note:
    """What is written down of one request; of a connection past the gateway its host and the bytes each way."""

    experiment: str
    agent: str
    method: str
    path: str
    model: str = ""
    status: int = 0
    retries: int = 0
    why: str = ""
    tokens: Tokens | None = None
    told: bool = True
    usd: float | None = None
    sent: int = 0
    received: int = 0
    began: float = field(default_factory=time.time)


class Journal:
    """A file that is appended to, and begun anew when it is large."""

    def __init__(self, path: Path) -> None:
        """The file is made when it is not there, for its owner alone."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, note: Note) -> None:
        """Add a line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(note.began))
        told: dict[str, object] = {"time": stamp, "experiment": note.experiment, "agent": note.agent}
        told |= {"method": note.method[:10], "path": note.path, "model": note.model[:100]}
        told |= {"status": note.status, "seconds": round(time.time() - note.began, 3)}
        told |= {"retries": note.retries} if note.retries else {}
        told |= {**note.tokens.model_dump(), "usd": note.usd} if note.tokens else {}
        told |= {"estimated": True} if not note.told else {}
        told |= {"sent": note.sent, "received": note.received} if note.sent or note.received else {}
        told |= {"why": note.why} if note.why else {}
        if self.path.exists() and self.path.stat().st_size > LARGEST:
            self.path.replace(self.path.with_suffix(".old.log"))
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, json.dumps(told).encode() + b"\n")
        finally:
            os.close(handle)
