"""Trees as hostile programs make them: nested by the thousand, with long names, without permissions, full of links."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_lab
from machine import missing
from test_uid_night import Readable

from harness import trees

DEEP = """
import os, sys
os.chdir(sys.argv[1])
for level in range(1100):
    if level % 100 == 0:
        open("file", "w").close(); os.mkdir("beside")
    os.mkdir("deep"); os.chdir("deep")
"""


def nest(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", DEEP, str(folder)], check=True)
    return folder


def test_a_tree_a_thousand_folders_deep_is_walked_and_removed(tmp_path: Path) -> None:
    top = nest(tmp_path / "top")
    if sys.version_info < (3, 13):
        with pytest.raises(RecursionError):
            shutil.rmtree(top, ignore_errors=True)
    assert 700 < len(list(trees.walk(top))) < 1100  # as far as 4096 bytes reach
    trees.remove(top)
    assert not top.exists()


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("x")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    for place in (top, top / "a", top / "a/b"):
        (place / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    assert sorted(map(os.path.basename, trees.walk(top))) == ["a", "b", "link", "link", "link"]
    trees.remove(top)
    trees.remove(tmp_path / "link")
    trees.remove(tmp_path / "never there")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["precious", "precious/file"]


CLOSED = """
import trees; from pathlib import Path
top = Path("top").absolute()
(top / "shut/inner").mkdir(parents=True); (top / "shut/inner/file").touch(); (top / "full").mkdir(); (top / "full/file").touch()
for path, mode in ((top / "shut/inner", 0), (top / "shut", 0), (top / "full", 0o500), (top, 0o100)): path.chmod(mode)
trees.remove(top)
print(top.exists())
"""


def test_folders_without_permissions_are_removed_by_their_owner(place: Path) -> None:
    place.chmod(0o777)
    shutil.copy(trees.__file__, place / "trees.py")
    (place / "closed.py").write_text(CLOSED)
    user = ["setpriv", "--reuid", "65534", "--clear-groups"] if os.getuid() == 0 else []
    python = "/usr/bin/python3" if user else sys.executable  # which every user can run
    done = subprocess.run([*user, python, "closed.py"], cwd=place, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


WITH_UID = pytest.param("uid", marks=[pytest.mark.heavy, pytest.mark.skipif(bool(missing()), reason=missing())])


@pytest.mark.parametrize(
    "sandbox", [pytest.param("bubblewrap", marks=pytest.mark.heavy), WITH_UID, pytest.param("none", marks=pytest.mark.heavy)]
)
def test_an_agent_or_a_run_that_nests_folders_costs_nothing(place: Path, sandbox: str) -> None:
    """In the worktree, in its home and, where nothing confines it, in the tree of its run; the night goes on and cleans up."""
    made = make_lab(place)
    lab = Readable(made.path, made.env) if sandbox == "uid" else made
    lab.path.chmod(0o700)
    Path(lab.env["HOME"]).mkdir(mode=0o700)
    (lab.path / "toy/nest.py").write_text(DEEP)
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "nest")
    nests = 'for d in toy "$HOME" notes; do /usr/bin/python3 toy/nest.py "$d" & done; wait'
    lab.agent("nester", f"sed -i 's/5.0/4.0/' toy/solution.py; NOTE\n{nests}")
    nested = "import subprocess; subprocess.run(['/usr/bin/python3', 'toy/nest.py', '.'])"
    lab.agent("runner", f"echo \"{nested}\" >> toy/solution.py; sed -i 's/4.0/3.5/' toy/solution.py")
    lab.harness("run", "--tag", "t", "--agent", "nester", "--agent", "runner", "--experiments", "3", "--sandbox", sandbox)
    assert [row[3] for row in lab.rows()][:3] == ["keep", "keep", "keep"], lab.rows()
    assert list(lab.state.glob("worktrees/t/*")) == []
    assert list(lab.state.glob("runs/t/*")) == []
    assert list(lab.state.glob("homes/t/nester/d*"))
    lab.harness("gc")
    assert list(lab.state.glob("homes/*")) == []
