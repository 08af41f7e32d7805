"""The program that agents are told, as it stands in the user's work tree: a person steers a night by editing it."""

from __future__ import annotations

from pathlib import Path

from harness.models import UserError


def program(path: Path, last: dict[Path, str]) -> str:
    """The text of a program; `last` keeps what each was when it was last read.

    While it is missing, unreadable or empty, as when another branch is checked out for a while or an editor saves it at this
    moment, it is what it last was: a night does not end for that. A UserError when it never was anything in this night.
    """
    problem = ""
    try:
        text = path.read_text("utf-8") if path.is_file() else ""
        problem = "is empty" if path.is_file() else "is not a file" if path.exists() else "does not exist"
    except UnicodeDecodeError:
        text, problem = "", "is not UTF-8 text"
    except OSError as error:
        text, problem = "", f"cannot be read ({error.strerror})"
    if text.strip():
        last[path] = text
    if path not in last:
        raise UserError(f"{path} {problem}: write there what agents are to do, or correct `program`")
    return last[path]
