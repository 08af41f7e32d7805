"""Whole nights in the sandbox `uid`, and the sentences about what stands in its way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Lab, make_lab
from machine import NAMESPACES, filtered, missing, readable, with_caps
from test_session import NEXT, SAY, remembers, told

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
CHANGE = "sed -i 's/5.0/4.0/' toy/solution.py"


class Readable(Lab):
    """A lab whose harness runs with an interpreter that other users can run, too, and with what `machine` begins with."""

    machine: tuple[str, ...] = ()

    def command(self, *args: str) -> list[str]:  # type: ignore[override]
        return [*readable(), *self.machine, *Lab.command(*args)]


@pytest.fixture
def lab(place: Path) -> Lab:
    made = make_lab(place)
    made.path.chmod(0o700)
    Path(made.env["HOME"]).mkdir(mode=0o700)
    (Path(made.env["HOME"]) / ".ssh").mkdir()
    (Path(made.env["HOME"]) / ".ssh/id_rsa").write_text("secret")
    return Readable(made.path, made.env)


def night(lab: Lab, script: str, *options: str) -> dict[str, object]:
    lab.agent("hostile", script)
    lab.harness("run", "--tag", "t", "--agent", "hostile", "--experiments", "1", "--sandbox", "uid", *options)
    return json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))


@pytest.mark.heavy
def test_a_night_is_recorded_as_what_it_is(lab: Lab) -> None:
    lab.harness("run", "--tag", "t", "--agent", "better", "--agent", "crash", "--experiments", "2", "--sandbox", "uid")
    assert [row[3] for row in lab.rows()] == ["keep", "keep", "crash"]
    record = json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))
    assert (record["sandbox"], record["measurements"][0]["sandbox"]) == ("uid", "uid")
    assert "uid sandbox" in lab.git("log", "-1", "--format=%B", "autoresearch/t")
    lab.harness("run", "--tag", "t", "--agent", "worse", "--experiments", "3", "--sandbox", "bubblewrap")
    assert [row[3] for row in lab.rows()][-1] != "void"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter has x86-64's numbers")
@pytest.mark.heavy
def test_a_night_in_the_confinement_that_docker_gives_to_root(lab: Lab) -> None:
    lab.machine = (*with_caps(), *filtered(*NAMESPACES))  # type: ignore[attr-defined]
    run_it = ("run", "--tag", "t", "--agent", "better", "--experiments", "1")
    assert "cannot make namespaces" in lab.harness(*run_it, code=1).stderr
    lab.harness(*run_it, "--sandbox", "uid")
    assert [row[3] for row in lab.rows()] == ["keep", "keep"]
    checks = {each["check"]: each["problem"] for each in json.loads(lab.harness("doctor", "--json", code=1).stdout)}
    assert "cannot make namespaces" in checks["sandbox bubblewrap, which a night uses here unless --sandbox names another"]
    assert any(check.startswith("sandbox uid could be used: weaker") for check in checks)
    (Path(lab.env["HOME"]) / ".config/harness").mkdir(parents=True)
    (Path(lab.env["HOME"]) / ".config/harness/config.yaml").write_text("sandbox: uid\n")
    checks = {each["check"]: each["problem"] for each in json.loads(lab.harness("doctor", "--json").stdout)}
    assert checks["sandbox uid, which a night uses here unless --sandbox names another"] is None


def test_a_night_of_attacks(lab: Lab) -> None:
    home, lab.env["API_KEY"] = lab.env["HOME"], "secret"
    secrets = (
        f"{home}/.ssh/id_rsa",
        f"{lab.path}/.git/HEAD",
        f"{lab.path}/program.md",
        "../../../logs/t/0000.log",
        "/etc/shadow",
    )
    reads = "; ".join(f"cat '{path}' && echo READ" for path in (*secrets, "../../../settings/t.json", "../../../hidden.log"))
    lists = "; ".join(f"ls '{path}' && echo LISTED" for path in (home, lab.path, "..", "../..", "../../.."))
    body = "import os; print('uid', os.getuid(), os.access('../request.json', os.R_OK), os.access('../..', os.R_OK))"
    late = "(setsid sh -c 'sleep 0.3; echo late >> toy/solution.py' >/dev/null 2>&1 &)"
    leaves = f"printenv API_KEY && echo READ; git log -1 --format=GIT-%s; {late}; echo x > AGENTS.md"
    record = night(lab, f'{reads}; {lists}; {leaves}; {CHANGE}; echo "{body}" >> toy/solution.py')
    seen = lab.git("show", "refs/experiments/t/0001:transcript.txt")
    assert "READ" not in seen
    assert "LISTED" not in seen
    assert "GIT-" in seen
    assert record["verdict"]["status"] == "keep"  # type: ignore[index]
    assert "late" not in lab.git("show", "autoresearch/t:toy/solution.py")
    told = lab.git("show", "refs/experiments/t/0001:train-1.log")
    assert "uid 609" in told
    assert "False False" in told


@pytest.mark.heavy
def test_a_hidden_file_of_the_system_refuses_the_night(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "outputs:", "hidden: [sh, -c, 'echo /usr/share/common-licenses/BSD']\noutputs:")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "hide")
    done = lab.harness("run", "--tag", "t", "--agent", "better", "--experiments", "1", "--sandbox", "uid", code=1)
    assert "the sandbox uid cannot hide /usr/share/common-licenses/BSD: every user can read it" in done.stderr


@pytest.mark.heavy
def test_what_others_could_read_or_not_enter_is_one_sentence_with_its_mend(lab: Lab) -> None:
    run_it = ("run", "--tag", "t", "--agent", "better", "--experiments", "1", "--sandbox", "uid")
    home, state = Path(lab.env["HOME"]), Path(lab.env["XDG_STATE_HOME"])
    lab.path.chmod(0o755)
    assert f"could read {lab.path}: run `chmod 700 '{lab.path}'`" in lab.harness(*run_it, code=1).stderr
    lab.path.chmod(0o700)
    home.chmod(0o750 | 1)
    assert f"could read {home}: run `chmod 700 {home}`" in lab.harness(*run_it, code=1).stderr
    home.chmod(0o700)
    state.mkdir(exist_ok=True)
    state.chmod(0o700)
    said = lab.harness(*run_it, code=1).stderr
    assert (
        f"cannot enter {state}: put it elsewhere with `export XDG_STATE_HOME=/var/lib/harness`, or run `chmod o+x {state}`"
        in said
    )
    state.chmod(0o755)
    home.parent.chmod(0o777)
    assert f"since everybody may write to {home.parent}: run `chmod o-w {home.parent}`" in lab.harness(*run_it, code=1).stderr
    home.parent.chmod(0o755)
    if readable():
        done = subprocess.run(Lab.command(*run_it), cwd=lab.path, env=lab.env, capture_output=True, text=True)
        assert "as another user, who cannot enter" in done.stderr
        assert "install it below /usr or /opt, or run `chmod o+x" in done.stderr
    lab.harness(*run_it)


def test_an_ordinary_user_is_told(lab: Lab) -> None:
    code = "from harness.sandboxes import get; get('uid')"
    done = subprocess.run(
        [*readable(), "setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", code], capture_output=True
    )
    assert b"the sandbox uid needs root" in done.stderr


@pytest.mark.heavy
def test_a_home_that_lasts_the_night_is_one_agents_alone(lab: Lab) -> None:
    lab.harness("gc")  # which makes the state folder
    keep = "echo between-us > ~/diary; ln -f ~/diary ~/again; chmod -R a+rwX ~; chmod 0700 ~"
    remembers(lab, "one", f"{SAY}; cat ~/diary; {NEXT}; {keep}")
    remembers(
        lab, "other", f"{SAY}; cat '{lab.state}'/homes/t/one/diary && echo found; {NEXT}; sed -i 's/4[.]/3./' toy/solution.py"
    )
    agents = [part for name in ("one", "other", "one") for part in ("--agent", name)]
    lab.harness("run", "--tag", "t", *agents, "--experiments", "3", "--sandbox", "uid")
    assert "asked with: --go-on s-1" in told(lab, "0003")
    assert "between-us" in told(lab, "0003")
    assert "between-us" not in told(lab, "0002")
    assert "found" not in told(lab, "0002")
