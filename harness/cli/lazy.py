"""All commands, and where they are: only what the one that was asked for needs is loaded, which is most of what it takes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

MODULES = (  # as `harness --help` lists them; behind a colon the function, where it has another name
    ("nights", "run resume baseline replicate"),
    ("once", "check measure"),
    ("certify", "certify"),
    ("ablate", "ablate"),
    ("export", "export"),
    ("review", "review accept reject sync"),
    ("pick", "pick"),
    ("history", "status"),
    ("watch", "watch"),
    ("history", "log"),
    ("ending", "summary"),
    ("report", "report"),
    ("history", "show diff revive"),
    ("wishes", "idea submit"),
    ("machine", "doctor gc schema"),
    ("imports", "import:bring"),
    ("agents", "agents:app"),
)
COMMANDS = {
    name: (module, function or name)
    for module, names in MODULES
    for name, _, function in (each.partition(":") for each in names.split())
}


class Lazy(TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; where there is none, all are loaded, for the one that may have been meant."""
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                self.commands[name] = _load(name)
        return super().get_command(ctx, cmd_name)


def _load(name: str) -> Any:
    module, function = COMMANDS[name]
    found = getattr(import_module(f"harness.cli.{module}"), function)
    if isinstance(found, typer.Typer):
        found.info.name = name
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)
