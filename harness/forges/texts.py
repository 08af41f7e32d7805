"""The text of an offer where people may edit it: ours is known by its first and last line, and only replaced as we left it."""

from __future__ import annotations

import hashlib
import re

from harness.protocols import Offer

SEAL = re.compile(r"\n<!-- harness text (\w{12}) (\w{12}) -->")


def mark(offer: Offer) -> str:
    """The first line of an offer's text, which says which experiment it is of."""
    return offer.body.partition("\n")[0]


def sealed(offer: Offer) -> str:
    """The text, and a last line by which a later look knows whether somebody edited it, and of what news it tells."""
    return f"{offer.body}\n<!-- harness text {_digest(offer.body)} {_news(offer)} -->"


def current(shown: str, offer: Offer) -> bool:
    """Whether a text that is shown tells of everything already."""
    found = _ours(shown, offer)
    return found is not None and found[2] == _news(offer)


def renewed(shown: str, offer: Offer) -> str | None:
    """The text with ours anew, and what people wrote before and after it; None where they edited ours."""
    text, found = shown.replace("\r\n", "\n"), _ours(shown, offer)
    return text[: found[0]] + sealed(offer) + text[found[1] :] if found else None


def _ours(shown: str, offer: Offer) -> tuple[int, int, str] | None:
    """Where our part of a text begins and ends, and its news; None where it is not as we left it."""
    text = shown.replace("\r\n", "\n")  # what browsers make of it
    start = text.find(mark(offer))
    seals = list(SEAL.finditer(text, start)) if start >= 0 else []
    if not seals or _digest(text[start : seals[-1].start()]) != seals[-1][1]:
        return None
    return start, seals[-1].end(), seals[-1][2]


def _news(offer: Offer) -> str:
    return _digest("\n".join([offer.news, *offer.notes]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def signed(note: str) -> tuple[str, str]:
    """A note as a comment, and the line in it by which it is found again."""
    sign = f"<!-- harness note {_digest(note)} -->"
    return f"{sign}\n{note}", sign
