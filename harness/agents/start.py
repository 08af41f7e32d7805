"""What the drivers have in common: an entry's placeholders filled in, its files in the private HOME, its program in view."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from harness.agents import programs
from harness.models import AgentSpec, UserError
from harness.protocols import Box

LONGEST_ARGUMENT = 120 << 10  # bytes; Linux takes 128 KiB


@dataclass(frozen=True)
class Start:
    """A command line and the box that it runs in. `values` are what the placeholders stand for."""

    argv: list[str]
    box: Box
    values: dict[str, str]


def prepare(spec: AgentSpec, prompt: str, box: Box, seed: int) -> Start:
    """The command of an entry, with its HOME as the entry wants it."""
    assert box.home is not None
    values = {"python": sys.executable, "model": spec.model, "home": str(box.home), "seed": str(seed)}
    values |= {"prompt_file": str(box.home / "prompt.md"), "file": box.env.get("HARNESS_FILE", "")}
    values |= {"base_url": box.gateway.url, "key": box.gateway.key} if box.gateway else {}
    files = {name: fill(text, values) for name, text in spec.home_files.items()}
    long = spec.prompt.via == "arg" and len(prompt.encode()) > LONGEST_ARGUMENT
    if spec.prompt.via == "file" or long:
        files["prompt.md"] = prompt
    for name, text in files.items():
        write_beneath(box.home, name, text)
    argv = [fill(part, values) for part in spec.argv]
    if spec.prompt.via == "arg":
        asked = f"Your task is in the file {values['prompt_file']}: read all of it, then do what it says." if long else prompt
        argv += [*([spec.prompt.flag] if spec.prompt.flag else []), asked]
    env = {**box.env, **{name: fill(value, values) for name, value in spec.env.items()}}
    if not spec.argv[0].startswith("{"):
        program = programs.find(argv[0])
        if program is None:
            raise missing(spec)
        argv[0] = str(program.path)
        env["PATH"] = os.pathsep.join([*map(str, program.search), env.get("PATH", "")])
        box = replace(box, readable=(*program.readable, *box.readable))
    return Start(argv, replace(box, env=env), values)


def missing(spec: AgentSpec) -> UserError:
    """The error that an agent's program is not on this machine."""
    how = f": install it with `{spec.install}`" if spec.install else ": install it, or choose another agent"
    return UserError(f"agent {spec.name!r} needs the program {spec.argv[0]!r}, which is not on your PATH{how}")


def fill(text: str, values: dict[str, str]) -> str:
    """`text` with {name} replaced for the names we know; other braces stay, since agents' arguments may be JSON."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def write_beneath(folder: Path, name: str, text: str) -> None:
    """Write a file below a folder that an agent may have left links in: none of them is followed, what is in the way goes."""
    parts = PurePosixPath(name).parts
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(folder, flags)
    try:
        for part in parts[:-1]:
            inner = _enter(handle, part, flags)
            os.close(handle)
            handle = inner
        _make_room(handle, parts[-1])
        file = os.open(parts[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=handle)
        with os.fdopen(file, "w", encoding="utf-8") as out:
            out.write(text)
    finally:
        os.close(handle)


def _enter(handle: int, name: str, flags: int) -> int:
    """A handle of a folder within another; made anew when something else has its name."""
    try:
        return os.open(name, flags, dir_fd=handle)
    except FileNotFoundError:
        pass
    except OSError:
        os.unlink(name, dir_fd=handle)
    os.mkdir(name, 0o755, dir_fd=handle)
    return os.open(name, flags, dir_fd=handle)


def _make_room(handle: int, name: str) -> None:
    """Remove a file or a link, so that a new file does not write through it."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=handle)
