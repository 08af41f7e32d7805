"""How fast a provider may be asked: one account for everybody who uses the same key, so that all of them wait together.

What makes them wait: an answer 429, 503 or 529, for as long as it names or else for a growing time with jitter; a quota that
is exhausted, until the reset that the provider names; a subscription of which the owner wants the rest.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

OVERLOADED = (429, 503, 529)
FIRST_S, LONGEST_S = 1.0, 60.0
NEVER = float("inf")
WINDOWS = {"5h": "five-hour", "7d": "weekly", "7d_opus": "weekly Opus"}
QUOTA = ("insufficient_quota", "usage_limit_reached", "usage_not_included", "billing_hard_limit_reached")


@dataclass
class Account:
    """The state of one key at one provider. Times are seconds since 1970; `until` is inf when no reset is known."""

    share: float | None = None
    until: float = 0.0
    reason: str = ""
    failures: int = 0
    refused: str = ""
    quota: bool = False  # whether what makes everybody wait is a quota, not the rate
    windows: dict[str, float] = field(default_factory=dict)

    def wait_s(self) -> float:
        """How long nobody may ask."""
        return max(0.0, self.until - time.time())

    def learn(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> bool:
        """Take note of an answer; whether it is worth asking the same again, after `wait_s`."""
        told = {name.lower(): value for name, value in headers.items()}
        self._share(told)
        if status < 400:
            self.failures, self.refused = 0, ""
        elif found := exhausted(status, told, body):
            self._hold(*found, quota=True)
        elif status in OVERLOADED:
            named = named_wait(told, body)
            self._hold(time.time() + (named + jitter(named) if named is not None else self._growing()), f"it answered {status}")
            self.failures += 1
            return True
        return False

    def lost(self) -> None:
        """The provider could not be reached, or hung up."""
        self._hold(time.time() + self._growing(), "it cannot be reached")
        self.failures += 1

    def _growing(self) -> float:
        return random.uniform(0.5, 1.0) * min(LONGEST_S, FIRST_S * 2.0 ** min(self.failures, 10))

    def _hold(self, until: float, reason: str, quota: bool = False) -> None:
        if until > self.until:
            self.until, self.reason, self.quota = until, reason, quota

    def _share(self, told: Mapping[str, str]) -> None:
        """A subscription says how much of each of its windows is used: stop where the owner's part begins."""
        for name, title in WINDOWS.items():
            used, reset = number(told.get(f"anthropic-ratelimit-unified-{name}-utilization")), _reset(told, name)
            if used is None:
                continue
            self.windows[title] = used
            if self.share is not None and used >= self.share and reset > time.time():
                self._hold(
                    reset, f"{used:.0%} of the {title} quota is used, and quota_share leaves the rest to its owner", quota=True
                )


def exhausted(status: int, told: Mapping[str, str], body: bytes) -> tuple[float, str] | None:
    """Until when a quota is used up, and which: by its headers or by the error that names it. None when it is not."""
    if told.get("anthropic-ratelimit-unified-status") == "rejected" and status == 429:
        claim = told.get("anthropic-ratelimit-unified-representative-claim", "").replace("_", "-")
        return _reset(
            told, ""
        ) or time.time() + LONGEST_S, f"quota exceeded, the subscription's {claim or 'present'} one is used up"
    error = _error(body)
    kinds = {str(error.get("code")), str(error.get("type"))}
    if found := next((kind for kind in QUOTA if kind in kinds), None):
        named = number(error.get("resets_at")) or (
            time.time() + seconds if (seconds := number(error.get("resets_in_seconds"))) else 0
        )
        return named or NEVER, f"quota exceeded, the account's is used up ({found})"
    if status == 429 and re.search(rb'"quotaId":\s*"\w*PerDay', body):
        return _midnight(), "quota exceeded, the day's is used up"
    if status in (400, 402, 403) and "credit balance is too low" in str(error.get("message")):
        return NEVER, "quota exceeded, the account's credit is used up"
    return None


def named_wait(told: Mapping[str, str], body: bytes) -> float | None:
    """The seconds that an overloaded provider asks for: retry-after, a reset of what is at zero, or Google's RetryInfo."""
    if (asked := told.get("retry-after")) is not None and (found := seconds_until(asked)) is not None:
        return found
    resets = []
    for name, value in told.items():
        stem = name.removesuffix("-remaining")
        if name.startswith("anthropic-ratelimit-") and stem != name and value == "0" and f"{stem}-reset" in told:
            resets.append(seconds_until(told[f"{stem}-reset"]))
    found_resets = [each for each in resets if each is not None]
    if found_resets:
        return max(found_resets)
    for detail in _error(body).get("details") or []:
        delay = str(detail.get("retryDelay", "")) if isinstance(detail, dict) else ""
        if delay.endswith("s") and (value_s := number(delay[:-1])) is not None:
            return value_s
    return None


def seconds_until(text: str) -> float | None:
    """A number of seconds, an HTTP date or an ISO 8601 time as seconds from now, never negative; None when it is neither."""
    if (plain := number(text)) is not None:
        return max(0.0, plain)
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return max(0.0, parse(text).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            continue
    return None


def jitter(seconds: float) -> float:
    """A little more, so that not everybody comes back at once."""
    return random.uniform(0.0, min(5.0, 0.1 * seconds + 0.1))


def number(text: object) -> float | None:
    """A finite number, or None."""
    try:
        found = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if abs(found) < 1e12 else None


def _midnight() -> float:
    """When a day of Google's begins anew: at midnight Pacific time, standard time where the difference matters."""
    day = timedelta(days=1)
    now = datetime.now(timezone(timedelta(hours=-8)))
    return (now.replace(hour=0, minute=0, second=0, microsecond=0) + day).timestamp()


def _reset(told: Mapping[str, str], window: str) -> float:
    """When a window of a subscription begins anew, in seconds since 1970; 0 when nobody says so."""
    name = f"anthropic-ratelimit-unified-{window}-reset" if window else "anthropic-ratelimit-unified-reset"
    return number(told.get(name)) or 0.0


def _error(body: bytes) -> dict[str, Any]:
    """The error object of an answer, empty when it has none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    found = found[0] if isinstance(found, list) and found else found
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}
