"""`context: resume`: a HOME and a session that last the night, are nobody else's, and lead the harness nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clis import equip, night, record
from conftest import Lab, heavy
from provider import Provider
from test_crash import mortal

SELECT = {"where": {"type": "start"}, "take": "id"}
COUNT = 'X=$(( $(cat "$HOME/count" 2>/dev/null || echo 0) + 1 )); echo $X > "$HOME/count"'
NEXT = COUNT + '; sed -i "s/^X = .*/X = 4.${X}{seed}/" toy/solution.py'
SAY = """echo '{"type": "start", "id": "s-1"}'; echo "asked with: $*"; pwd"""


def remembers(lab: Lab, name: str, script: str, **fields: object) -> None:
    """An agent that goes on with its session; what the harness appends to its command line is in $*."""
    output = {"format": "json_lines", "session": SELECT}
    entry = {"argv": ["sh", "-c", script, "sh"], "resume": ["--go-on", "{session}"], "output": output, "context": "resume"}
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"{name}: {json.dumps({**entry, **fields})}\n")


def told(lab: Lab, experiment: str) -> str:
    return lab.git("show", f"refs/experiments/t/{experiment}:transcript.txt")


@pytest.mark.heavy
def test_the_second_proposal_goes_on_with_the_session_of_the_first(lab: Lab) -> None:
    remembers(lab, "one", f"{SAY}; {NEXT}")
    remembers(lab, "fresh", f"{SAY}; ls -A ~; {NEXT}; sed -i 's/4[.]/3./' toy/solution.py", context="fresh")
    lab.harness("run", "--tag", "t", "--agent", "one", "--agent", "fresh", "--experiments", "4")
    assert "asked with: \n" in told(lab, "0001")
    assert "asked with: --go-on s-1\n" in told(lab, "0003")
    assert "X = 4.23" in lab.git("show", f"{record(lab, '0003')['experiment']['commit']}:toy/solution.py")
    assert told(lab, "0001").splitlines()[-1] == told(lab, "0003").splitlines()[-1]  # the paths that it knows are still right
    assert "asked with: \n" in told(lab, "0004")
    assert "count" not in told(lab, "0004")
    lab.harness("gc")
    assert list(lab.state.glob("homes/*")) == list(lab.state.glob("sessions/*")) == []
    lab.harness("run", "--tag", "t", "--agent", "one", "--experiments", "5")
    assert "asked with: \n" in told(lab, "0005")


@pytest.mark.heavy
def test_a_session_that_is_lost_is_tried_once_and_then_begun_anew(lab: Lab) -> None:
    script = f"{SAY}; [ $# = 0 ] || {{ echo 'no such session'; exit 1; }}; {NEXT}"
    remembers(lab, "forgets", script)
    lab.harness("run", "--tag", "t", "--agent", "forgets", "--experiments", "2")
    second = record(lab, "0002")
    assert [each["outcome"]["kind"] for each in second["proposal"]["tries"]] == ["crashed"]
    assert "no such session" in second["proposal"]["tries"][0]["outcome"]["reason"]
    assert second["proposal"]["outcome"]["kind"] == "changed"
    assert "X = 4.12" in lab.git("show", f"{second['experiment']['commit']}:toy/solution.py")  # in an empty HOME


@pytest.mark.parametrize("step", heavy("AGENT_AT_WORK", "HARVESTED", "MEASURED"))
def test_a_killed_night_goes_on_with_a_session_or_without(lab: Lab, step: str) -> None:
    remembers(lab, "one", f"{SAY}; {NEXT}; sleep 1")
    run = ("run", "--tag", "t", "--agent", "one", "--experiments", "2")
    assert mortal(lab, "kill", step, "2", *run) == -9
    lab.harness(*run)
    assert record(lab, "0002")["proposal"]["outcome"]["kind"] == "changed"
    assert f"asked with: {'--go-on s-1' if step == 'MEASURED' else ''}\n" in told(lab, "0002")
    assert lab.strays() == []


LEFT = {
    "a link to a file": "ln -sf 'TARGET' notes.txt; mkdir -p deep; ln -sf 'TARGET' deep/er.txt",
    "a link to a folder": "rm -rf deep; ln -s 'FOLDER' deep; ln -s 'FOLDER' notes.txt",
    "pipes": "rm -rf deep notes.txt; mkfifo deep notes.txt",
    "folders in the place of files": "rm -rf notes.txt; mkdir -p notes.txt/full deep/er.txt/full; ln -s 'FOLDER' deep/er.txt/x",
    "second names": "mkdir -p deep; echo x > x; ln -f x notes.txt; ln -f x deep/er.txt",
    "no permissions": "mkdir -p deep; echo x > notes.txt; chmod 0 notes.txt deep .",
}


@pytest.mark.heavy
def test_what_a_kept_home_holds_leads_the_harness_nowhere(lab: Lab) -> None:
    outside = lab.path.parent / "precious"
    outside.mkdir()
    (outside / "er.txt").write_text("mine")
    cases = " ".join(f"{n}) {LEFT[what]};;" for n, what in enumerate(LEFT, 1))
    cases = cases.replace("TARGET", str(outside / "er.txt")).replace("FOLDER", str(outside))
    script = f"{SAY}; cat ~/notes.txt ~/deep/er.txt; {NEXT}; cd; case {{seed}} in {cases} esac"
    remembers(lab, "planter", script, home_files={"notes.txt": "ours", "deep/er.txt": " all"})
    lab.harness("run", "--tag", "t", "--agent", "planter", "--experiments", str(len(LEFT) + 1))
    for number, what in enumerate(LEFT, 2):
        assert "asked with: --go-on s-1\n" in told(lab, f"000{number}"), what
        assert "ours all" in told(lab, f"000{number}"), what
    assert [path.name for path in outside.iterdir()] == ["er.txt"]
    assert (outside / "er.txt").read_text() == "mine"
    lab.harness("gc")
    assert (outside / "er.txt").read_text() == "mine"
    assert list(lab.state.glob("homes/*")) == []


@pytest.mark.heavy
def test_a_home_that_is_a_link_is_not_used(lab: Lab) -> None:
    remembers(lab, "one", f"{SAY}; ls -A ~; {NEXT}")
    lab.harness("run", "--tag", "t", "--agent", "one", "--experiments", "1")
    outside = lab.path.parent / "precious"
    (home := lab.state / "homes/t/one").rename(outside)
    home.symlink_to(outside)
    before = sorted(outside.iterdir())
    lab.harness("run", "--tag", "t", "--agent", "one", "--experiments", "2")
    assert "asked with: \n" in told(lab, "0002")
    assert sorted(outside.iterdir()) == before
    assert (outside / "count").read_text() == "1\n"


@pytest.mark.heavy
def test_no_other_agent_reads_it(lab: Lab) -> None:
    secret = "this-is-between-us"
    remembers(lab, "one", f"{SAY}; grep -rs {secret[:-3]} ~/..; {NEXT}; echo {secret} > ~/diary; chmod -R a+rwX ~")
    look = f"grep -rs {secret[:-3]} '{{state}}'; ls -A '{{state}}/homes/t/one' && echo found it"
    lab.harness("gc")
    remembers(lab, "other", f"{SAY}; {look.format(state=lab.state)}; true")
    lab.harness("run", "--tag", "t", "--agent", "one", "--agent", "other", "--agent", "one", "--experiments", "3")
    assert secret in told(lab, "0003")  # it has its own still
    assert secret not in told(lab, "0002")
    assert "found it" not in told(lab, "0002")


def test_an_entry_that_cannot_resume_is_refused(lab: Lab) -> None:
    lab.agent("plain", "true")
    with (lab.path / "agents.yaml").open("a") as file:
        file.write("  context: resume\n")
    line = len((lab.path / "agents.yaml").read_text().splitlines())
    said = lab.harness("run", "--tag", "t", "--agent", "plain", code=1).stderr
    assert f"line {line}: context: this agent cannot resume a session" in said


@pytest.mark.parametrize("name", ["claude", *[pytest.param(each, marks=pytest.mark.heavy) for each in ("codex", "opencode")]])
def test_a_cli_goes_on_with_its_conversation(lab: Lab, name: str) -> None:
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 120")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "time to propose")
    (lab.path / "program.md").write_text("The first night's word is aardvark.\n")
    with Provider().serving() as provider:
        equip(lab, provider, name, context="resume", repairs=0)
        night(lab, name)
        first = len(provider.asked)
        (lab.path / "program.md").write_text("The second word is zebra.\n")
        done = night(lab, name, experiments=2)
    asked = [text for text in provider.texts[first:] if "zebra" in text]
    assert asked, done.stderr
    assert "aardvark" in asked[0]
    assert record(lab, "0002")["proposal"]["tries"] == []
    assert lab.strays() == []


@pytest.mark.heavy
def test_a_cli_that_lost_its_session_begins_anew(lab: Lab) -> None:
    with Provider().serving() as provider:
        equip(lab, provider, "claude", context="resume", repairs=0)
        night(lab, "claude")
        (note,) = lab.state.glob("sessions/t/claude")
        note.write_text("00000000-0000-4000-8000-000000000000")
        first = len(provider.asked)
        done = night(lab, "claude", experiments=2)
    (lost,) = record(lab, "0002")["proposal"]["tries"]
    assert lost["outcome"]["kind"] == "crashed", done.stderr
    assert len(provider.asked) > first
    assert Path(note).read_text() != "00000000-0000-4000-8000-000000000000"
