"""What users write: defaults, profiles, errors that name the line, and the schemas that editors check with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml
from conftest import Lab

from harness import config, schema
from harness.defaults import Defaults
from harness.models import AgentSpec, UserError

ROOT = Path(__file__).parents[1]
TASK = """\
name: toy
program: program.md
editable: [toy/solution.py]
metric: {name: distance}
profiles:
  cpu: {budget: {run_s: 1}}
  gpu:
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "task.yaml"
    path.write_text(text)
    return path


def test_the_profile_is_chosen_by_what_is_there(tmp_path: Path) -> None:
    path = written(tmp_path, TASK)
    gpu = any(re.fullmatch("nvidia[0-9]+", path.name) for path in Path("/dev").iterdir())
    assert config.load_task(path).profile == ("gpu" if gpu else "cpu")
    assert config.load_task(path, "cpu").budget.run_s == 1
    assert config.load_task(path, "gpu").budget.run_s == 300
    assert config.profiles(path) == ["cpu", "gpu"]


def test_a_profile_cannot_be_changed_by_resume(lab: Lab) -> None:
    assert "No such option" in lab.harness("resume", "--profile", "cpu", code=2).stderr


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("run_s: 1", "runs_s: 1", "line 6: unknown field 'budget.runs_s'; did you mean 'run_s'?"),
        ("{run_s: 1}", "7", "line 6: budget: a mapping of fields is expected, as in {name: value}, and not 7"),
        (
            "{budget: {run_s: 1}}",
            "{budget: }",
            "line 6: budget: a mapping of fields is expected, as in {name: value}, and not nothing",
        ),
        ("run_s: 1", "run_s: 5m", "line 6: budget.run_s: a number is expected, and not '5m'"),
        ("run_s: 1", "run_s: .inf", "line 6: budget.run_s: a finite number is expected, and not inf"),
        ("run_s: 1", "run_s: 1, run_s: 2", "line 6: 'run_s' is written twice: keep one of the two"),
        ("profiles:", "name: again\nprofiles:", "line 5: 'name' is written twice"),
        ("name: toy", "name: 2026-01-01", "line 1: name: text is expected, and not datetime.date(2026, 1, 1): put it in quotes"),
        ("[toy/solution.py]", "[]", "line 3: editable: at least one entry is expected"),
        ("{budget: {run_s: 1}}", "7", "line 6: profile 'cpu' is not a mapping"),
        (
            "editable: [toy/solution.py]",
            "editable: toy/solution.py",
            "line 3: editable: a list is expected, as in [one, two], and not 'toy/solution.py'",
        ),
        ("[toy/solution.py]", "\n- a.py\n- /b.py", "line 3: editable: '/b.py' is not a file below the root"),
        ("name: toy\n", "- toy\n", "line 2: not valid YAML"),
        (TASK, "- toy\n", "line 1: a mapping of fields is expected"),
        (TASK, "", "line 1: the field 'name' is missing"),
        (TASK, TASK.partition("profiles:")[0] + "profiles: [cpu]\n", "line 5: profiles is not a mapping"),
    ],
)
def test_errors_of_a_task_name_the_line(old: str, new: str, wanted: str, tmp_path: Path) -> None:
    path = written(tmp_path, TASK.replace(old, new))
    with pytest.raises(UserError) as error:
        config.load_task(path, "cpu" if "profiles" in path.read_text() else None)
    assert str(error.value).startswith(f"{path}, {wanted}")


