"""JSON Schemas of the files that users write, made from spec.py and agentspec.py, and of a referee's measurement.

    python -m harness.schema docs/schemas        write them all, after a change of one of them or of models.py

Editors complete and check YAML with them, as the first line of each of our files asks for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel

from harness.agentspec import AgentSpec
from harness.defaults import Defaults
from harness.models import Measurement
from harness.spec import Task

Name = Literal["task", "agents", "config", "measurement"]
DIALECT = "http://json-schema.org/draft-07/schema#"


def schema(name: Name) -> dict[str, Any]:
    """The schema of task.yaml, agents.yaml, config.yaml or measurement.json."""
    if name == "measurement":
        return {"$schema": DIALECT, "title": "measurement.json", **_plain(Measurement)}
    if name == "config":
        return {"$schema": DIALECT, "title": "config.yaml", **_plain(Defaults)}
    if name == "agents":
        entry = _plain(AgentSpec, without="name")
        about = "The agents that `harness run --agent NAME` can start."
        return {"$schema": DIALECT, "title": "agents.yaml", "description": about, "type": "object", "additionalProperties": entry}
    task = _plain(Task, without="profile")
    override = {**_optional(task), "type": ["object", "null"], "description": "The fields that differ in this profile."}
    about = "Variants of the task by name, for `--profile`; by default gpu where there is a GPU, else cpu, if they are there."
    profiles = {"type": "object", "description": about, "additionalProperties": override}
    return {"$schema": DIALECT, "title": "task.yaml", **task, "properties": {**task["properties"], "profiles": profiles}}


def text(name: Name) -> str:
    """The schema as it is written to docs/schemas."""
    return json.dumps(schema(name), indent=2) + "\n"


def _plain(model: type[BaseModel], without: str = "") -> dict[str, Any]:
    """The schema of a model without the field that is not written, references replaced by what they refer to."""
    whole = model.model_json_schema()
    plain = _inlined(whole, whole.pop("$defs", {}))
    assert isinstance(plain, dict)
    plain.pop("title", None)
    plain["properties"].pop(without, None)
    if required := [name for name in plain.pop("required", []) if name != without]:
        plain["required"] = required
    return plain


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """`part` with its references and without the titles that only repeat a field's name."""
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        found = _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
        return {**found, **{key: value for key, value in part.items() if key != "$ref"}}
    titled = isinstance(part.get("title"), str)  # a field may be called title: then it is a mapping
    return {key: _inlined(value, definitions) for key, value in part.items() if not (key == "title" and titled)}


def _optional(part: Any) -> Any:
    """`part` with nothing in it required and no defaults: what a profile does not say stays as it is."""
    if isinstance(part, list):
        return [_optional(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {key: _optional(value) for key, value in part.items() if key not in ("required", "default")}


if __name__ == "__main__":
    for each in get_args(Name):
        (Path(sys.argv[1]) / f"{each}.json").write_text(text(each), "utf-8")
