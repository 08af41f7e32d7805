"""What the drivers have in common: an entry's placeholders filled in, its files in the private HOME, its program in view."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from harness import trees
from harness.agents import programs, shims
from harness.models import AgentSpec, UserError
from harness.protocols import Box

LONGEST_ARGUMENT = 120 << 10  # bytes; Linux takes 128 KiB


@dataclass(frozen=True)
class Start:
    """A command line and the box that it runs in. `values` are what the placeholders stand for."""

    argv: list[str]
    box: Box
    values: dict[str, str]


def prepare(spec: AgentSpec, prompt: str, box: Box, seed: int, session: str = "") -> Start:
    """The command of an entry, with its HOME as the entry wants it; with a `session`, the one that goes on with that."""
    assert box.home is not None
    values = {"python": sys.executable, "model": spec.model, "home": str(box.home), "seed": str(seed), "session": session}
    values |= {"prompt_file": str(box.home / "prompt.md"), "file": box.env.get("HARNESS_FILE", "")}
    values |= {"base_url": box.gateway.url, "key": box.gateway.key} if box.gateway and not box.gateway.proxy else {}
    files = {name: fill(text, values) for name, text in spec.home_files.items()}
    long = spec.prompt.via == "arg" and len(prompt.encode()) > LONGEST_ARGUMENT
    if spec.prompt.via == "file" or long:
        files["prompt.md"] = prompt
    for name, text in files.items():
        write_beneath(box.home, name, text)
    argv = [fill(part, values) for part in (*spec.argv, *(spec.resume if session else ()))]
    if spec.prompt.via == "arg":
        asked = f"Your task is in the file {values['prompt_file']}: read all of it, then do what it says." if long else prompt
        argv += [*([spec.prompt.flag] if spec.prompt.flag else []), asked]
    env = {**box.env, **proxied(box), **{name: fill(value, values) for name, value in spec.env.items()}}
    if not spec.argv[0].startswith("{"):
        program = programs.find(argv[0])
        if program is None:
            raise missing(spec)
        argv[0] = str(program.path)
        env["PATH"] = os.pathsep.join([*map(str, program.search), env.get("PATH", "")])
        box = replace(box, readable=(*program.readable, *box.readable))
    return Start(argv, replace(box, env=env), values)


def login(spec: AgentSpec, home: Path) -> tuple[list[str], dict[str, str]]:
    """The command that logs an agent in, and its environment: the user's own, with the HOME that the harness keeps for it."""
    assert spec.login is not None
    values = {"python": sys.executable, "model": spec.model, "home": str(home)}
    for name, text in spec.home_files.items():
        write_beneath(home, name, fill(text, values))
    env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}  # they would lead elsewhere
    env |= {"HOME": str(home), **{name: fill(value, values) for name, value in spec.env.items()}}
    argv = [fill(part, values) for part in spec.login.command]
    if (program := programs.find(argv[0])) is None:
        raise missing(spec)
    env["PATH"] = os.pathsep.join([*map(str, program.search), env.get("PATH", "")])
    return [str(program.path), *argv[1:]], env


def proxied(box: Box) -> dict[str, str]:
    """The variables that lead a program to a line which is a proxy. What is not HTTPS is led there, too, to be told so."""
    if not box.gateway or not box.gateway.proxy:
        return {}
    told = {"HTTPS_PROXY": box.gateway.url, "HTTP_PROXY": box.gateway.url, "NO_PROXY": "localhost,127.0.0.1,::1"}
    return {**told, **{name.lower(): text for name, text in told.items()}}


def missing(spec: AgentSpec) -> UserError:
    """The error that an agent's program is not on this machine."""
    how = f": install it with `{spec.install}`" if spec.install else ": install it, or choose another agent"
    name, why = spec.argv[0], "which is not on your PATH"
    if asked := shims.manager(Path(shutil.which(name) or name)):
        why = f"and on your PATH is only a stand-in with nothing behind it (see `{Path(asked).name} which {name}`)"
    return UserError(f"agent {spec.name!r} needs the program {name!r}, {why}{how}")


def fill(text: str, values: dict[str, str]) -> str:
    """`text` with {name} replaced for the names we know; other braces stay, since agents' arguments may be JSON."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def write_beneath(folder: Path, name: str, text: str) -> None:
    """Write a file below a folder that an agent may have left anything in: no link is followed, what is in the way goes."""
    *above, last = PurePosixPath(name).parts
    with ExitStack() as stack:
        handle = stack.enter_context(trees.opened(str(folder)))
        for part in above:
            handle = stack.enter_context(_entered(handle, part))
        trees.remove(Path(f"/proc/self/fd/{handle}/{last}"))
        file = os.open(last, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=handle)
        with os.fdopen(file, "w", encoding="utf-8") as out:
            out.write(text)


def _entered(handle: int, name: str) -> AbstractContextManager[int]:
    """A folder within another; made anew when something else has its name."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=handle)
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=handle)
    return trees.opened(name, handle)