A_KEY = "sk-ant-api03-0123456789abcdefghijklmn"


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("'../up': {argv: [sh]}", "line 2: name: '../up' cannot be an agent's name: use up to 40 letters"),
        ("7: {argv: [sh]}", "line 2: name: text is expected, and not 7: put it in quotes"),
        ("a: {argv: sh}", "line 2: argv: a list is expected, as in [one, two], and not 'sh'"),
        ("a: {argv: [sh]}\na: {argv: [cat]}", "line 3: 'a' is written twice: keep one of the two"),
        ("a: &a\n  argv: [sh]\n  env: *a", "line 3: env.argv: text is expected, and not a list"),
        (f"a: {{argv: [sh], env: {{KEY: {A_KEY}}}}}", "line 2: env.KEY: this holds what looks like a key, which git and the"),
        (f"a: {{argv: [sh, --key, {A_KEY}]}}", "line 2: argv.2: this holds what looks like a key"),
        (
            f"a: {{argv: [sh], provider: {{api: gemini, key_env: {A_KEY}}}}}",
            "line 2: provider.key_env: the name of an environment",
        ),
    ],
)
def test_errors_of_an_agent_name_the_line_and_show_no_key(entry: str, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "agents.yaml"
    path.write_text(f"# who proposes\n{entry}\n")
    with pytest.raises(UserError) as error:
        config.load_agents(path)
    assert str(error.value).startswith(f"{path}, {wanted}")
    assert A_KEY[:12] not in str(error.value)


def test_the_users_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config.load_defaults() == Defaults()
    path = tmp_path / "harness/config.yaml"
    path.parent.mkdir()
    path.write_text("# nothing yet\n")
    assert config.load_defaults() == Defaults()
    path.write_text("agents: [claude, tuner]\nsandbox: none\nhours: 8\n")
    assert config.load_defaults() == Defaults(agents=["claude", "tuner"], sandbox="none", hours=8)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "harness").rename(tmp_path / "moved")
    (tmp_path / ".config").mkdir()
    (tmp_path / "moved").rename(tmp_path / ".config/harness")
    assert config.load_defaults().agents == ["claude", "tuner"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hours: 8\nagent: [claude]\n", "line 2: unknown field 'agent'; did you mean 'agents'?"),
        ("sandbox: docker\n", "line 1: sandbox: Input should be 'bubblewrap', 'uid' or 'none'"),
        ("hours: 0\n", "line 1: hours: Input should be greater than 0"),
    ],
)
def test_errors_of_the_defaults_name_the_line(text: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness/config.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        config.load_defaults()
    assert str(error.value) == f"{tmp_path}/harness/config.yaml, {wanted}"


def test_a_users_own_agents_change_and_add_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config.all_agents(ROOT / "agents.yaml") == config.load_agents(ROOT / "agents.yaml")
    own = tmp_path / "harness/agents.yaml"
    own.parent.mkdir()
    own.write_text("claude: {model: opus, env: {MORE: '1'}}\nmine:\n  argv: [mine]\n")
    known = config.all_agents(ROOT / "agents.yaml")
    assert known["claude"].model == "opus"
    assert known["claude"].env["DISABLE_AUTOUPDATER"] == known["claude"].env["MORE"] == "1"
    assert known["mine"].argv == ["mine"]
    assert known["codex"] == config.load_agents(ROOT / "agents.yaml")["codex"]
    for text, wanted in {
        "claude:\n  modle: opus\n": "line 2: unknown field 'modle'; did you mean 'model'?",
        "mine: {model: m}\n": "line 1: the field 'argv' is missing",
        "mine:\n  argv: [a]\n  errors:\n  - {match: '(', kind: auth}\n": "line 4: errors.0.match: '(' is not a regular",
        "mine: [a]\n": "line 1: agent 'mine' is not a mapping of fields",
    }.items():
        own.write_text(text)
        with pytest.raises(UserError) as error:
            config.all_agents(ROOT / "agents.yaml")
        assert str(error.value).startswith(f"{own}, {wanted}")


@pytest.mark.parametrize("name", get_args(schema.Name))
def test_the_schemas_are_up_to_date(name: schema.Name) -> None:
    stored = (ROOT / f"docs/schemas/{name}.json").read_text()
    assert stored == schema.text(name), "run `python -m harness.schema docs/schemas`"


def described(part: object) -> bool:
    """Whether every field below a schema says what it is."""
    if isinstance(part, list):
        return all(map(described, part))
    if not isinstance(part, dict):
        return True
    fields = part.get("properties", {})
    return all("description" in field for field in fields.values()) and all(map(described, part.values()))


@pytest.mark.parametrize("name", get_args(schema.Name))
def test_every_field_that_a_user_writes_is_described(name: schema.Name) -> None:
    assert described(schema.schema(name))


SHIPPED = [ROOT / "agents.yaml", *sorted(ROOT.glob("*/task.yaml")), *sorted(ROOT.glob("examples/*/task.yaml"))]


def test_another_driver_takes_nothing_of_what_the_first_one_said_and_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "harness/agents.yaml"
    path.parent.mkdir()
    path.write_text("opencode: {driver: acp, argv: [opencode, acp]}\ncodex: {driver: exec, model: other}\n")
    shipped, known = config.load_agents(ROOT / "agents.yaml"), config.all_agents(ROOT / "agents.yaml")
    assert known["opencode"].output == AgentSpec(name="x", driver="acp", argv=["x"]).output
    assert (known["opencode"].resume, known["opencode"].provider) == ([], shipped["opencode"].provider)
    assert known["codex"] == shipped["codex"].model_copy(update={"model": "other"})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_our_own_files_fit_the_schemas_they_name(path: Path) -> None:
    first = path.read_text().partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    named = path.parent / first.partition("=")[2]
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(named.read_text()))


@pytest.mark.parametrize("text", [TASK.replace("run_s: 1", "runs_s: 1"), TASK.replace("{name: distance}", "{noise: 1}")])
def test_a_schema_finds_what_the_loader_finds(text: str) -> None:
    jsonschema.validate(yaml.safe_load(TASK), schema.schema("task"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema.schema("task"))
