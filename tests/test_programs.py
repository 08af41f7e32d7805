"""What a sandbox has to show of an installed program: as little as it can run with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.agents import programs
from harness.agents.start import missing
from harness.models import AgentSpec
from harness.process import run
from harness.protocols import Box
from harness.sandboxes import get


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home with programs installed as npm, pip and a download do it, and a secret beside them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "bin").mkdir()
    package = tmp_path / "lib/node_modules/@a/cli"
    package.mkdir(parents=True)
    (package / "cli.sh").write_text('#!/usr/bin/env -S fake-node --quiet\ncat "$(dirname "$0")/data" 2>/dev/null\n')
    (tmp_path / "bin/from-npm").symlink_to(package / "cli.sh")
    (tmp_path / "bin/fake-node").write_text("#!/bin/sh\necho node ran $#\n")
    (tmp_path / "bin/download").write_text("#!/bin/sh\ncat '%s' 2>&1\n" % (tmp_path / "secret"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (tmp_path / "venv/bin/from-pip").write_text(f"#!{tmp_path}/venv/bin/python\nimport sys\nprint(sys.prefix)\n")
    (tmp_path / "bin/from-pip").symlink_to(tmp_path / "venv/bin/from-pip")
    for path in (*tmp_path.glob("bin/*"), package / "cli.sh"):
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"), [("from-npm", "node ran 2"), ("from-pip", "{home}/venv"), ("download", "No such file or directory")]
)
def test_a_program_runs_with_what_is_found_and_sees_nothing_beside(name: str, said: str, home: Path) -> None:
    found = programs.find(name)
    assert found is not None
    assert not any((home / "secret").is_relative_to(folder) for folder in found.readable), found.readable
    path = ":".join([*map(str, found.search), "/usr/bin", "/bin"])
    (home / "work").mkdir()
    with get("bubblewrap").wrap(
        [str(found.path)], Box(cwd=home / "work", readable=(home / "work", *found.readable), env={"PATH": path})
    ) as launch:
        ended = run(launch, home / "log", 20)
    assert said.format(home=home) in ended.tail, ended.tail


def test_the_users_own_comes_before_ours_and_nothing_is_nothing(home: Path) -> None:
    ours = programs.installed_here() / "bin/download"
    ours.parent.mkdir(parents=True)
    for name in ("download", "only-ours"):
        ours.with_name(name).write_text("#!/bin/sh\n")
        ours.with_name(name).chmod(0o755)
    download, only = programs.find("download"), programs.find("only-ours")
    assert download
    assert download.path == home / "bin/download"
    assert only
    assert only.readable == (programs.installed_here(),)
    assert programs.find("nowhere") is None


PYENV = """\
#!/bin/sh
[ "$1" = which ] && [ -x "{home}/versions/bin/$2" ] && echo "{home}/versions/bin/$2" && exit
echo "pyenv: $2: command not found" >&2
exit 127
"""


@pytest.mark.parametrize("kind", ["pyenv", "volta"])
def test_a_version_managers_stand_in_is_followed_to_what_it_stands_for(kind: str, home: Path) -> None:
    """Itself it would look for the manager and its list of versions, in a home that no sandbox shows: the control."""
    real, managed = home / "versions/bin", home / kind / "bin"
    for folder in (real, managed):
        folder.mkdir(parents=True)
    (real / "managed").write_text("#!/bin/sh\necho the real one\n")
    (managed / kind).write_text(PYENV.format(home=home))
    (managed / "volta-shim").write_text(f'#!/bin/sh\nexec $("{managed}/volta" which "${{0##*/}}")\n')
    for name in ("managed", "absent"):
        if kind == "pyenv":
            (home / "bin" / name).write_text(f'#!/bin/sh\nexec "{managed}/pyenv" exec "{name}" "$@"\n')
        else:
            (home / "bin" / name).symlink_to(managed / "volta-shim")
    for path in (*real.iterdir(), *managed.iterdir(), *home.glob("bin/*")):
        path.chmod(0o755)
    found = programs.find("managed")
    assert found is not None
    assert found.path == real / "managed"
    said = []
    (home / "work").mkdir()
    for command in (found.path, home / "bin/managed"):
        box = Box(cwd=home / "work", readable=(home / "work", *found.readable, home / "bin"), env={"PATH": "/usr/bin:/bin"})
        with get("bubblewrap").wrap([str(command)], box) as launch:
            said.append(run(launch, home / "log", 20).tail)
    assert said[0] == "the real one\n"
    assert "the real one" not in said[1]
    assert programs.find("absent") is None
    told = str(missing(AgentSpec(name="a", argv=["absent"])))
    assert f"on your PATH is only a stand-in with nothing behind it (see `{kind} which absent`)" in told


def test_a_program_of_a_whole_python_sees_that_python(home: Path) -> None:
    """As pip installs it into an interpreter of pyenv's or conda's, which is no environment."""
    (home / "python/bin").mkdir(parents=True)
    (home / "python/lib/python3.11").mkdir(parents=True)
    (home / "python/bin/python3").symlink_to("/bin/sh")
    (home / "python/bin/tool").write_text(f"#!{home}/python/bin/python3\ncat '{home}/python/lib/python3.11/os.py'")
    (home / "python/lib/python3.11/os.py").write_text("the library")
    (home / "python/bin/tool").chmod(0o755)
    (home / "bin/tool").symlink_to(home / "python/bin/tool")
    found = programs.find("tool")
    assert found is not None
    (home / "work").mkdir()
    box = Box(cwd=home / "work", readable=(home / "work", *found.readable), env={"PATH": "/usr/bin:/bin"})
    with get("bubblewrap").wrap([str(found.path)], box) as launch:
        assert run(launch, home / "log", 20).tail == "the library"


def test_a_script_of_the_harnesses_own_python_runs(home: Path) -> None:
    """Its environment is shown anyway, and nothing can be shown a second time inside of it."""
    (home / "bin/script").write_text(f"#!{sys.executable}\nprint('ran')\n")
    (home / "bin/script").chmod(0o755)
    found = programs.find("script")
    assert found is not None
    (home / "work").mkdir()
    box = Box(cwd=home / "work", readable=(home / "work", *found.readable), env={"PATH": "/usr/bin:/bin"})
    with get("bubblewrap").wrap([str(found.path)], box) as launch:
        assert run(launch, home / "log", 20).tail == "ran\n"
