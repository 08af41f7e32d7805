"""Values -> what a page carries of them: JSON, compressed and in base64, a chunk of experiments at a time.

A browser unpacks a chunk when somebody looks at one of its experiments, so a page of thousands opens as fast as one of ten.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

CHUNK = 40  # neighbours change the same lines of the same file: together they compress well


def pack(value: Any) -> str:
    """A value as text for a data block; no character of it means anything to HTML."""
    return base64.b64encode(gzip.compress(plain(value), 9, mtime=0)).decode("ascii")


def plain(value: Any) -> bytes:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def chunks(values: list[Any]) -> list[str]:
    """A long list in packed pieces of CHUNK."""
    return [pack(values[start : start + CHUNK]) for start in range(0, len(values), CHUNK)]
