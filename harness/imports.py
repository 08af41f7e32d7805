"""A history that was made elsewhere, by upstream's loop: rows of its results.tsv and the commits of its branch.

Nobody measured them here. So they are no records: they lie below refs/imports/<tag>/<name>, count for nothing, and can never
be an incumbent by their number. Agents may read them, marked as unverified; `harness replicate NAME/N` measures one.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from harness import git, refs
from harness.models import UserError, Value

ALL = "refs/imports/"
FILE, TABLE = "history.json", "results.tsv"
COLUMNS = ("commit", None, "memory_gb", "status", "description")  # the second is called as its metric is
MOST_ROWS, MOST_BYTES, TITLE = 10_000, 10_000_000, 300


class Row(Value):
    """One line of results.tsv. `commit` is the whole id where the repository has it; upstream resets what it discards."""

    number: int
    named: str
    commit: str | None = None
    value: float | None = None
    memory_gb: float = 0.0
    status: Literal["keep", "discard", "crash"]
    title: str


class History(Value):
    """What was brought along for one night."""

    name: str
    metric: str
    source: str
    at: str
    by: str
    rows: list[Row]


def read_table(repo: git.Repo, path: Path) -> tuple[str, list[Row]]:
    """The metric's name and the rows of a results.tsv; a UserError names the line that is none."""
    try:
        data = path.read_bytes()[: MOST_BYTES + 1]
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    lines = list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    head = tuple(lines[0]) if lines else ()
    if len(head) != len(COLUMNS) or any(want and want != got for want, got in zip(COLUMNS, head, strict=True)):
        raise UserError(f"{path}, line 1: the columns have to be commit, the metric, memory_gb, status, description, by tabs")
    if len(data) > MOST_BYTES or len(lines) > MOST_ROWS:
        raise UserError(f"{path} is too long: {MOST_ROWS} lines and {MOST_BYTES // 10**6} MB are the most")
    rows = [_row(repo, path, number, line) for number, line in enumerate(lines) if number and any(map(str.strip, line))]
    return head[1], rows


def _row(repo: git.Repo, path: Path, number: int, line: list[str]) -> Row:
    try:
        named, value, memory, status, *rest = line
        title = "".join(char for char in " ".join(rest) if char.isprintable())[:TITLE]
        found = {"named": named.strip()[:40], "status": status.strip(), "title": title, "number": number}
        made = {"value": float(value) or None, "memory_gb": float(memory), "commit": _whole(repo, named.strip())}
        return Row.model_validate({**found, **made})  # upstream writes 0 for what has no value
    except (ValueError, ValidationError) as error:
        raise UserError(f"{path}, line {number + 1}: this is no row of results.tsv: {' '.join(line)[:100]!r}") from error


def _whole(repo: git.Repo, name: str) -> str | None:
    try:
        return git.commit_of(repo, name) if len(name) >= 4 and set(name) <= set("0123456789abcdef") else None
    except UserError:
        return None


def bring(repo: git.Repo, tag: str, history: History, tip: str, table: bytes) -> None:
    """Keep a history, with all commits of its that are there; one of the same name is replaced."""
    ref = f"{ALL}{tag}/{history.name}"
    before = refs.resolve(repo, ref)
    contents = {FILE: (history.model_dump_json(indent=1) + "\n").encode(), TABLE: table}
    parents = dict.fromkeys([tip, *(row.commit for row in history.rows if row.commit)])
    commit = git.commit(repo, git.tree_of(repo, contents), list(parents), f"Import {history.name} into {tag}, unverified\n")
    refs.swap(repo, ref, commit, before)


def histories(repo: git.Repo, tag: str) -> list[History]:
    """What was brought along for a night, by name."""
    found = refs.below(repo, f"{ALL}{tag}/").values()
    return [History.model_validate_json(git.file(repo, commit, FILE) or b"") for commit in found]


def find(repo: git.Repo, tag: str, name: str) -> tuple[History, Row]:
    """The row that NAME/N names, with a commit that is there."""
    wanted, _, number = name.rpartition("/")
    for history in histories(repo, tag):
        for row in history.rows:
            if history.name == wanted and str(row.number) == number:
                if row.commit is None:
                    raise UserError(f"{name} is commit {row.named}, which is not here: upstream resets what it discards")
                return history, row
    raise UserError(f"there is no imported experiment {name!r} in {tag!r}: `harness import --tag {tag}` lists them")


def table(history: History, shown: int | None = None) -> str:
    """The rows as a table by tabs, every status marked as nobody's measurement here."""
    head = f"number\tcommit\t{history.metric}\tmemory_gb\tstatus\ttitle\n"
    rows = history.rows if shown is None else history.rows[-shown:]
    lines = (
        f"{row.number}\t{row.named}\t{'-' if row.value is None else f'{row.value:.6f}'}\t{row.memory_gb:.1f}\t"
        f"unverified {row.status}\t{row.title}\n"
        for row in rows
    )
    return head + "".join(lines)


def patch(repo: git.Repo, row: Row) -> str:
    """What a row changed, where its commit is there and has one parent."""
    parents = git.parents(repo, row.commit) if row.commit else []
    return git.diff(repo, parents[0], row.commit) if row.commit and len(parents) == 1 else ""
