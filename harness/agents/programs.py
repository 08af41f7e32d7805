"""Where the program of an agent is, and the folders that it cannot run without: a sandbox shows nothing else of a user's."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.agents import shims

SYSTEM = (Path("/usr"), Path("/bin"), Path("/sbin"), Path("/lib"), Path("/lib64"))
MOST_STEPS = 6


@dataclass(frozen=True)
class Program:
    """An installed program: its path, the folders to show, and the folders for PATH, which its interpreter lies in."""

    path: Path
    readable: tuple[Path, ...]
    search: tuple[Path, ...]


def installed_here() -> Path:
    """Where scripts/install-agents puts programs."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "harness" / "agents"


def find(name: str) -> Program | None:
    """The program on the user's PATH, else the one that scripts/install-agents has installed; None when there is neither."""
    ours = installed_here()
    path = _on_path(name) or _on_path(name, str(ours / "bin"))
    if path is None:
        return None
    readable, search = dict[Path, None](), dict[Path, None]()
    waiting: list[Path] = [path]
    for _ in range(MOST_STEPS):
        if not waiting:
            break
        each = waiting.pop()
        search[each.parent] = None
        for folder in folders(each, ours):
            readable[folder] = None
        if (interpreter := shebang(each)) is not None:
            waiting.append(interpreter)
    foreign = [folder for folder in readable if not any(folder.is_relative_to(top) for top in SYSTEM)]
    # What lies in a folder that is shown is there already, and could not be put there again.
    shown = [folder for folder in foreign if not any(folder != top and folder.is_relative_to(top) for top in foreign)]
    return Program(path, tuple(shown), tuple(folder for folder in search if folder.is_dir()))


def _on_path(name: str, path: str | None = None) -> Path | None:
    """The program of that name; what a version manager's stand-in stands for."""
    found = shutil.which(name, path=path)
    return shims.behind(Path(found).absolute()) if found else None


def folders(path: Path, ours: Path) -> list[Path]:
    """What a program needs to see of its own installation: the package tree of Node, the environment of Python, or itself."""
    true = path.resolve()
    if path.is_relative_to(ours):
        return [ours]
    parts = true.parts
    if "node_modules" in parts:
        top = Path(*parts[: parts.index("node_modules") + 1])
        return [path, top]
    environment = true.parent.parent
    if (environment / "pyvenv.cfg").is_file():
        return [path, environment, *_base(environment / "pyvenv.cfg")]
    if path.parent.parent.joinpath("pyvenv.cfg").is_file():  # the interpreter of an environment: a link out of it
        return [path.parent.parent, *_base(path.parent.parent / "pyvenv.cfg")]
    if any(environment.glob("lib/python3*/os.py")) and environment not in (Path("/"), Path("/usr")):
        return [path, environment]  # a whole Python, such as pyenv's
    return list(dict.fromkeys((path, true)))


def _base(config: Path) -> list[Path]:
    """The installation that a virtual environment was made from."""
    for line in config.read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home":
            return [Path(value.strip()).parent]
    return []


def shebang(path: Path) -> Path | None:
    """The interpreter that a script names in its first line, found on PATH for `env`; None for a binary."""
    try:
        with path.open("rb") as file:
            line = file.readline(512)
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    words = shlex.split(line[2:].decode("utf-8", "replace"))
    names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    if words and Path(words[0]).name == "env" and names:
        return _on_path(names[0])
    return Path(words[0]) if words and Path(words[0]).exists() else None
