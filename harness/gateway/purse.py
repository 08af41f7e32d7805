"""What the night and each experiment have spent, and whether one more request may be made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.folders import replace
from harness.gateway.answers import Refused
from harness.gateway.content import Asked
from harness.gateway.prices import Prices, Tokens
from harness.models import Usage

UNSEEN = 2000  # tokens that a provider may add to a request


@dataclass
class Account:
    """One experiment's usage, and what its requests in flight may still cost."""

    usage: Usage
    file: Path
    reserved: float = 0.0


class Purse:
    """The budgets. A request is let through while its budget is not spent; near the end one at a time, so that a budget is
    exceeded by the cost of one request at most.
    """

    def __init__(self, prices: Prices, night_usd: float | None, experiment_usd: float | None, spent_usd: float) -> None:
        """`spent_usd` is what the night has spent so far, on experiments that may be opened again, too."""
        self.prices, self.night_usd, self.experiment_usd = prices, night_usd, experiment_usd
        self._before = spent_usd
        self.accounts: dict[str, Account] = {}
        self._reserved = 0.0
        self._changed = asyncio.Condition()

    @property
    def spent(self) -> float:
        """US dollars of the night so far, as far as prices are known."""
        return self._before + sum(account.usage.usd or 0.0 for account in self.accounts.values())

    def open(self, name: str, usage: Usage, file: Path) -> None:
        """Begin, or go on with, an experiment."""
        if name not in self.accounts:
            self.accounts[name] = Account(usage, file)
            self._before -= usage.usd or 0.0

    @asynccontextmanager
    async def request(self, name: str, asked: Asked) -> AsyncIterator[None]:
        """Room for one request; Refused when there is none."""
        account, price = self.accounts[name], self.prices.of(asked.model)
        limited = self.night_usd is not None or self.experiment_usd is not None
        if limited and price is None:
            raise Refused(400, f"nobody knows the price of {asked.model[:100]!r}, and there is a budget in dollars", "budget")
        worst = price.usd(Tokens(written_1h=len(asked.body) // 2 + UNSEEN, output=asked.output)) if price and limited else 0.0
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(account, worst))
            account.reserved += worst
            self._reserved += worst
        try:
            yield
        finally:
            async with self._changed:
                account.reserved -= worst
                self._reserved -= worst
                self._changed.notify_all()

    def _has_room(self, account: Account, worst: float) -> bool:
        """Whether a request may go now: surely within the budgets, or as the only one under way."""
        if self.night_usd is not None and self.spent >= self.night_usd:
            raise Refused(400, f"the night's budget of {self.night_usd:g} USD is spent", "budget")
        own = account.usage.usd or 0.0
        if self.experiment_usd is not None and own >= self.experiment_usd:
            raise Refused(400, f"the experiment's budget of {self.experiment_usd:g} USD is spent", "budget")
        night = self.night_usd is None or self._reserved < 1e-12 or self.spent + self._reserved + worst <= self.night_usd
        alone = self.experiment_usd is None or account.reserved < 1e-12
        return night and (alone or own + account.reserved + worst <= (self.experiment_usd or 0.0))

    def charge(self, name: str, model: str, tokens: Tokens, *, told: bool, retries: int, first_s: float) -> float | None:
        """Write down one answer, for good: the file is what a killed night knows of it. US dollars, None when unknown."""
        account, price = self.accounts[name], self.prices.of(model)
        usd, usage = price.usd(tokens) if price else None, account.usage
        account.usage = Usage(
            requests=usage.requests + 1,
            input=usage.input + tokens.input,
            output=usage.output + tokens.output,
            cached=usage.cached + tokens.cached,
            written=usage.written + tokens.written + tokens.written_1h,
            usd=None if usd is None or usage.usd is None else usage.usd + usd,
            estimated=usage.estimated + (not told),
            retries=usage.retries + retries,
            first_s=first_s if usage.first_s is None else usage.first_s,
            models=sorted({*usage.models, model}),
        )
        replace(account.file, account.usage.model_dump_json())
        return usd
