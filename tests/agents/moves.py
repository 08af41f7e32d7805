"""What the scripted model does: looks at a request in any protocol, and answers with text or with one tool call.

It drives every CLI through the same work: read a file, change one place in it, say so. Which tool does that, and under
which names it takes its arguments, is read from the tools that the request offers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

FINISHED = "I moved X towards three.\n\nBecause it may help."
GIVEN_UP = "There is nothing worth changing."
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
EMPTY = {"boolean": False, "integer": 1, "number": 1, "array": [], "object": {}}
READ = ("read", "read_file", "view")
EDIT = ("edit", "replace", "str_replace", "apply_patch")
SHELL = ("bash", "shell", "shell_command", "exec_command", "run_shell_command", "local_shell")
WHERE = re.compile(r"(?:directory|<cwd>|\bcwd)[^\w/\n]{0,12}(/[^\n<`\"']*[^\n<`\"'\s.,)])", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """One edit: the line `old` becomes `new` in `path`, which is relative to the agent's folder."""

    path: str = "toy/solution.py"
    old: str = "X = 5.0  # tune: 0..8"
    new: str = "X = 4.0  # tune: 0..8"

    def shell(self) -> str:
        """The change as a command that writes a new file and renames it."""
        return f"sed 's/{self.old}/{self.new}/' '{self.path}' > '{self.path}.new' && mv '{self.path}.new' '{self.path}'"

    def patch(self) -> str:
        """The change as codex's apply_patch takes it."""
        return f"*** Begin Patch\n*** Update File: {self.path}\n@@\n-{self.old}\n+{self.new}\n*** End Patch"

    def block(self) -> str:
        """The change as aider takes it."""
        return f"{self.path}\n```python\n<<<<<<< SEARCH\n{self.old}\n=======\n{self.new}\n>>>>>>> REPLACE\n```"


@dataclass(frozen=True)
class Tool:
    """A tool that a request offers; `free` takes plain text instead of JSON."""

    name: str
    schema: dict[str, Any] = field(default_factory=dict)
    free: bool = False


@dataclass(frozen=True)
class Turn:
    """A request in no protocol's words: the tools, how many results of tools it holds, and all of its text."""

    tools: list[Tool]
    results: int
    text: str
    said: int = 0


@dataclass(frozen=True)
class Move:
    """The model's answer: text, or a call of `tool` with `arguments`, or with `text` where the tool is `free`."""

    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    free: bool = False


def move(turn: Turn, change: Change | None, by_shell: bool = False) -> Move:
    """The next move. Without a `change` the model gives up at once; `by_shell` makes it rename a new file into place."""
    if not turn.tools:
        return _text_only(turn, change)
    work = _work(turn, change, by_shell) if change else []
    if turn.results < len(work):
        return work[turn.results]
    shell = _tool(turn.tools, SHELL)
    if shell and "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT" in turn.text:
        return Move(tool=shell.name, arguments=arguments(shell.schema, {"command": SUBMIT}))
    return Move(text=FINISHED if change else GIVEN_UP)


def _text_only(turn: Turn, change: Change | None) -> Move:
    """For aider, which offers no tools; and for requests beside the work, such as the one for a session's title."""
    if "SEARCH/REPLACE" not in turn.text:
        return Move(text="A title")
    return Move(text=f"{FINISHED}\n\n{change.block()}\n" if change else GIVEN_UP)


def _work(turn: Turn, change: Change, by_shell: bool) -> list[Move]:
    """The calls that make the change, in order."""
    shell, read, edit = (_tool(turn.tools, names) for names in (SHELL, READ, EDIT))
    if shell and (by_shell or not edit):
        values = {"command": change.shell()}
        return [Move(tool=shell.name, arguments=arguments(shell.schema, values))]
    assert edit, f"no tool that edits among {[tool.name for tool in turn.tools]}"
    if edit.free:
        return [Move(text=change.patch(), tool=edit.name, free=True)]
    found = WHERE.search(turn.text)
    path = f"{found[1].rstrip('/')}/{change.path}" if found else change.path
    values = {"path": path, "old": change.old, "new": change.new, "patch": change.patch()}
    calls = [Move(tool=each.name, arguments=arguments(each.schema, values)) for each in (read, edit) if each]
    return calls


def _tool(tools: list[Tool], names: tuple[str, ...]) -> Tool | None:
    known = {tool.name.lower(): tool for tool in tools}
    return next((known[name] for name in names if name in known), None)


def arguments(schema: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Arguments that fit a JSON Schema, from what they mean: path, old, new, command, patch."""
    needed = schema.get("required", [])
    found = {}
    for name, part in schema.get("properties", {}).items():
        value = _argument(name, part, values)
        if value is not None:
            found[name] = value
        elif name in needed:
            found[name] = {"boolean": False, "integer": 1, "number": 1, "array": [], "object": {}}.get(
                part.get("type"), "change it"
            )
    return found


def _argument(name: str, part: dict[str, Any], values: dict[str, Any]) -> Any:
    plain = name.lower().replace("_", "")
    if part.get("type") == "array" and isinstance(part.get("items"), dict):
        if part["items"].get("type") == "object" and "old" in values:
            return [arguments(part["items"], values)]
        return ["bash", "-c", values["command"]] if plain == "command" and "command" in values else None
    for meaning, names in MEANINGS.items():
        if plain in names and meaning in values:
            return values[meaning]
    return None


MEANINGS = {
    "path": ("path", "filepath", "absolutepath", "file"),
    "old": ("oldstring", "oldtext", "oldstr"),
    "new": ("newstring", "newtext", "newstr"),
    "command": ("command", "cmd", "script"),
    "patch": ("input", "patch", "patchtext"),
}
