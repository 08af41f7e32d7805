"""The night's side of the gateway: starts its process, opens a line for each proposal, starts it anew when it dies.

The sockets that agents talk to are made here and handed over, so a gateway that takes a dead one's place serves the same ones.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from harness.gateway import credentials
from harness.gateway.control import Closed, Entry, Start, State, receive, send
from harness.models import AgentSpec, Usage, UserError
from harness.process import PACKAGE, Process
from harness.protocols import Exit, Launch, Line
from harness.spec import Budget, Stop

INSIDE = "http://127.0.0.1:8484"  # where an agent finds its line in a sandbox with a loopback of its own
DUMMY = "harness"
REPLY_S, STARTED_S, LOOK_S = 10.0, 30.0, 0.2
DEATHS = 5


@dataclass
class Opened:
    """A line that is open: what another gateway has to be told of it."""

    experiment: str
    agent: str
    key: str
    listening: socket.socket


class Gateway:
    """The gateway of one night. Use as a context manager."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        specs: list[AgentSpec],
        stop: Stop,
        budget: Budget,
        known: Mapping[str, Usage],
        network: Literal["own", "host", "none"],
    ) -> None:
        """Keys are looked for now, and a UserError says which is missing. `known` is what earlier experiments have used.

        `network` is the sandbox's: lines lead to a loopback of its `own`, or to the `host`'s.
        """
        self.folder, self.log, self.known, self.network = folder, log, dict(known), network
        self.entries = [
            Entry(agent=spec.name, provider=spec.provider, secret=credentials.key(spec.name, spec.provider, os.environ))
            if spec.provider
            else Entry(agent=spec.name, hosts=spec.hosts)
            for spec in specs
            if spec.outside
        ]
        self.limits = {"cost_usd": stop.cost_usd, "propose_usd": budget.propose_usd, "quota_share": stop.quota_share}
        self.deaths: list[str] = []
        self.closed = Closed()  # what the last line came to
        self.latest = State()
        self._open: dict[str, Opened] = {}
        self._control: socket.socket | None = None
        self._lock, self._up, self._stop = threading.RLock(), threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Gateway:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.glob("*.json"):
            self._recall(path)
        self._keeper.start()
        try:
            self.latest = self.state()
        except UserError:
            self._stop.set()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._keeper.join()

    @contextmanager
    def line(self, experiment: str, agent: str) -> Iterator[Line | None]:
        """A way to the provider for one proposal of an agent; None when it has no provider."""
        entry = next((entry for entry in self.entries if entry.agent == agent), None)
        if entry is None:
            yield None
            return
        path, own = self.folder / f"{experiment}.sock", self.network == "own"
        listening = _listen_unix(path) if own else socket.create_server(("127.0.0.1", 0), backlog=512)
        key = DUMMY if own else f"{DUMMY}-{secrets.token_hex(16)}"  # everybody on the host could come by
        url = INSIDE if own else f"http://127.0.0.1:{listening.getsockname()[1]}"
        opened, deaths = Opened(experiment, agent, "" if own else key, listening), len(self.deaths)
        try:
            with self._lock:
                self._open[experiment] = opened
            self._ask_open(opened)
            yield Line(url, key, path if own else None, entry.provider is None)
        finally:
            with self._lock:
                self._open.pop(experiment, None)
            listening.close()
            path.unlink(missing_ok=True)
            self._close(experiment, deaths)

    def _close(self, experiment: str, deaths: int) -> None:
        """Have a line closed, and remember what it came to. `deaths`: how often a gateway had died when it was opened."""
        told: dict[str, Any] = {}
        with suppress(UserError):
            told = self._ask({"do": "close", "experiment": experiment})
        self.closed = Closed.model_validate(told or {"usage": self.usage(experiment) or Usage()})
        if len(self.deaths) > deaths:
            reason = f"the gateway {self.deaths[-1]} while the agent worked, and was started again"
            self.closed = self.closed.model_copy(update={"trouble": "network", "reason": reason})
        if self.closed.usage:
            self.known[experiment] = self.closed.usage

    def usage(self, experiment: str) -> Usage | None:
        """What an experiment has used, all tries together; None when it never had a line."""
        with suppress(OSError, ValueError):
            return Usage.model_validate_json((self.folder / f"{experiment}.json").read_text())
        return self.known.get(experiment)

    def state(self) -> State:
        """How the gateway stands; a UserError when it cannot be kept alive."""
        return State.model_validate(self._ask({"do": "state"}))

    def _recall(self, path: Path) -> None:
        """Take note of what an experiment had used when its night was killed; a file is needless when the record knows."""
        with suppress(ValueError):
            usage, known = Usage.model_validate_json(path.read_text()), self.known.get(path.stem)
            if known and known.requests >= usage.requests:
                path.unlink()
            else:
                self.known[path.stem] = usage

    def _ask(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> dict[str, Any]:
        """The gateway's answer; another gateway's when the first one died over it."""
        for _ in range(2):
            if not self._up.wait(STARTED_S):
                break
            with self._lock:
                control = self._control
                with suppress(OSError, EOFError):
                    if control is not None:
                        send(control, message, fds)
                        return receive(control)[0]
            self._give_up(control)
        raise UserError(f"the gateway to the LLM providers does not work: {self._last_words()}")

    def _give_up(self, control: socket.socket | None) -> None:
        """Let a gateway that does not answer end, unless another one has taken its place."""
        with self._lock, suppress(OSError):
            if control is not None and control is self._control:
                self._up.clear()
                control.shutdown(socket.SHUT_RDWR)

    def _ask_open(self, opened: Opened) -> None:
        usage = self.known.get(opened.experiment, Usage())
        message = {"do": "open", "experiment": opened.experiment, "agent": opened.agent, "key": opened.key}
        self._ask({**message, "usage": usage.model_dump()}, (opened.listening.fileno(),))

    def _keep(self) -> None:
        """Have a gateway, from a thread that lives as long as the night: a process dies with the thread that started it."""
        while not self._stop.is_set() and len(self.deaths) < DEATHS:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(REPLY_S)
            argv = (sys.executable, "-P", "-m", "harness.gateway", str(theirs.fileno()))
            env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}  # all of the user's: a key_cmd may need any of it
            with ours, Process(Launch(argv, env, Path("/"), (theirs.fileno(),)), self.log.with_suffix(".err.log")) as process:
                theirs.close()
                self._hand_over(ours)
                while (ended := process.wait(0)) is None and self._up.is_set() and not self._stop.wait(LOOK_S):
                    self._look(ours)
                with self._lock:
                    self._up.clear()
                    self._control = None
            if not self._stop.is_set():
                self.deaths.append(_how(ended))

    def _hand_over(self, control: socket.socket) -> None:
        """Tell a new gateway all that it has to know."""
        with self._lock:
            for experiment in self._open:
                self.known[experiment] = self.usage(experiment) or Usage()
            spent = sum(usage.usd or 0.0 for usage in self.known.values())
            told = Start(entries=self.entries, folder=self.folder, log=self.log, spent_usd=spent, **self.limits)
            with suppress(OSError, EOFError):
                send(control, {"start": told.model_dump(mode="json")})
                self._control = control
                self._up.set()
                for opened in self._open.values():
                    self._ask_open(opened)

    def _look(self, control: socket.socket) -> None:
        """Keep the latest state at hand, for whoever wants to show it without waiting."""
        with self._lock:
            try:
                send(control, {"do": "state"})
                self.latest = State.model_validate(receive(control)[0])
            except (OSError, EOFError):
                self._give_up(control)

    def _last_words(self) -> str:
        return f"it {self.deaths[-1]}, for the {len(self.deaths)}th time" if self.deaths else "it does not answer"


def _how(ended: Exit | None) -> str:
    """What became of a gateway, in words."""
    if ended is None:
        return "did not answer"
    last = ended.tail.strip().splitlines()
    how = f"was killed by signal {-ended.code}" if ended.code < 0 else f"ended with exit code {ended.code}"
    return how + (f": {last[-1][:200]}" if last else "")


def _listen_unix(path: Path) -> socket.socket:
    """A listening socket at a path of any length, for its owner alone."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(0o600)
    listening.listen(512)
    return listening
