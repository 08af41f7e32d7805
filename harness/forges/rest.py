"""GitHub's REST API as far as it is needed: pages, patience within limits, errors as sentences.

Requests are made one after the other, those that write at least a second apart, and a limit is waited for as the headers say:
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.models import UserError

if TYPE_CHECKING:
    import httpx

TRIES = 5
BETWEEN_WRITES_S = 1.0
SECONDARY_S = 60.0  # where a secondary limit does not say how long
MOST_S = 300.0  # longer waits are the user's decision
HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28", "User-Agent": f"harness/{__version__}"}


class Unprocessable(Exception):
    """Status 422: what was asked for cannot be, for example because it is there already."""


class Denied(UserError):
    """Status 403 or 404: the token may not do that, or not there."""


class Rest:
    """One API at a base URL. The token is in memory and in the header of requests to that URL, nowhere else."""

    def __init__(self, url: str, token: str, tell: Callable[[str], None], between_s: float = BETWEEN_WRITES_S) -> None:
        """Nothing is asked yet. `tell` is given a sentence before a long wait."""
        self._base, self._tell, self._between_s, self._wrote = url.rstrip("/"), tell, between_s, 0.0
        self._headers = {**HEADERS, "Authorization": f"Bearer {token}"}  # httpx leaves the token out when it is sent elsewhere

    def pages(self, path: str, **query: str) -> Iterator[Any]:
        """Every item of a list, from all of its pages."""
        url: str | None = f"{self._base}{path}"
        query = {**query, "per_page": "100"}
        while url:
            response = self._send("GET", url, params=query or None)  # no query of ours: the address has its own
            yield from response.json()
            url, query = response.links.get("next", {}).get("url"), {}
            if url and not url.startswith(f"{self._base}/"):
                raise UserError(f"{self._base} points to another host for its next page: nothing is sent there")

    def get(self, path: str) -> Any:
        """One object."""
        return self._send("GET", f"{self._base}{path}").json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Make something. Never repeated when it may have been made: whoever asks looks first."""
        return self._write("POST", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Change something, with the same care."""
        return self._write("PATCH", path, body)

    def _write(self, method: str, path: str, body: dict[str, Any]) -> Any:
        time.sleep(max(0.0, self._wrote + self._between_s - time.monotonic()))
        try:
            return self._send(method, f"{self._base}{path}", json=body).json()
        finally:
            self._wrote = time.monotonic()

    def _send(self, method: str, url: str, **more: Any) -> httpx.Response:
        import httpx

        for number in range(TRIES):
            last = number == TRIES - 1
            try:
                response = httpx.request(method, url, headers=self._headers, timeout=30, follow_redirects=True, **more)
            except httpx.TransportError as error:
                if last or (method != "GET" and not isinstance(error, httpx.ConnectError)):
                    raise UserError(f"{self._base} cannot be reached: {error}; try again later") from None
                time.sleep(2.0**number)
                continue
            wait = _wait(response, number)
            if response.status_code >= 500 and method == "GET" and not last:
                wait = 2.0**number
            if wait is None or last:
                return self._checked(response)
            self._rest(wait)
        raise AssertionError

    def _rest(self, seconds: float) -> None:
        if seconds > MOST_S:
            until = time.strftime("%H:%M", time.localtime(time.time() + seconds))
            raise UserError(
                f"the rate limit of {self._base} is used up until {until}: run it again then, it goes on where it was"
            )
        if seconds > 5:
            self._tell(f"waiting {seconds:.0f} s for the rate limit of {self._base}")
        time.sleep(seconds)

    def _checked(self, response: httpx.Response) -> httpx.Response:
        """The response, or what is wrong in a sentence; what a server says is bounded."""
        code, said = response.status_code, " ".join(_message(response).split())[:300]
        if code < 400:
            if not isinstance(_parsed(response), dict | list):
                raise UserError(
                    f"{self._base} answered {code} and no JSON: is that the address of the API, or of a proxy before it?"
                )
            return response
        if code == 422:
            raise Unprocessable(said)
        what = {
            401: "refused the token: `gh auth login`, or set GH_TOKEN",
            403: f"does not allow that ({said}): the token needs the rights to write contents and pull requests",
            404: "has no such repository, or the token may not see it: check the remote's address and the token's rights",
            429: "answers that these are too many requests: run it again later, it goes on where it was",
        }.get(code, f"failed with status {code} ({said}): run it again, what was done is not done twice")
        raise (Denied if code in (403, 404) else UserError)(f"{self._base} {what}")


def _wait(response: httpx.Response, number: int) -> float | None:
    """Seconds until a request that met a limit may be made again; None when it met none."""
    if response.status_code not in (403, 429):
        return None
    if (after := response.headers.get("retry-after", "")).isdigit():
        return float(after)
    if response.headers.get("x-ratelimit-remaining") == "0":
        reset = response.headers.get("x-ratelimit-reset", "")
        return max(0.0, float(reset) - time.time()) + 1 if reset.isdigit() else SECONDARY_S
    limited = response.status_code == 429 or "secondary rate limit" in _message(response).lower()
    return SECONDARY_S * 2**number if limited else None


def _parsed(response: httpx.Response) -> Any:
    """What a response holds; None where it is no JSON."""
    try:
        return response.json()
    except ValueError:
        return None


def _message(response: httpx.Response) -> str:
    found = _parsed(response)
    if not isinstance(found, dict):
        return ""
    errors = found.get("errors")
    more = [str(each.get("message", "")) for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return " ".join([str(found.get("message", "")), *more])
