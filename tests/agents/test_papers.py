"""`papers`: a folder of the user's that agents read and nothing else does."""

from __future__ import annotations

import pytest
from conftest import Lab, heavy

READ = "cat lab/papers/*.txt; touch lab/papers/new; echo x >> lab/papers/a.txt"
TRY = "import pathlib; print('seen', *[p.read_text() for p in pathlib.Path({!r}).glob('*.txt')], pathlib.Path('lab').exists())"


@pytest.mark.parametrize("where", ["inside", *heavy("beside")])
def test_agents_read_it_and_runs_do_not(lab: Lab, where: str) -> None:
    folder = lab.path / "papers" if where == "inside" else lab.path.parent / "my papers"
    folder.mkdir()
    (folder / "a.txt").write_text("attention is not all")
    lab.edit("toy/task.yaml", "stop:", f"papers: {'papers' if where == 'inside' else folder}\nstop:")
    body = TRY.format(str(folder)).replace('"', '\\"')
    lab.agent("reader", f'{READ}; sed -i "s/5.0/4.0/" toy/solution.py; echo "{body}" >> toy/solution.py')
    lab.harness("run", "--tag", "t", "--agent", "reader", "--experiments", "1")
    told = lab.git("show", "refs/experiments/t/0001:transcript.txt")
    assert "attention is not all" in told
    assert "cannot touch 'lab/papers/new': Read-only file system" in told
    assert "cannot create lab/papers/a.txt" in told
    assert (folder / "a.txt").read_text() == "attention is not all"
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert "`lab/papers/`: what the researcher" in lab.git("show", "refs/experiments/t/0001:prompt.md")
    assert "seen False" in lab.git("show", "refs/experiments/t/0001:train-1.log")


@pytest.mark.heavy
def test_inputs_are_what_runs_do_see(lab: Lab) -> None:
    """The control: the same folder as an input is seen by the run."""
    (folder := lab.path.parent / "my papers").mkdir()
    (folder / "a.txt").write_text("attention is not all")
    lab.edit("toy/task.yaml", "stop:", f"inputs: ['{folder}']\nstop:")
    body = TRY.format(str(folder)).replace('"', '\\"')
    lab.agent("reader", f'sed -i "s/5.0/4.0/" toy/solution.py; echo "{body}" >> toy/solution.py')
    lab.harness("run", "--tag", "t", "--agent", "reader", "--experiments", "1")
    assert "seen attention is not all False" in lab.git("show", "refs/experiments/t/0001:train-1.log")
    assert "lab/papers" not in lab.git("show", "refs/experiments/t/0001:prompt.md")


@pytest.mark.parametrize(
    ("papers", "says"),
    [("nowhere", "the folder nowhere does not exist"), (".", "would show the repository"), (".git", "would show the repository")],
)
def test_a_folder_that_cannot_be_shown_is_refused(lab: Lab, papers: str, says: str) -> None:
    lab.edit("toy/task.yaml", "stop:", f"papers: {papers}\nstop:")
    said = lab.harness("run", "--tag", "t", "--agent", "better", code=1).stderr
    assert "task.yaml, line 9: " in said
    assert says in said
