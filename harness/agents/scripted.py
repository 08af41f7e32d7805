"""An agent that plays a folder of prepared steps, one a proposal: for tests, demos and replays.

    python -m harness.agents.scripted examples/demo

The steps are the folder's files in alphabetical order, by ending: `.patch` is applied with git, `.py` and `.sh` are
run in the worktree (a test's hostile agent, say). Text before a patch's first diff becomes the notes. A folder of patches is one
step, too: each becomes a variant of one idea. Which step is due follows from lab/history.tsv alone, so an interrupted night
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

LAB = Path("lab")
NOTES = Path("notes/EXPERIMENT.md")
VARIANTS = Path("variants")
COMMANDS = {
    ".patch": ["git", "apply", "--whitespace=nowarn"],
    ".py": [sys.executable],
    ".sh": ["sh"],
}


def history(lab: Path = LAB) -> list[dict[str, str]]:
    """The rows of the lab's history by column name, oldest first; the first one is the baseline."""
    lines = (lab / "history.tsv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    return [dict(zip(header, line.split("\t"), strict=False)) for line in lines[1:] if line.strip()]


def write_notes(text: str, place: Path = NOTES) -> None:
    """Leave title and hypothesis where the harness takes them from."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text.strip() + "\n", encoding="utf-8")


def due(folder: Path, rows: list[dict[str, str]], agent: str) -> Path | None:
    """The step after those that `agent` has played, the one in flight included; a void one is played again."""
    steps = sorted(path for path in folder.iterdir() if path.suffix in COMMANDS or any(path.glob("*.patch")))
    mine = [row for row in rows if row["agent"] == agent and row["status"] != "void"]
    played = sum(row.get("variant_of", "-") in ("-", row["id"]) for row in mine)
    return steps[played] if played < len(steps) else None


def notes_of(step: Path) -> str:
    """The text before a patch's first diff, or the step's name where there is none."""
    preamble = re.split(r"^(?:diff --git |--- )", step.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
    return (preamble.strip() if step.suffix == ".patch" else "") or step.stem


def variants(step: Path) -> list[str]:
    """The command that makes a variant of each patch of a folder; notes and the files as they are lie there before it."""
    script = []
    for number, patch in enumerate(sorted(step.glob("*.patch")), 1):
        place = VARIANTS / str(number)
        write_notes(notes_of(patch), place / "EXPERIMENT.md")
        for name in re.findall(r"^--- a/(\S+)", patch.read_text(encoding="utf-8"), flags=re.MULTILINE):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, place / name)
        script.append(shlex.join([*COMMANDS[".patch"], f"--directory={place}", str(patch)]))
    return ["sh", "-ec", "\n".join(script)]


def main() -> None:
    """Play the step that is due. The process becomes the step, so its exit code and its output are the step's own."""
    parser = argparse.ArgumentParser(prog="scripted", description="Play the next prepared step of FOLDER in this worktree.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--agent", default="scripted", help="the name in the history whose experiments are counted")
    args = parser.parse_args()
    try:
        step = due(args.folder, history(), args.agent)
    except OSError as error:
        sys.exit(f"scripted cannot read {error.filename}: {error.strerror}")
    if step is None:
        print("no patch left")
        return
    write_notes(step.name if step.is_dir() else notes_of(step))
    print(f"playing {step}", flush=True)
    command = variants(step) if step.is_dir() else [*COMMANDS[step.suffix], str(step)]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
