"""What a task names, found on this machine: its editable files, its input data, its interpreter. Errors name the line."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import place
from harness.models import Task, UserError
from harness.patterns import base, editable_files, is_glob, reserved
from harness.process import clean_env, run
from harness.protocols import Launch
from harness.spec import DEFAULT_REFEREE

ASK = "import json, platform, sys; print(json.dumps([sys.executable, sys.prefix, sys.base_prefix, platform.python_version()]))"


@dataclass(frozen=True)
class Interpreter:
    """A Python: its program, and the folders that it cannot run without beside /usr."""

    program: str
    folders: tuple[Path, ...]
    version: str


def settle(task: Task, file: Path, root: Path, scratch: Path) -> tuple[Task, tuple[Path, ...]]:
    """The task with absolute inputs, papers and interpreter, and what sandboxes have to show for inputs and interpreter.

    `file` is its task.yaml, `root` the repository's; logs go to `scratch`, the harness's own folder.
    """
    inputs = [_input(task, file, root, index) for index in range(len(task.inputs))]
    shown = [(task.inputs[i], path, place(file, task.profile, "inputs", str(i))) for i, path in enumerate(inputs)]
    program = ""
    if task.python:
        where = place(file, task.profile, "python")
        asked = interpreter(_path(task.python, root), scratch)
        if isinstance(asked, str):
            raise UserError(f"{where}: the interpreter {task.python} {asked}")
        program = asked.program
        shown += [(f"{task.python}, whose environment is {folder},", folder, where) for folder in asked.folders]
    for text, path, where in shown:
        if _tells_too_much(path, root, scratch):
            raise UserError(f"{where}: {text} would show the repository or the harness's own files: use a folder beside them")
    for name in task.outputs:
        if any((root / name).is_relative_to(path) for path in inputs):
            raise UserError(f"{place(file, task.profile, 'outputs')}: the output {name} lies in an input, which is read-only")
    readable = dict.fromkeys(each for _, path, _ in shown for each in (path, path.resolve()))
    found = {"inputs": [str(path) for path in inputs], "python": program, "papers": _papers(task, file, root, scratch)}
    return task.model_copy(update=found), tuple(readable)


def interpreter(program: Path, scratch: Path) -> Interpreter | str:
    """What an interpreter says of itself, or what is wrong with it."""
    if not os.access(program, os.X_OK) or program.is_dir():
        return f"is not there ({program}): make it with `python3 -m venv`, or correct the path"
    try:
        ended = run(Launch((str(program), "-I", "-c", ASK), clean_env(), Path("/")), scratch / "python.log", 30)
        told, prefix, base_prefix, version = json.loads(ended.tail.strip().splitlines()[-1])
    except OSError as error:
        return f"does not start: {error.strerror}"
    except (ValueError, TypeError, IndexError):
        last = ended.tail.strip().splitlines()
        return f"does not start: {last[-1][:300] if last else 'it printed nothing'}"
    inside = Path(told).is_relative_to(prefix)  # else a link from elsewhere, which no sandbox has
    folders = dict.fromkeys(Path(each) for each in (prefix, base_prefix) if not Path(each).is_relative_to("/usr"))
    return Interpreter(told if inside else os.path.realpath(told), tuple(folders), version)


def check_names(task: Task, file: Path, names: Sequence[str], commit: str) -> None:
    """A UserError when what the task names means nothing in a commit that has the files `names`."""
    check_editable(task, file, names, commit)
    check_programs(task, file, names, commit)


def check_editable(task: Task, file: Path, names: Sequence[str], commit: str) -> None:
    """A UserError when one of the task's names and globs means nothing in a commit that has the files `names`."""
    folders = {str(parent) for name in names for parent in Path(name).parents}
    for part in (part for argv in (task.referee, task.evaluate, task.check, task.hidden, task.export) for part in argv):
        name = part if part in names else f"{part.replace('.', '/')}.py"  # as a module, after `-m`
        if name in names and editable_files(task.editable, [name]):
            where = place(file, task.profile, "editable")
            raise UserError(f"{where}: {name} measures the candidates, so it cannot be an editable file: narrow the glob")
    for index, pattern in enumerate(task.editable):
        if editable_files([pattern], names) or (is_glob(pattern) and (base(pattern) or ".") in folders and not reserved(pattern)):
            continue
        where = place(file, task.profile, "editable", str(index))
        if reserved(pattern):
            raise UserError(f"{where}: {pattern} cannot be editable: it belongs to git, to the harness or to people's own agents")
        if pattern.rstrip("/") in folders:
            raise UserError(f"{where}: {pattern} is a folder: write {pattern.rstrip('/')}/** for everything in it")
        raise UserError(f"{where}: the editable file {_no_file(pattern, names, commit)}")


