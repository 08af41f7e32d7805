"""What tokens cost by list price. A model that nobody has a price for has none: None, never zero."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from harness.models import UserError, Value

SHIPPED = Path(__file__).with_name("prices.yaml")
VERSION = re.compile(r"([-@:.](latest|preview|exp|v?\d{4,8}|\d{2}|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}))*")
Dollars = Annotated[float, Field(ge=0)]


class Tokens(Value):
    """What one answer was made of. `input` was neither read from a cache (`cached`) nor written to one (`written`)."""

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    written_1h: int = 0

    @property
    def prompt(self) -> int:
        """All tokens that went in."""
        return self.input + self.cached + self.written + self.written_1h


class Price(Value):
    """US dollars per million tokens; see prices.yaml for the fields."""

    input: Dollars
    output: Dollars
    cached: Dollars | None = None
    written: Dollars | None = None
    written_1h: Dollars | None = None
    long: LongPrice | None = None

    def usd(self, tokens: Tokens) -> float:
        """What an answer costs in US dollars."""
        if self.long and tokens.prompt > self.long.above:
            return self.long.usd(tokens)
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        written_1h = written if self.written_1h is None else self.written_1h
        spent = tokens.input * self.input + tokens.output * self.output + tokens.cached * cached
        return (spent + tokens.written * written + tokens.written_1h * written_1h) / 1e6


class LongPrice(Price):
    """The price of requests whose input is longer than `above` tokens."""

    above: Annotated[int, Field(gt=0)]


class Prices(Value):
    """A price list. Names may be followed by a version in what is asked for; those that end in * are prefixes."""

    date: object = None
    models: dict[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of a model, by the longest name that fits what comes after the vendor; None when nobody has one."""
        name = model.rsplit("/", 1)[-1].lower()
        fitting = [known for known in self.models if _fits(known.lower(), name)]
        return self.models[max(fitting, key=len)] if fitting else None


def load() -> Prices:
    """The shipped list with the user's own laid over it."""
    shipped, own = read(SHIPPED), user_file()
    return Prices(models={**shipped.models, **(read(own).models if own.exists() else {})})


def user_file() -> Path:
    """Where a user corrects prices and adds others."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "harness" / "prices.yaml"


def read(path: Path) -> Prices:
    """A list from a file; a UserError says what is wrong with it."""
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except ValidationError as invalid:
        error = invalid.errors()[0]
        where = ".".join(str(part) for part in error["loc"])
        raise UserError(f"{path}: {where or 'the file'}: {error['msg']}; see {SHIPPED} for an example") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _fits(known: str, name: str) -> bool:
    if known.endswith("*"):
        return name.startswith(known[:-1])
    return name.startswith(known) and VERSION.fullmatch(name[len(known) :]) is not None
