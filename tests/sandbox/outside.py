"""A throw-away place of a user's, where the product is attacked, and everything at which the outside notices it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

ROOT = os.getuid() == 0
NOBODY = 65534
SHARED = ("/tmp", "/var/tmp", "/dev/shm")


@dataclass
class Outside:
    """A throw-away folder of a user's, and everything at which the outside notices an attack."""

    program: list[str]
    folder: Path
    secret: str = field(default_factory=lambda: token_hex(8))
    say: str = field(default_factory=lambda: token_hex(8))
    mark: str = field(default_factory=lambda: token_hex(8))
    key: str = field(default_factory=lambda: f"0{token_hex(4)[1:]}")

    def __post_init__(self) -> None:
        (self.folder / "data").mkdir()
        (self.folder / "home").mkdir()
        if ROOT:
            shutil.copy("/usr/bin/id", self.folder / "data/id")
            (self.folder / "data/id").chmod(0o4755)
        if prefix := self.program[:-1]:
            for path in (self.folder, self.folder / "data", self.folder / "home"):
                os.chown(path, NOBODY, NOBODY)
        self.victim = subprocess.Popen(
            [*prefix, "sh", "-c", f"while :; do sleep 60; done; : {self.secret}"], start_new_session=True
        )
        self.port, self.udp = (
            listening(socket.AF_INET, ("127.0.0.1", 0)),
            listening(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM),
        )
        number = self.port.getsockname()[1]
        self.sockets = [self.port, self.udp, listening(socket.AF_UNIX, f"\0{self.key}")]
        self.sockets += [listening(socket.AF_UNIX, str(self.folder / "home/socket"))]
        (self.folder / "home/socket").chmod(0o777)
        with suppress(OSError):  # no IPv6 here
            self.sockets += [listening(socket.AF_INET6, ("::1", number))]

    def close(self) -> None:
        """End what an attack left, here and in the places that everybody shares."""
        os.killpg(self.victim.pid, signal.SIGKILL)
        self.victim.wait()
        for each in self.sockets:
            each.close()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        for place in SHARED:
            (Path(place) / self.mark).unlink(missing_ok=True)
        if self.memory():
            subprocess.run(["ipcrm", "-M", f"0x{self.key}"], check=True)

    def run(self, words: list[str], where: str, sandbox: str) -> dict[str, object]:
        """The product with that attack in it, in a process of the user's; what it says."""
        plan = self.plan(words, where, sandbox)
        done = subprocess.run(self.command, input=plan, env=self.env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        assert "begun" in str(answer["output"])
        return answer

    def plan(self, words: list[str], where: str, sandbox: str) -> str:
        """What scene.py is told."""
        values = {"say": self.say, "mark": self.mark, "key": self.key, "abstract": self.key, "victim": self.victim.pid}
        values |= {"port": self.port.getsockname()[1], "udp": self.udp.getsockname()[1], "socket": self.folder / "home/socket"}
        for name, value in values.items():
            words = [word.replace("{" + name + "}", str(value)) for word in words]
        plan = {"folder": str(self.folder), "where": where, "sandbox": sandbox, "argv": words, "secret": self.secret}
        return json.dumps(plan)

    @property
    def command(self) -> list[str]:
        """The product, as this user."""
        return [*self.program, str(Path(__file__).with_name("scene.py"))]

    @property
    def env(self) -> dict[str, str]:
        """Its environment, with a key in it."""
        return {"PATH": os.environ["PATH"], "API_KEY": self.secret, "PYTHONDONTWRITEBYTECODE": "1"}

    @property
    def is_root(self) -> bool:
        """Whether the harness runs as root."""
        return ROOT and len(self.program) == 1

    def notices(self, answer: dict[str, object]) -> set[str]:
        """Every sign that an attack worked."""
        signs = {
            "output": any(word in str(answer["output"]) for word in (self.secret, self.say)),
            "file": bool(answer["changed"]),
        }
        signs["network"] = any(self.mark.encode() in heard(each) for each in self.sockets)
        state = Path(f"/proc/{self.victim.pid}/stat").read_text().rpartition(")")[2].split()[0]
        signs["victim"] = state not in "SRD"
        signs["process"] = bool(self.processes())
        signs["leftovers"] = self.memory() or any(os.path.lexists(f"{place}/{self.mark}") for place in SHARED)
        return {name for name, sign in signs.items() if sign}

    def processes(self) -> list[int]:
        """Those that carry the mark and live."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if self.mark.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def memory(self) -> bool:
        """Whether there is System V memory by the key."""
        size = ctypes.c_size_t(0)
        return bool(ctypes.CDLL(None).shmget(ctypes.c_int(int(self.key, 16)), size, 0) != -1)


def listening(family: int, address: object, kind: int = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(family, kind)
    made.bind(address)
    if kind == socket.SOCK_STREAM:
        made.listen()
    made.setblocking(False)
    return made


def heard(listener: socket.socket) -> bytes:
    with suppress(BlockingIOError):
        if listener.type == socket.SOCK_DGRAM:
            return listener.recv(100)
        with listener.accept()[0] as caller:
            caller.settimeout(2)
            return caller.recv(100)
    return b""
