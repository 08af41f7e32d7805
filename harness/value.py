"""What every value of the engine is: frozen, and without fields that it does not know."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NonEmpty = Annotated[list[str], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]


class Value(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Written(Value):
    """A value that a user writes: the docstring below a field is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True)
