"""task.yaml, agents.yaml, config.yaml -> models. An error names the file, the line and what is wrong, in one sentence."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harness import mistakes
from harness.agentspec import AgentSpec
from harness.defaults import Defaults
from harness.models import UserError
from harness.schema import schema as schema
from harness.spec import Task

Model = TypeVar("Model", bound=BaseModel)
OF_A_DRIVER = ("expect", "output", "prompt", "resume")


def load_task(path: Path, profile: str | None = None) -> Task:
    """The task of a task.yaml with `profile` applied; without one `gpu` where there is a GPU, else `cpu`, if it has them."""
    data, node = _read(path)
    profiles = data.pop("profiles", None) or {}
    if not isinstance(profiles, dict):
        raise UserError(f"{path}, line {_line(node, ('profiles',))}: profiles is not a mapping of names to fields")
    chosen = profile or _default_profile(profiles)
    if profiles and chosen not in profiles:
        raise UserError(f"{path} has no profile {chosen!r}; choose one of: {', '.join(profiles)}")
    if profile and not profiles and profile != "default":
        raise UserError(f"{path} has no profiles, so --profile {profile} means nothing there: leave it out")
    overrides = profiles.get(chosen) or {}
    if not isinstance(overrides, dict):
        raise UserError(f"{path}, line {_line(node, ('profiles', chosen))}: profile {chosen!r} is not a mapping")
    merged = _merge(data, overrides)
    return _build(Task, {**merged, "profile": chosen}, path, node, overrides=("profiles", chosen) if profiles else ())


def load_agents(path: Path) -> dict[str, AgentSpec]:
    """The agents of an agents.yaml by name."""
    data, node = _read(path)
    return {name: _agent(name, entry, path, node) for name, entry in data.items()}


def all_agents(path: Path) -> dict[str, AgentSpec]:
    """The agents of a repository's agents.yaml, changed and added to by the user's own file, field by field."""
    known, own = load_agents(path), own_file("agents.yaml")
    if not os.path.lexists(own):
        return known
    base, (data, node) = _read(path)[0], _read(own)
    for name, entry in data.items():
        merged = _merge(_kept(base.get(name, {}), entry), entry) if isinstance(entry, dict) else entry
        known[name] = _agent(name, merged, own, node)
    return known


def _kept(shipped: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """What a user's entry changes of a repository's one; under another driver a program takes and says things another way."""
    shipped = shipped if isinstance(shipped, dict) else {}
    driver = shipped.get("driver", "exec")
    return (
        shipped
        if entry.get("driver", driver) == driver
        else {field: value for field, value in shipped.items() if field not in OF_A_DRIVER}
    )


def _agent(name: str, entry: Any, path: Path, node: yaml.Node | None) -> AgentSpec:
    if not isinstance(entry, dict):
        raise UserError(f"{path}, line {_line(node, (name,))}: agent {name!r} is not a mapping of fields")
    return _build(AgentSpec, {**entry, "name": name}, path, node, prefix=(str(name),))


def own_file(name: str) -> Path:
    """Where a file of the user's own settings is: below $XDG_CONFIG_HOME/harness."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "harness" / name


def load_defaults() -> Defaults:
    """The user's own defaults for `harness run`, from $XDG_CONFIG_HOME/harness/config.yaml; a missing file is fine."""
    path = own_file("config.yaml")
    if not os.path.lexists(path):
        return Defaults()
    data, node = _read(path)
    return _build(Defaults, data, path, node)


def profiles(path: Path) -> list[str]:
    """The names of a task.yaml's profiles, so that a default one is used only where there is one."""
    found = _read(path)[0].get("profiles")
    return list(found) if isinstance(found, dict) else []


def place(path: Path, profile: str, *where: str) -> str:
    """ "FILE, line N" of a field of a task.yaml, in its profile or else in its base."""
    node = _read(path)[1]
    return f"{path}, line {_find(node, ('profiles', profile, *where)) or _line(node, where)}"


def find_agent(agents: dict[str, AgentSpec], name: str, path: Path) -> AgentSpec:
    """The agent of that name, or a UserError that offers the nearest one."""
    if name in agents:
        return agents[name]
    near = difflib.get_close_matches(name, agents, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(agents)) or 'none'}"
    raise UserError(f"{path} has no agent {name!r}; {hint}")


def _default_profile(profiles: dict[str, Any]) -> str:
    gpu = any(Path("/dev").glob("nvidia[0-9]*"))
    for name in ("gpu", "cpu") if gpu else ("cpu", "gpu"):
        if name in profiles:
            return name
    return next(iter(profiles), "default")


def _read(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """The document as data and as nodes, which know their lines."""
    try:
        text = path.read_text("utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        data = yaml.safe_load(text)
    except FileNotFoundError:
        how = "create it (docs/agents.md says how)" if path.name == "agents.yaml" else "create it, or name another one"
        raise UserError(f"{path} does not exist: {how}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8, or name another file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not valid YAML: {error.problem or 'unreadable'}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}, line 1: not valid YAML: {error}") from error
    if not isinstance(data, dict | None):
        raise UserError(f"{path}, line 1: a mapping of fields is expected")
    if found := mistakes.twice(node):
        raise UserError(f"{path}, line {found.start_mark.line + 1}: {found.value!r} is written twice: keep one of the two")
    return data or {}, node


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _build(
    model: type[Model],
    data: dict[str, Any],
    path: Path,
    node: yaml.Node | None,
    prefix: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
) -> Model:
    """`data` as a model; the first validation error becomes a UserError with the line in the profile or in the base."""
    try:
        return model.model_validate(data)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        where = tuple(str(part) for part in error["loc"])
        in_profile = _find(node, overrides + where) if overrides else None
        line = in_profile or _line(node, prefix + where)
        field = ".".join(where) or model.__name__.lower()
        raise UserError(f"{path}, line {line}: {mistakes.explain(error, field, model, where)}") from invalid


def _find(node: yaml.Node | None, where: tuple[str, ...]) -> int | None:
    """The line of a nested field, or None when the document does not have it."""
    line = None
    for part in where:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value}
            if part not in pairs:
                return None
            line, node = pairs[part][0].start_mark.line + 1, pairs[part][1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def _line(node: yaml.Node | None, where: tuple[str, ...]) -> int:
    """The line of a nested field, or of the nearest thing above it."""
    for end in range(len(where), 0, -1):
        if (line := _find(node, where[:end])) is not None:
            return line
    return 1
