"""What every value of the engine is: frozen, and without fields that it does not know."""

from __future__ import annotations

import ast
import inspect
import itertools
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler

NonEmpty = Annotated[list[str], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]


class Value(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Described(Value):
    """A value with a schema: the docstring below a field is its description there."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler, /) -> dict[str, Any]:
        """The schema with descriptions. pydantic can find them itself, but does so whenever a program starts."""
        found = handler(core)
        fields = handler.resolve_ref_schema(found)["properties"]
        for name, text in docstrings(cls).items():
            fields[name]["description"] = text
        return found


class Written(Described):
    """A value that a user writes, with finite numbers."""

    model_config = ConfigDict(allow_inf_nan=False)


def docstrings(cls: type) -> dict[str, str]:
    """The docstrings below the fields of a class, by field."""
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in itertools.pairwise(tree.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
