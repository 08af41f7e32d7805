"""Why bubblewrap does not work on a machine, and the command that mends it. Pure functions over facts read in one place."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from harness.process import clean_env, run
from harness.protocols import Launch
from harness.sandboxes.uid import Uid

OLDEST = (0, 8)
NONE = "`--sandbox none` would run agents and their code with your rights on your files and network"
INSTALL = {  # by the ID or ID_LIKE of /etc/os-release
    "debian": "apt-get install -y bubblewrap",
    "ubuntu": "apt-get install -y bubblewrap",
    "fedora": "dnf install -y bubblewrap",
    "rhel": "dnf install -y bubblewrap",
    "suse": "zypper install -y bubblewrap",
    "arch": "pacman -S --noconfirm bubblewrap",
    "alpine": "apk add bubblewrap",
}
CONTAINERS = {"docker": "docker", "libpod": "podman", "kubepods": "kubernetes", "lxc": "lxc"}  # what a cgroup's name tells
UNFILTERED = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
ROOT_NEEDS = f"--cap-add SYS_ADMIN --cap-add NET_ADMIN {UNFILTERED}"  # mounts, a loopback device, pivot_root; AppArmor's mounts
KUBERNETES = (
    "capabilities: {add: [SYS_ADMIN, NET_ADMIN]}, seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}"
)
PROFILE = r"abi <abi/4.0>,\nprofile bwrap /usr/bin/bwrap flags=(unconfined) {\n  userns,\n}\n"


@dataclass(frozen=True)
class Facts:
    """What there is to know of a machine. Settings of the kernel are None where it has no such setting."""

    system: str = "linux"
    root: bool = False
    version: str = ""  # what `bwrap --version` prints; empty when it is not installed
    said: str = ""  # what bwrap said when it failed
    distribution: tuple[str, ...] = ()
    kernel: str = ""
    container: str = ""
    filtered: bool = False  # system calls go through somebody's seccomp filter
    user_namespaces: int | None = None
    unprivileged: int | None = None
    apparmor: int | None = None
    uid: str | None = "the sandbox uid needs root"  # what is wrong with the sandbox uid here, None when nothing


def why(said: str = "", secret: tuple[Path, ...] = ()) -> str | None:
    """What keeps bubblewrap from working here, as `explain` tells it; `said` is what a trial printed that failed."""
    version = ""
    if sys.platform == "linux" and shutil.which("bwrap"):
        version = run(Launch(("bwrap", "--version"), clean_env(), Path("/")), Path(os.devnull), 10).tail.strip()
    known = read(Path("/"), version, said)
    if known.root and explain(known):
        known = replace(known, uid=Uid().problem(secret))
    return explain(known)


def read(top: Path, version: str = "", said: str = "") -> Facts:
    """All but `uid`, of this process and from the files below `top`, which is / but in tests."""
    status = dict(line.split(":", 1) for line in _text(top / "proc/self/status").splitlines() if ":" in line)
    release = dict(line.split("=", 1) for line in _text(top / "etc/os-release").splitlines() if "=" in line)
    return Facts(
        system=sys.platform,
        root=os.getuid() == 0,
        version=version,
        said=said,
        distribution=tuple(f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".replace('"', "").split()),
        kernel=_text(top / "proc/version"),
        container=_container(top),
        filtered=status.get("Seccomp", "").strip() == "2",
        user_namespaces=_number(top / "proc/sys/user/max_user_namespaces"),
        unprivileged=_number(top / "proc/sys/kernel/unprivileged_userns_clone"),
        apparmor=_number(top / "proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
    )


def explain(known: Facts) -> str | None:
    """One sentence about why bubblewrap cannot be used, what mends it, and what else there is; None if all looks well."""
    for case in (_another_system, _not_installed, _too_old, _switched_off, _contained, _restricted, _failed):
        if found := case(known):
            return "; ".join((found, *_instead(known)))
    return None


def _another_system(known: Facts) -> str | None:
    vm = "run the harness in a Linux virtual machine"
    if known.system == "darwin":
        return f"bubblewrap is Linux only, and on macOS nothing here confines a program: {vm}, such as Lima or OrbStack"
    if known.system != "linux":
        return f"bubblewrap is Linux only: {vm}" + (", such as WSL 2" if known.system == "win32" else "")
    if "Microsoft" in known.kernel and "WSL2" not in known.kernel:
        return "this is WSL 1, whose kernel has no namespaces: run `wsl --set-version DISTRIBUTION 2` in Windows"
    return None


def _not_installed(known: Facts) -> str | None:
    return None if known.version else f"bubblewrap is not installed: run `{_install(known)}`"


def _too_old(known: Facts) -> str | None:
    if tuple(map(int, re.findall(r"\d+", known.version)[:2])) >= OLDEST:
        return None
    return f"{known.version} is too old, 0.8 or newer is needed: install that of a newer distribution"


def _switched_off(known: Facts) -> str | None:
    """User namespaces that the administrator forbade; root's bubblewrap needs none."""
    settings = {
        "user.max_user_namespaces": (known.user_namespaces, 15000),
        "kernel.unprivileged_userns_clone": (known.unprivileged, 1),
    }
    for name, (value, wanted) in settings.items():
        if known.said and not known.root and value == 0:
            keep = f"`echo {name}={wanted} | sudo tee /etc/sysctl.d/60-harness.conf`"
            return f"user namespaces are switched off ({name} = 0): run `sudo sysctl {name}={wanted}`, and {keep} to keep it so"
    return None


