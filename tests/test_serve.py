"""`harness serve`: a real server process, asked over real sockets by friends and by attackers, and in a real browser."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import long_night
import pytest
from browser import browser, needs_browser
from conftest import Lab, make_lab

from harness import git, locks
from harness.ledger import Ledger
from harness.models import UserError
from harness.report import detail
from harness.report.lineage import lineage
from harness.serve.door import Door
from harness.serve.server import listen

WAIT_S = 60.0

Files = dict[str, tuple[int, int]]  # size and time of change


@dataclass
class Served:
    """A server, and what opens it."""

    process: subprocess.Popen[str]
    url: str
    errors: Path
    folder: str = ""
    cookie: str = ""

    @property
    def host(self) -> str:
        return self.url.split("/")[2]

    @property
    def port(self) -> int:
        return int(self.host.rsplit(":", 1)[1])

    def enter(self) -> None:
        """Take the token for a cookie."""
        answer, _ = self.ask(self.url.partition(self.host)[2], cookie="")
        assert answer.status == 303
        self.folder = answer.headers["Location"]
        self.cookie = answer.headers["Set-Cookie"].split(";")[0]

    def ask(
        self,
        path: str | None = None,
        method: str = "GET",
        headers: tuple[tuple[str, str], ...] = (),
        cookie: str | None = None,
        host: tuple[str, ...] | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request as it is given, with our cookie and the right host where nothing else is said."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        line.putrequest(method, path or self.folder, skip_host=True, skip_accept_encoding=True)
        for each in (self.host,) if host is None else host:
            line.putheader("Host", each)
        mine = self.cookie if cookie is None else cookie
        for name, value in (*headers, *([("Cookie", mine)] if mine else [])):
            line.putheader(name, value)
        line.endheaders()
        answer = line.getresponse()
        body = answer.read()
        line.close()
        return answer, body

    def status(self, path: str | None = None, **more: object) -> int:
        return self.ask(path, **more)[0].status  # type: ignore[arg-type]


@contextmanager
def serving(path: Path, env: dict[str, str], *args: str) -> Iterator[Served]:
    """A server of a repository's latest night, on a port of its own."""
    errors = path.parent / f"serve-{os.urandom(4).hex()}.err"
    with errors.open("w") as file:
        argv = Lab.command("serve", "--port", "0", *args)
        process = subprocess.Popen(argv, cwd=path, env=env, stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, errors.read_text()
        found = Served(process, url, errors)
        found.enter()
        yield found
    finally:
        process.terminate()
        process.wait(WAIT_S)
        assert process.stdout is not None
        process.stdout.close()


def environment(folder: Path) -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return keep | {"HOME": str(folder / "home"), "XDG_STATE_HOME": str(folder / "state")}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a night of 30 experiments, whose harness never ran here."""
    folder = tmp_path_factory.mktemp("night")
    long_night.make(folder / "lab", 30, 5)
    return folder / "lab"


def files(folder: Path) -> Files:
    return {str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def before(night: Path) -> Files:
    """What lies in the repository before anybody looks."""
    with locks.hold(git.open_repo(night), "t"):
        pass  # once a night has been, there is a lock
    return files(night)


@pytest.fixture(scope="module")
def server(night: Path, before: Files) -> Iterator[Served]:
    with serving(night, environment(night.parent)) as found:
        yield found


def test_the_token_is_taken_for_a_cookie_and_leaves_the_address(server: Served) -> None:
    answer, body = server.ask(server.url.partition(server.host)[2], cookie="")
    token = server.url.partition("token=")[2]
    assert (answer.status, body) == (303, b"")
    assert len(token) >= 43
    assert answer.headers["Location"] == server.folder
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", f"Path={server.folder}"} <= set(cookie.split("; "))
    assert token not in cookie + answer.headers["Location"]
    answer, body = server.ask()
    assert answer.status == 200
    assert b"autoresearch/t" in body
    assert token.encode() not in body


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token={}x", "?token=%ff%00", "?other={}", "?token=x&token={}"])
def test_without_the_token_nobody_gets_in(server: Served, query: str) -> None:
    token = server.url.partition("token=")[2]
    answer, body = server.ask(f"/{query.format(token)}", cookie="")
    assert answer.status == 403
    assert b"loss" not in body
    assert "Set-Cookie" not in answer.headers
    assert server.status(f"/?token={token}", cookie="") == 303


@pytest.mark.parametrize("cookie", ["", "harness=", "harness=x", "other={}", "harness={}x"])
def test_without_the_cookie_nothing_is_shown(server: Served, cookie: str) -> None:
    mine = server.cookie.partition("=")[2]
    for path in (server.folder, f"{server.folder}live", f"{server.folder}experiment/0012", "/nothing"):
        answer, body = server.ask(path, cookie=cookie.format(mine))
        assert answer.status == 403
        assert b"harness serve" in body
    assert server.status(cookie=f"a=b; harness={mine}; c=d") == 200


@pytest.mark.parametrize(
    "hosts",
    [
        *((), ("",), ("evil.example",), ("evil.example:{}",), ("127.0.0.1",), ("127.0.0.1:1",), ("127.0.0.1.evil.example:{}",)),
        *(("localhost.evil.example:{}",), ("10.0.0.1:{}",), ("[::1]:{}",), ("127.0.0.1:{}", "evil.example"), ("0x7f000001:{}",)),
    ],
)
def test_another_host_is_refused(server: Served, hosts: tuple[str, ...]) -> None:
    """Attack: a page whose name was made to point here, with all that a browser would send along."""
    given = tuple(host.format(server.port) for host in hosts)
    for path in (server.folder, server.url.partition(server.host)[2]):
        assert server.status(path, host=given) in (400, 403)
    for own in ("127.0.0.1", "localhost", "LOCALHOST"):
        assert server.status(host=(f"{own}:{server.port}",)) == 200


@pytest.mark.parametrize(
    "header",
    [
        *(
            ("Origin", "http://evil.example"),
            ("Origin", "null"),
            ("Origin", "http://127.0.0.1:1"),
            ("Origin", "https://127.0.0.1:{}"),
        ),
        *(("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-site")),
    ],
)
def test_what_another_site_asks_for_is_refused(server: Served, header: tuple[str, str]) -> None:
    name, value = header
    for path in (server.folder, f"{server.folder}live", server.url.partition(server.host)[2]):
        assert server.status(path, headers=((name, value.format(server.port)),)) == 403
    for own in (("Origin", f"http://{server.host}"), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "none")):
        assert server.status(headers=(own,)) == 200


def test_it_answers_nothing_but_questions(server: Served) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        answer, _ = server.ask(method=method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD"), method
    head, nothing = server.ask(method="HEAD")
    shown, body = server.ask()
    assert (head.status, nothing, head.headers["Content-Length"]) == (200, b"", str(len(body)))
    assert shown.status == 200


def test_no_path_is_one_of_a_file(server: Served, night: Path) -> None:
    tricks = ["/etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/.git/config", "/train.py"]
    inside = ["train.py", "../train.py", "%2e%2e/train.py", "..%2ftrain.py", "./", "live/../", "live/", "live%00", ".git/HEAD"]
    inside += [
        f"experiment/{each}" for each in ("", "9999", "0012/", "0012%00", "%30012", "0012/train.py", "../train.py", "HEAD")
    ]
    tricks += [server.folder + each for each in inside] + [f"{server.folder}/", server.folder[:-1], server.folder.upper()]
    tricks += [f"file://{night}/train.py", f"http://127.0.0.1:{server.port}{server.folder}", "*"]
    for path in tricks:
        answer, body = server.ask(path)
        assert answer.status in (400, 404), path
        assert b"CONSTANT" not in body, path
        assert b"root:" not in body, path
    assert server.status(f"{server.folder}?anything=1") == 200
    for raw in (b"\xff\xfe", b"/?token=\xff", b"/\x00", b"/?token=%ff%ff&&&=" + b"&" * 2000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as line:
            line.sendall(b"GET " + raw + f" HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
            assert re.match(rb"HTTP/1.[01] 4\d\d ", line.recv(100)), raw
    assert server.status() == 200


def test_every_answer_says_what_a_browser_must_not_do(server: Served) -> None:
    token = server.url.partition(server.host)[2]
    for path, cookie, method in (
        (None, None, "GET"),
        (f"{server.folder}live", None, "GET"),
        (f"{server.folder}experiment/0012", None, "GET"),
        (token, "", "GET"),
        ("/", "", "GET"),
        (None, None, "PUT"),
    ):
        headers = server.ask(path, method, cookie=cookie)[0].headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Server"] == "harness"
        rules = headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(rules)
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers


def test_the_page_and_what_runs_name_the_same_version(server: Served) -> None:
    page = server.ask()[1]
    answer, live = server.ask(f"{server.folder}live")
    assert answer.headers["Content-Type"] == "application/json"
    found = json.loads(live)
    assert re.search(rb'data-version="(\w+)"', page)[1].decode() == found["version"]  # type: ignore[index]
    assert (found["running"], found["now"], found["problem"]) == (False, [], "")
    assert server.ask()[1] == page


def test_what_belongs_to_one_experiment_is_asked_for_by_its_number(server: Served, night: Path) -> None:
    page = server.ask()[1]
    assert b'class="chunk"' not in page
    answer, body = server.ask(f"{server.folder}experiment/0012")
    assert answer.headers["Content-Type"] == "application/json"
    found = json.loads(body)
    ledger = Ledger(git.open_repo(night), "t")
    records = ledger.records()
    line = lineage(ledger, records, git.commit_of(ledger.repo, ledger.lab))
    assert found == json.loads(json.dumps(detail.details(ledger, records, line)[12])), (
        "the same as in a page that needs no server"
    )
    assert found["diff"]
    assert found["curve"]
    assert server.ask(f"{server.folder}experiment/0031")[1].startswith(b"harness: there is no experiment 0031 in 't'")


def test_slow_large_and_many_do_not_hurt(server: Served) -> None:
    with ExitStack() as held:
        for _ in range(150):
            line = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            line.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert server.status() == 200, "whoever is known comes in all the same"
        large = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        large.settimeout(WAIT_S)
        try:
            large.sendall(f"GET {server.folder} HTTP/1.1\r\nHost: {server.host}\r\nX: {'x' * 10_000_000}\r\n\r\n".encode())
            assert b" 400 " in large.recv(100)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was hung up on
        body = held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        body.settimeout(WAIT_S)
        body.sendall(f"POST {server.folder} HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: 1000000000\r\n\r\n".encode())
        assert b" 405 " in body.recv(100)
    resident = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())
    assert resident
    assert int(resident[1]) < 400_000
    assert server.status() == 200


def drip(line: socket.socket) -> None:
    """Go on for ever, a character at a time."""
    while True:
        line.sendall(b"X")
        time.sleep(0.2)


@pytest.mark.heavy
def test_whoever_never_ends_a_request_is_hung_up_on(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(WAIT_S)
        began = time.monotonic()
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
            drip(slow)
        assert 5 < time.monotonic() - began < 30


def test_it_writes_nothing_and_never_keeps_a_night_from_beginning(server: Served, night: Path, before: Files) -> None:
    repo = git.open_repo(night)
    for _ in range(20):
        assert server.status() == 200
        with locks.hold(repo, "t"):
            pass
    with locks.hold(repo, "t"):
        end = time.monotonic() + WAIT_S
        while not json.loads(server.ask(f"{server.folder}live")[1])["running"]:
            assert time.monotonic() < end
    assert server.status() == 200
    assert files(night) == before
    assert not (night.parent / "state").exists()
    assert not (night.parent / "home").exists()


def test_another_address_than_loopback_is_warned_about_and_ctrl_c_ends_it(server: Served, night: Path) -> None:
    opened, helper, env = night.parent / "opened", night.parent / "browser.sh", environment(night.parent)
    helper.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    helper.chmod(0o755)
    with serving(night, env | {"BROWSER": f"{helper} %s"}, "--open", "--address", "0.0.0.0") as found:
        end = time.monotonic() + WAIT_S
        while not opened.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert opened.read_text() != found.url, "everybody on the machine can read what a browser is started with"
        path = opened.read_text().partition(found.host)[2]
        assert [found.status(path, cookie="") for _ in range(2)] == [303, 403]
        assert found.status(host=(f"10.1.2.3:{found.port}",)) == 200
        assert found.status(host=(f"evil.example:{found.port}",)) == 403
        found.process.send_signal(signal.SIGINT)
        assert found.process.wait(WAIT_S) == 130
        warning, serving_now = found.errors.read_text().splitlines()
    assert serving_now == "serving t; Ctrl-C ends it"
    assert warning.startswith("warning: 0.0.0.0 is more than this machine alone, and this is plain HTTP")
    assert f"ssh -L {found.port}:127.0.0.1:{found.port}" in warning
    assert server.errors.read_text() == "serving t; Ctrl-C ends it\n", "at this machine's own address there is nothing to warn of"


def test_the_users_mistakes_are_a_sentence(server: Served, night: Path) -> None:
    argv = Lab.command("serve", "--port", str(server.port))
    done = subprocess.run(argv, cwd=night, env=environment(night.parent), capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"port {server.port} of 127.0.0.1 is in use: choose another with --port" in done.stderr
    for address, sentence in (("localhost", "is no IP address"), ("192.0.2.1", "nothing can listen at 192.0.2.1, port 0")):
        with pytest.raises(UserError, match=sentence):
            listen(address, 0)


def test_each_start_has_a_token_of_its_own_and_a_page_of_an_ipv6_address_its_brackets() -> None:
    one, other = Door("::1", 80), Door("::1", 80)
    assert len({one.token, other.token, one.session, other.session, one.folder, other.folder}) == 6
    assert one.url == f"http://[::1]:80/?token={one.token}"
    assert one.opens(one.token)
    assert not one.opens(other.token)
    assert one.token not in repr(one)


def page_of(lab: Lab, served: Served, profile: Path) -> None:
    """A reader who has filtered, sorted, scrolled and opened something, while the night goes on."""
    with browser(profile) as shown:
        shown.view()
        shown.cdp("Page.navigate", url=served.url)
        shown.until(
            lambda: shown.js("return document.documentElement && document.documentElement.dataset.ready"), lambda: shown.said
        )
        assert shown.js("return location.pathname + location.search") == served.folder
        assert shown.js("return document.cookie") == ""
        shown.until(lambda: shown.texts("#now p")[0].startswith("Ended: "))
        assert shown.texts("#table tbody td.id") == ["0000", "0001", "0002"]
        shown.js("document.querySelector('#statuses input[value=crash]').click()")
        shown.js("document.querySelector('#table th.seconds button').click()")
        shown.js("const s = document.getElementById('text'); s.value = 'crash'; s.dispatchEvent(new Event('input'))")
        shown.js(
            "document.querySelectorAll('details').forEach((each) => { each.open = true; });"
            " document.getElementById('experiments').scrollIntoView({ behavior: 'instant' })"
        )
        shown.js("location.hash = '0002'")
        shown.until(lambda: shown.texts("dialog[open] nav .id") == ["0002"])
        shown.js("const d = document.getElementById('detail'); d.scrollTop = 40; window.mine = d.querySelector('h2')")
        shown.js("window.row = document.querySelector('#table tbody tr')")
        opened = shown.js("return document.querySelectorAll('details[open]').length")
        above = "return document.querySelector('#experiments').getBoundingClientRect().top"
        place, ids = shown.js(above), lambda: shown.texts("#table tbody td.id")
        assert ids() == ["0002"]
        going = lab.start("resume", "--agent", "slow", "--agent", "crash", "--experiments", "4")
        shown.until(lambda: "0003slow: proposing" in "".join(shown.texts("#now li")), lambda: shown.texts("#now"))
        (lab.path.parent / "go").touch()
        shown.until(lambda: "0004" in ids(), lambda: (shown.said, shown.texts("#now"), ids()))
        shown.until(lambda: shown.texts("#now p")[0].startswith("Ended: "), lambda: shown.texts("#now"))
        assert going.wait(WAIT_S) == 0
        assert set(ids()) == {"0002", "0004"}, "the reader's filter holds"
        assert shown.js("return document.querySelector('#table th.seconds').getAttribute('aria-sort')") == "descending"
        assert shown.js("return document.getElementById('text').value") == "crash"
        assert shown.js("return [...document.querySelectorAll('#table tbody tr')].includes(window.row)"), "what is the same stays"
        assert shown.texts("dialog[open] nav .id") == ["0002"]
        assert shown.js(
            "const d = document.getElementById('detail'); return [d.scrollTop, d.querySelector('h2') === window.mine]"
        ) == [40, True]
        assert shown.js("return document.querySelectorAll('details[open]').length") >= opened > 0
        shown.until(lambda: abs(shown.js(above) - place) < 2, lambda: (shown.js(above), place))
        assert shown.texts(".figures dd")[0].startswith("4")
        shown.js("document.querySelectorAll('#statuses input:checked').forEach((each) => each.click())")
        assert shown.texts("#count") == ["2 of 5"]
        assert shown.said == []
        served.process.terminate()
        shown.until(lambda: shown.texts("#now p")[0].startswith("harness serve does not answer: this is how it was at"))
        shown.js("location.hash = '0001'")
        shown.until(lambda: "harness serve does not answer" in "".join(shown.texts("dialog[open][data-id='0001'] .reason")))


@needs_browser
def test_a_reader_keeps_the_place_while_the_night_goes_on(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    lab.agent("slow", f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.1; done; sed -i 's/^X = .*/X = 3.2/' toy/solution.py; NOTE")
    lab.harness("run", "--tag", "t", "--sandbox", "none", "--agent", "better", "--agent", "crash", "--experiments", "2")
    with serving(lab.path, lab.env) as served:
        page_of(lab, served, tmp_path / "profile")
