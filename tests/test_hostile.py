"""Agents and candidates that misbehave get a verdict with a reason, and reach nothing but their file.

What the sandbox `uid` promises of this has its attacks in test_uid.py and test_uid_night.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Lab, heavy

CHANGE = "sed -i 's/5.0/4.0/' toy/solution.py"


def night(lab: Lab, script: str, *options: str) -> dict[str, object]:
    """One experiment by an agent that runs `script`; its record."""
    lab.agent("hostile", script)
    lab.harness("run", "--tag", "t", "--agent", "hostile", "--experiments", "1", *options)
    return json.loads(lab.git("show", "refs/experiments/t/0001:record.json"))


def transcript(lab: Lab) -> str:
    name = "refs/experiments/t/0001"
    return lab.git("show", f"{name}:transcript.txt") if "transcript.txt" in lab.git("ls-tree", "--name-only", name) else ""


def log(lab: Lab) -> str:
    return lab.git("show", "refs/experiments/t/0001:train-1.log")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("ln -sf /etc/passwd toy/solution.py", "is a link"),
        ("true", "the agent changed nothing"),
        *heavy(
            ("rm toy/solution.py", "toy/solution.py is gone"),
            ("rm toy/solution.py; mkfifo toy/solution.py", "is not a regular file"),
            ("rm toy/solution.py; mkdir toy/solution.py", "is not a regular file"),
            ("ln toy/solution.py toy/other.py", "hard-linked"),
            ("head -c 100000 /dev/zero | tr '\\0' '#' > toy/solution.py", "larger than 64 KiB"),
            ("printf '\\377\\376' > toy/solution.py", "not UTF-8"),
            ("printf '#\\000' > toy/solution.py", "NUL"),
        ),
    ],
)
def test_an_editable_file_that_cannot_be_taken_is_invalid(lab: Lab, script: str, reason: str) -> None:
    verdict = night(lab, script)["verdict"]
    assert isinstance(verdict, dict)
    assert verdict["status"] == "invalid"
    assert reason in str(verdict["reason"])


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("raise KeyError(1)", "crash", "KeyError: 1"),
        ("while True: pass", "invalid", "still running after"),
        ("import pathlib; pathlib.Path('toy/answer.txt').write_text('nan')", "invalid", "the metric is nan"),
        ("print('{\"value\": 0}')", "keep", "distance 1.00"),
        *heavy(
            ("def (", "crash", "SyntaxError"),
            ("import os; os.kill(os.getpid(), 9)", "crash", "exit code 137"),
            ("import os; os.unlink('toy/answer.txt')", "crash", "exit code 1"),
            ("import pathlib; pathlib.Path('toy/answer.txt').write_text('I win')", "invalid", "evaluation failed"),
            ("print('x' * 30_000_000)", "keep", "better by 1"),
        ),
    ],
)
def test_a_candidate_that_misbehaves_is_a_verdict(lab: Lab, body: str, status: str, reason: str) -> None:
    lab.edit("toy/task.yaml", "run_s: 5", "run_s: 2")
    verdict = night(lab, f"{CHANGE}; cat >> toy/solution.py <<'EOF'\n{body}\nEOF")["verdict"]
    assert isinstance(verdict, dict)
    assert (verdict["status"], reason in str(verdict["reason"])) == (status, True), verdict
    assert sum(path.stat().st_size for path in lab.state.rglob("*.log")) < 9_000_000


def test_other_files_are_dropped_and_frozen(lab: Lab) -> None:
    record = night(lab, f"{CHANGE}; echo x > toy/helper.py; echo 'print(1)' > toy/evaluate.py || true; echo x > new.txt || true")
    assert record["verdict"]["status"] == "keep"  # type: ignore[index]
    assert record["proposal"]["dropped"] == ["toy/helper.py"]  # type: ignore[index]
    assert lab.git("diff", "--name-only", "main", "autoresearch/t") == "toy/solution.py"


def test_editors_that_write_by_rename_work(lab: Lab) -> None:
    record = night(lab, "sed 's/5.0/4.0/' toy/solution.py > toy/.tmp && mv toy/.tmp toy/solution.py")
    assert record["verdict"]["status"] == "keep"  # type: ignore[index]


def test_a_daemon_cannot_change_the_file_after_the_agent_ended(lab: Lab) -> None:
    record = night(lab, f"{CHANGE}; setsid sh -c 'sleep 0.3; echo late >> toy/solution.py' >/dev/null 2>&1 &")
    assert record["verdict"]["status"] == "keep"  # type: ignore[index]
    assert "late" not in lab.git("show", "autoresearch/t:toy/solution.py")


def test_an_agent_that_hangs_is_void(lab: Lab) -> None:
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 1")
    lab.agent("hostile", "sleep 100")
    done = lab.harness("run", "--tag", "t", "--agent", "hostile", "--experiments", "1")
    assert "something outside the experiments is broken: the agent changed nothing within" in done.stderr
    assert [row[3] for row in lab.rows()] == ["keep", "void", "void", "void"]


def test_an_agent_that_fails_is_void_and_says_why(lab: Lab) -> None:
    lab.agent("hostile", "echo no login >&2; exit 3")
    lab.harness("run", "--tag", "t", "--agent", "hostile", "--experiments", "1")
    assert "the agent failed with exit code 3: no login" in lab.harness("show", "1").stdout


SECRETS = {
    "the user's git directory": "cat '{repo}/.git/HEAD'",
    "the user's files": "cat '{repo}/program.md'",
    "the home folder": "cat '{home}/.ssh/id_rsa'",
    "the environment": "printenv API_KEY",
}


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_secrets_are_out_of_reach(lab: Lab, sandbox: str) -> None:
    home = Path(lab.env["HOME"])
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id_rsa").write_text("ref secret nobody")
    lab.env["API_KEY"] = "secret nobody"
    commands = [f'{SECRETS[what].format(repo=lab.path, home=home)} && echo "got {what}"' for what in SECRETS]
    night(lab, "; ".join([*commands, CHANGE]), "--sandbox", sandbox)
    leaked = {what for what in SECRETS if f"got {what}" in transcript(lab)}
    # The environment is an allow-list with or without a sandbox; files are out of reach only with one.
    assert leaked == (set(SECRETS) - {"the environment"} if sandbox == "none" else set())


@pytest.mark.parametrize("sandbox", ["bubblewrap", *heavy("none")])
def test_hidden_files_read_as_empty_in_agent_and_run(lab: Lab, sandbox: str) -> None:
    secret = lab.path / "toy/hidden.txt"
    secret.write_text("the answer is 3\n")
    lab.edit("toy/task.yaml", "outputs:", "hidden: [sh, -c, 'echo /usr/share/common-licenses/BSD']\noutputs:")
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "hide")
    look = "import pathlib; print(len(pathlib.Path('/usr/share/common-licenses/BSD').read_bytes()), 'bytes')"
    night(lab, f'wc -c < /usr/share/common-licenses/BSD; {CHANGE}; echo "{look}" >> toy/solution.py', "--sandbox", sandbox)
    seen = transcript(lab).strip(), log(lab)
    assert (seen[0] == "0", "\n0 bytes" in seen[1]) == ((True, True) if sandbox == "bubblewrap" else (False, False))


def test_training_has_no_network_and_no_way_to_the_agents_home(lab: Lab) -> None:
    body = "import socket, os; print(os.listdir('/sys/class/net') if os.path.exists('/sys') else socket.if_nameindex())"
    night(lab, f'{CHANGE}; echo "{body}" >> toy/solution.py; echo x > $HOME/left')
    assert "[(1, 'lo')]" in log(lab)


def test_candidate_code_is_never_root(lab: Lab) -> None:
    body = "import os; print('uid', os.getuid()); print(open('/proc/self/status').read())"
    night(lab, f'{CHANGE}; echo "{body}" >> toy/solution.py')
    seen = log(lab)
    assert "uid 0\n" not in seen
    assert "CapEff:\t0000000000000000" in seen
    assert "NoNewPrivs:\t1" in seen


def test_a_link_left_in_the_private_home_leads_the_harness_nowhere(lab: Lab) -> None:
    """The harness writes the prompt into an agent's HOME: a link planted there must not lead the writing outside."""
    target = lab.path.parent / "precious"
    target.write_text("mine")
    with (lab.path / "agents.yaml").open("a") as file:
        script = (
            f"cd; ls -A; ln -sf '{target}' prompt.md; cd - >/dev/null; {CHANGE}; echo \\\"# $(date +%N)\\\" >> toy/solution.py"
        )
        file.write(f'planter:\n  argv: [sh, -c, "{script}"]\n  prompt: {{via: file}}\n')
    lab.harness("run", "--tag", "t", "--agent", "planter", "--experiments", "2")
    assert target.read_text() == "mine"
    assert lab.git("show", "refs/experiments/t/0002:transcript.txt") == "prompt.md"