def _contained(known: Facts) -> str | None:
    """A container, or a filter as containers have it."""
    if not known.said or not (known.container or known.filtered):
        return None
    kind = known.container or "container"
    what = f"bubblewrap cannot make namespaces in this {f'{kind} container' if known.container else kind} ({_last(known.said)})"
    if kind == "kubernetes":
        return f"{what}: give the container the securityContext `{KUBERNETES}`"
    flags = ROOT_NEEDS if known.root else UNFILTERED + _unmasked(known)
    if kind in ("docker", "podman"):
        return f"{what}: start it with `{kind} run {flags}`"
    return f"{what}: start it with less confinement, as `docker run {flags}` does"


def _unmasked(known: Facts) -> str:
    """Below a masked /proc an ordinary user cannot mount a new one."""
    return f" --security-opt {'unmask=ALL' if known.container == 'podman' else 'systempaths=unconfined'}"


def _restricted(known: Facts) -> str | None:
    """Ubuntu 23.10 and later: only programs that have an AppArmor profile may make user namespaces."""
    if not known.said or known.root or known.apparmor != 1:
        return None
    profile = f"`printf '{PROFILE}' | sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r /etc/apparmor.d/bwrap`"
    everybody = "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    mend = f"allow them to bwrap with {profile}, or to every program with {everybody}"
    return f"AppArmor forbids user namespaces here ({_last(known.said)}): {mend}"


def _failed(known: Facts) -> str | None:
    if not known.said:
        return None
    mend = "see what the kernel said with `sudo dmesg | tail`" + ("" if known.root else ", or ask the machine's administrator")
    return f"bubblewrap cannot make namespaces here ({_last(known.said)}): {mend}"


def _instead(known: Facts) -> list[str]:
    """The other sandboxes, and what they mean."""
    if known.system != "linux" or not known.root:
        return [NONE]
    if known.uid is None:
        return ["`--sandbox uid` works here and confines less", NONE]
    return [f"`--sandbox uid` would confine less, but {known.uid}", NONE]


def _install(known: Facts) -> str:
    """The command that installs bubblewrap."""
    command = next((INSTALL[name] for name in known.distribution if name in INSTALL), INSTALL["debian"])
    return command if known.root else f"sudo {command}"


def _container(top: Path) -> str:
    """The kind of container that this is, or nothing."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    for mark, kind in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if (top / mark).exists():
            return kind
    groups = _text(top / "proc/self/cgroup")
    told = _text(top / "run/systemd/container").strip()
    return next((kind for word, kind in CONTAINERS.items() if word in groups), told)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _last(text: str) -> str:
    """The last line of what a program said."""
    return (text.strip().splitlines() or ["it said nothing"])[-1][-200:]