def check_programs(task: Task, file: Path, names: Sequence[str], commit: str) -> None:
    """A UserError when the default referee has nothing to run, or what is named as a script or as an output is none."""
    if task.referee == DEFAULT_REFEREE:
        for field, what in (("command", "what is run"), ("evaluate", "the trusted program that turns outputs into the metric")):
            if not getattr(task, field):
                raise UserError(
                    f"{place(file, task.profile, field)}: the field {field!r} is missing: {what}, unless there is a `referee`"
                )
    scripts = {field: getattr(task, field) for field in ("command", "evaluate", "check", "hidden", "export", "referee")}
    for field, argv in scripts.items():
        python, script = [*argv, "", ""][:2]
        elsewhere = Path(script).is_absolute() or any(Path(script).is_relative_to(each) for each in task.inputs)
        if python == "python" and script.endswith(".py") and not elsewhere and script not in names:
            raise UserError(f"{place(file, task.profile, field)}: {_no_file(script, names, commit)}")
    folders = {str(parent) for name in names for parent in Path(name).parents}
    for index, name in enumerate(task.outputs):
        where = place(file, task.profile, "outputs", str(index))
        if name.rstrip("/") in folders:
            raise UserError(f"{where}: the output {name} is a folder: name each file that `command` writes")
        if editable_files(task.editable, [name]) and name in names:
            raise UserError(f"{where}: the output {name} is an editable file, and outputs begin empty: write to another one")


def _no_file(name: str, names: Sequence[str], commit: str) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"{name} is not in commit {commit[:10]}: {f'did you mean {near[0]}?' if near else 'commit it, or correct the name'}"


def _input(task: Task, file: Path, root: Path, index: int) -> Path:
    """One input as an absolute path; it has to be there."""
    text, where = task.inputs[index], place(file, task.profile, "inputs", str(index))
    if ".." in Path(text).parts:
        raise UserError(f"{where}: the input {text} leaves the repository: write its absolute path")
    path = _path(text, root)
    if not path.is_file() and not path.is_dir():
        names = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, 1)
        hint = f"did you mean {path.with_name(near[0])}?" if near else "create it, or correct the path"
        raise UserError(f"{where}: the input {text} does not exist ({path}): {hint}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{where}: the input {text} cannot be read: make it readable with `chmod -R a+rX {path}`")
    return path


def _papers(task: Task, file: Path, root: Path, scratch: Path) -> str:
    """The absolute path of the folder that agents may read; empty when the task names none. It has to be there."""
    if not task.papers:
        return ""
    where, path = place(file, task.profile, "papers"), _path(task.papers, root).resolve()
    if not path.is_dir():
        raise UserError(f"{where}: the folder {task.papers} does not exist ({path}): create it, or correct the path")
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"{where}: the folder {task.papers} cannot be read: make it readable with `chmod -R a+rX {path}`")
    if _tells_too_much(path, root, scratch):
        raise UserError(f"{where}: {task.papers} would show the repository or the harness's own files: use a folder beside them")
    return str(path)


def _path(text: str, root: Path) -> Path:
    """A path as a task writes it: absolute, from `~`, or relative to the root."""
    try:
        return root / Path(text).expanduser()
    except RuntimeError:  # ~nobody
        return root / text


def _tells_too_much(path: Path, root: Path, state: Path) -> bool:
    """Whether a sandbox that reads `path` would see git's own files, other experiments' scores or the user's work tree."""
    true = path.resolve()
    ours = root.resolve(), state.resolve()
    return ".git" in true.parts or any(own.is_relative_to(true) for own in ours) or true.is_relative_to(ours[1])
