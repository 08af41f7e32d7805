"""What is wrong with a file that a user wrote, in words for whom pydantic's types and YAML's nodes are nothing."""

from __future__ import annotations

import difflib
from typing import Any, get_args

import yaml
from pydantic import BaseModel

PLAIN = {  # pydantic's own words for these speak of its types
    "list_type": "a list is expected, as in [one, two], and not {given}",
    "dict_type": "a mapping is expected, as in {{name: value}}, and not {given}",
    "model_type": "a mapping of fields is expected, as in {{name: value}}, and not {given}",
    "string_type": "text is expected, and not {given}: put it in quotes",
    "too_short": "at least one entry is expected",
    "float_type": "a number is expected, and not {given}",
    "float_parsing": "a number is expected, and not {given}",
    "int_type": "a whole number is expected, and not {given}",
    "int_parsing": "a whole number is expected, and not {given}",
    "int_from_float": "a whole number is expected, and not {given}",
    "finite_number": "a finite number is expected, and not {given}",
    "bool_parsing": "true or false is expected, and not {given}",
    "bool_type": "true or false is expected, and not {given}",
    "invalid_key": "names of fields have to be text: put this one in quotes",
}


def explain(error: Any, field: str, model: type[BaseModel], where: tuple[str, ...]) -> str:
    """One sentence for one pydantic error."""
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where[-1], _fields(model, where[:-1]), 1)
        return f"unknown field {field!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if error["type"] == "missing":
        return f"the field {field!r} is missing"
    ours = PLAIN.get(error["type"])
    message = ours.format(given=_given(error["input"])) if ours else error["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if where else message


def _given(value: object) -> str:
    """What was written instead, short."""
    text = "nothing" if value is None else "a list" if isinstance(value, list) else repr(value)
    return "a mapping" if isinstance(value, dict) else text if len(text) < 60 else f"{text[:60]}..."


def _fields(model: type[BaseModel], where: tuple[str, ...]) -> list[str]:
    """The field names of the model nested at `where`."""
    for part in where:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        inner = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [name for name in model.model_fields if name not in ("name", "profile")] + ["name", "profiles"]


def twice(node: yaml.Node | None, seen: set[int] | None = None) -> yaml.ScalarNode | None:
    """The second of two equal keys of a mapping, of which YAML's loader would take the last without a word."""
    seen = set() if seen is None else seen
    if node is None or id(node) in seen:  # an anchor may be used a thousand times
        return None
    seen.add(id(node))
    keys: set[str] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and key.value in keys:
            return key
        keys.add(str(key.value))
        if found := twice(value, seen):
            return found
    inner = node.value if isinstance(node, yaml.SequenceNode) else ()
    return next((found for each in inner if (found := twice(each, seen))), None)
