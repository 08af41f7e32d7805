"""What is told about a machine on which bubblewrap does not work: each case by its facts, and those that can be made here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import heavy
from machine import NAMESPACES, PIVOT_ROOT, filtered, readable, with_caps

from harness.sandboxes import diagnose
from harness.sandboxes.diagnose import Facts, explain

DENIED = "bwrap: Creating new namespace failed: Operation not permitted"
USER = Facts(version="bubblewrap 0.8.0", said=DENIED)
ROOT = replace(USER, root=True)
DOCKER = (
    "docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined`"
)
CASES = {
    "not installed": (Facts(), "is not installed: run `sudo apt-get install -y bubblewrap`"),
    "not installed, root": (Facts(root=True), "is not installed: run `apt-get install -y bubblewrap`"),
    "not installed, Fedora's kin": (Facts(distribution=("rocky", "rhel", "fedora")), "run `sudo dnf install -y bubblewrap`"),
    "not installed, Arch": (Facts(distribution=("arch",)), "run `sudo pacman -S --noconfirm bubblewrap`"),
    "not installed, Alpine": (Facts(distribution=("alpine",), root=True), "run `apk add bubblewrap`"),
    "too old": (Facts(version="bubblewrap 0.4.1"), "bubblewrap 0.4.1 is too old, 0.8 or newer is needed"),
    "macOS": (
        Facts(system="darwin"),
        "on macOS nothing here confines a program: run the harness in a Linux virtual machine, such as Lima",
    ),
    "WSL 1": (
        Facts(kernel="Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)"),
        "run `wsl --set-version DISTRIBUTION 2`",
    ),
    "WSL 2": (replace(USER, kernel="Linux version 5.15.153.1-microsoft-standard-WSL2"), "see what the kernel said"),
    "switched off": (replace(USER, user_namespaces=0), "run `sudo sysctl user.max_user_namespaces=15000`"),
    "Debian's switch": (replace(USER, unprivileged=0), "run `sudo sysctl kernel.unprivileged_userns_clone=1`"),
    "Ubuntu 24.04": (
        replace(USER, apparmor=1),
        "sudo apparmor_parser -r /etc/apparmor.d/bwrap`, or to every program with `sudo sysctl",
    ),
    "Docker, root": (replace(ROOT, container="docker", filtered=True), DOCKER),
    "Docker, user": (replace(USER, container="docker"), "apparmor=unconfined --security-opt systempaths=unconfined`"),
    "Docker on Ubuntu": (replace(USER, container="docker", apparmor=1), "docker run --security-opt"),
    "Podman": (replace(USER, container="podman"), "podman run --security-opt seccomp=unconfined"),
    "Kubernetes": (replace(ROOT, container="kubernetes"), "securityContext `capabilities: {add: [SYS_ADMIN, NET_ADMIN]}"),
    "some filter": (replace(USER, filtered=True), "in this container (bwrap: Creating new namespace failed"),
    "who knows": (
        replace(USER, said="bwrap: setting up uid map\nbwrap: no\n"),
        "cannot make namespaces here (bwrap: no): see what",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_its_sentence(case: str) -> None:
    known, wanted = CASES[case]
    said = explain(known)
    assert said is not None
    assert wanted in said
    assert "`--sandbox none` would run agents and their code with your rights" in said
    assert ("--sandbox uid" in said) == known.root
    assert "\n" not in said


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        (replace(ROOT, uid=None), "`--sandbox uid` works here and confines less"),
        (replace(ROOT, uid="the sandbox uid could read /root"), "would confine less, but the sandbox uid could read /root"),
    ],
)
def test_beside_it_is_said_what_else_there_is(known: Facts, wanted: str) -> None:
    assert wanted in str(explain(known))


@pytest.mark.parametrize(
    "known", [Facts(version="bubblewrap 0.8.0"), Facts(version="bubblewrap 1.0", container="docker", apparmor=1)]
)
def test_nothing_is_said_where_nothing_failed(known: Facts) -> None:
    assert explain(known) is None


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, {"container": "", "filtered": False, "user_namespaces": None, "apparmor": None}),
        ({".dockerenv": "", "proc/self/status": "Name:\tx\nSeccomp:\t2\n"}, {"container": "docker", "filtered": True}),
        ({"run/.containerenv": "engine=podman"}, {"container": "podman"}),
        ({"proc/self/cgroup": "0::/kubepods/besteffort/pod1/2\n"}, {"container": "kubernetes"}),
        ({"run/systemd/container": "lxc\n"}, {"container": "lxc"}),
        ({"proc/sys/user/max_user_namespaces": "0\n"}, {"user_namespaces": 0}),
        ({"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, {"unprivileged": 0}),
        ({"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, {"apparmor": 1}),
        (
            {"etc/os-release": 'NAME="Rocky"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'},
            {"distribution": ("rocky", "rhel", "centos", "fedora")},
        ),
    ],
)
def test_facts_are_read_from_files(tmp_path: Path, files: dict[str, str], wanted: dict[str, object]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = vars(diagnose.read(tmp_path))
    assert {name: found[name] for name in wanted} == wanted


DOCTOR = "from harness.sandboxes.bubblewrap import Bubblewrap; print(Bubblewrap().problem())"
needs_root = pytest.mark.skipif(
    os.getuid() != 0 or os.uname().machine != "x86_64" or not shutil.which("setpriv"), reason="needs root, setpriv and x86-64"
)


def told(*before: str) -> str:
    done = subprocess.run([*before, sys.executable, "-c", DOCTOR], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_root
def test_in_dockers_default_confinement_bubblewrap_is_explained_beside_uid() -> None:
    said = told(*readable(), *with_caps(), *filtered(*NAMESPACES))
    assert "cannot make namespaces in this" in said
    assert "run --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined" in said
    assert "`--sandbox uid`" in said


@needs_root
@pytest.mark.parametrize(
    ("caps", "calls", "wanted"),
    [
        (["sys_admin", "net_admin"], ["999"], "None"),
        *heavy(
            (["sys_admin"], ["999"], "RTM_NEWADDR"),  # hence NET_ADMIN
            (["sys_admin", "net_admin"], [PIVOT_ROOT], "pivot_root: Operation not permitted"),  # hence seccomp=unconfined
        ),
    ],
)
def test_which_of_dockers_flags_are_needed(caps: list[str], calls: list[str], wanted: str) -> None:
    assert wanted in told(*with_caps(*caps), *filtered(*calls))


@pytest.fixture
def own_namespace() -> Iterator[list[str]]:
    """What a command has to begin with to be root of a user namespace that has all users in it."""
    holder = subprocess.Popen(["unshare", "--user", "sleep", "60"])
    ours, theirs = (Path(f"/proc/{pid}/ns/user") for pid in ("self", holder.pid))
    while theirs.readlink() == ours.readlink():
        time.sleep(0.01)
    for kind in ("uid", "gid"):
        Path(f"/proc/{holder.pid}/{kind}_map").write_text("0 0 65536")
    yield ["nsenter", f"--user={theirs}", "--setuid", "0", "--setgid", "0"]
    holder.kill()
    holder.wait()


@needs_root
def test_namespaces_that_are_switched_off(own_namespace: list[str]) -> None:
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --reuid 65534 --clear-groups "$@"'
    said = told(*readable(), *own_namespace, "sh", "-c", script, "sh")
    assert "switched off (user.max_user_namespaces = 0): run `sudo sysctl user.max_user_namespaces=15000`" in said
