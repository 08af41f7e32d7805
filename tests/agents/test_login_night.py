"""Nights with agents that hold their own login: what they reach past the gateway, and what a real CLI does with its login."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from clis import ROOT, SHIPPED, need, record
from conftest import Lab
from island import certificates, island
from provider import Provider

from harness.agents.programs import installed_here

HOST, EVIL, INNER, REBOUND = "api.example.com", "evil.example.com", "inner.example.com", "rebound.example.com"
GOOD, OTHER, PRIVATE = "8.8.8.8", "8.8.4.4", "10.1.2.3"  # on the island they are ours
NAMES = {HOST: GOOD, EVIL: OTHER, INNER: PRIVATE}

# What an agent tries: each attack says what it reached. Behind the proxy it may reach HOST alone; by itself, as the control,
# it reaches everything.
ATTACKS = '''
import json, os, socket, ssl, sys, urllib.request
HOST, EVIL, INNER, REBOUND, OTHER = sys.argv[1:6]
proxy = os.environ.get("HTTPS_PROXY")
context = ssl.create_default_context(cafile=sys.argv[6])
context.check_hostname = False
def fetch(target, name):
    """What a server says of itself, over TLS, through the proxy where there is one."""
    host, port = (target.rpartition(":")[0], 443) if ":" in target else (target, 443)
    if proxy:
        talk = socket.create_connection(("127.0.0.1", int(proxy.rpartition(":")[2])), timeout=20)
        talk.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
        told = talk.recv(4096)
        if b" 200 " not in told:
            return told.decode()
    else:
        talk = socket.create_connection((host, port), timeout=20)
    with context.wrap_socket(talk, server_hostname=name) as safe:
        safe.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        return safe.recv(4096).decode()
def raw(address, port):
    """What a server without TLS says, past any proxy."""
    with socket.create_connection((address, port), timeout=20) as talk:
        talk.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        return talk.recv(4096).decode()
def plain():
    with urllib.request.urlopen(f"http://{EVIL}/", timeout=20) as answer:
        return answer.read().decode()
def rebind():
    return " ".join(attempt(lambda: fetch(REBOUND, REBOUND)) for _ in range(4))
def attempt(attack):
    try:
        return attack()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
found = {name: attempt(attack) for name, attack in {
    "allowed": lambda: fetch(HOST, HOST), "another host": lambda: fetch(EVIL, EVIL), "an address": lambda: fetch(OTHER, EVIL),
    "loopback": lambda: fetch("127.0.0.1", "localhost"), "a private address": lambda: fetch(INNER, INNER),
    "another name": lambda: fetch(HOST, EVIL) if proxy else fetch(EVIL, EVIL), "plain HTTP": plain,
    "a raw socket": lambda: raw(OTHER, 80), "raw loopback": lambda: raw("127.0.0.1", 80), "rebinding": rebind}.items()}
told = json.dumps(found)
if os.path.isdir("notes"):
    open("notes/EXPERIMENT.md", "w").write("Attacks\\n\\n" + told)
    open("toy/solution.py", "a").write("# attacked\\n")
else:
    print(told)
'''


def served(name: str, address: str, port: int, certificate: Path | None = None) -> None:
    """A server that says its name to everybody, as long as the process lives."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        context.load_cert_chain(certificate)
    listening = socket.create_server((address, port))
    body = f"this is {name}"
    answer = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def serve() -> None:
        while True:
            talk = listening.accept()[0]
            try:
                talk.settimeout(20)
                safe = context.wrap_socket(talk, server_side=True) if certificate else talk
                safe.recv(4096)
                safe.sendall(answer)
                safe.close()
            except OSError:
                talk.close()

    threading.Thread(target=serve, daemon=True).start()


def two_faced() -> None:
    """A name server that says GOOD and the loopback in turns, as in DNS rebinding: who looks twice is deceived."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 53))
    turns = cycle((GOOD, "127.0.0.1"))

    def serve() -> None:
        while True:
            question, whence = listening.recvfrom(512)
            end = question.index(b"\0", 12) + 5
            answers = b""
            if question[end - 4 : end - 2] == b"\0\1":  # an IPv4 address
                answers = b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", 0, 4) + socket.inet_aton(next(turns))
            head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, bool(answers), 0, 0)
            listening.sendto(head + question[12:end] + answers, whence)

    threading.Thread(target=serve, daemon=True).start()


def attacked(lab: Lab, ca: Path, leaf: Path) -> tuple[dict[str, str], dict[str, str], dict[str, Any], str]:
    """On the island: what the attacks reach without a sandbox and from within it, the record, and the log."""
    for name, address in {HOST: GOOD, EVIL: OTHER, "the inside": PRIVATE, "the loopback": "127.0.0.1"}.items():
        served(name, address, 443, leaf)
    for name, address in {EVIL: OTHER, "the loopback": "127.0.0.1"}.items():
        served(name, address, 80)
    two_faced()
    (lab.path / "attacks.py").write_text(ATTACKS)
    words = [HOST, EVIL, INNER, REBOUND, OTHER]
    alone = subprocess.run([sys.executable, lab.path / "attacks.py", *words, ca], capture_output=True, text=True, check=True)
    lab.git("add", ".")
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "attacks")
    entry = {
        "argv": ["{python}", "attacks.py", *words, "{home}/ca.pem"],
        "network": "provider",
        "hosts": [HOST, INNER, REBOUND],
        "login": {"files": ["login"]},
        "home_files": {"ca.pem": ca.read_text()},
    }
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"attacker: {json.dumps(entry)}\n")
    home = Path(lab.env["XDG_STATE_HOME"]) / "harness/logins/attacker"
    home.mkdir(parents=True)
    (home / "login").write_text("token")
    lab.harness("run", "--agent", "attacker", "--tag", "t", "--experiments", "1")
    told = record(lab)
    log = next((home.parents[1]).glob("*/logs/t/gateway.log")).read_text()
    return json.loads(alone.stdout), json.loads(told["proposal"]["hypothesis"]), told, log


def test_an_agent_reaches_its_hosts_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    ca, leaf = certificates(tmp_path / "certs", *NAMES, REBOUND, "localhost")
    with island(tmp_path / "island", NAMES) as pool:
        alone, inside, told, log = pool.submit(attacked, lab, ca, leaf).result(timeout=120)
    for name, wanted in {
        "allowed": f"this is {HOST}",
        "another host": f"this is {EVIL}",
        "an address": f"this is {EVIL}",
        "loopback": "this is the loopback",
        "a private address": "this is the inside",
        "another name": f"this is {EVIL}",
        "plain HTTP": f"this is {EVIL}",
        "a raw socket": f"this is {EVIL}",
        "raw loopback": "this is the loopback",
        "rebinding": "this is the loopback",
    }.items():
        assert wanted in alone[name], (name, alone)  # the control: without sandbox and proxy each of them works
        assert ("this is" in inside[name]) is (name in ("allowed", "rebinding")), (name, inside)
    assert f"this is {HOST}" in inside["allowed"]
    assert "loopback" not in inside["rebinding"]
    assert f"{REBOUND} leads to 127.0.0.1, which is no address of the internet" in inside["rebinding"]
    assert f"{INNER} leads to {PRIVATE}" in inside["a private address"]
    assert f"{EVIL}:443 is not among the hosts" in inside["another host"]
    assert told["proposal"]["network"] == "provider"
    assert told["proposal"]["usage"] is None
    assert f'"path": "{HOST}:443", "model": "", "status": 200' in log
    assert f"asked for {EVIL} instead" in log
    assert "weaker: the agent held its own login" in lab.harness("show", "1", "--tag", "t").stdout


CLAUDE = "api.anthropic.com"
RENEWING = "platform.claude.com"


def logged_in_claude(lab: Lab, ca: Path, leaf: Path) -> tuple[list[str], list[dict[str, Any]], dict[str, Any], list[str]]:
    """On the island: two proposals of the real CLI with a login that has to be renewed for each."""
    shutil.copy(ROOT / "agents.yaml", lab.path / "agents.yaml")
    lab.env["XDG_CACHE_HOME"] = str(installed_here().parents[1])
    shipped = SHIPPED["claude"]
    env = {name: text for name, text in shipped["env"].items() if not name.startswith("ANTHROPIC_")}
    entry = {**{name: part for name, part in shipped.items() if name != "provider"}, "network": "provider"}
    entry |= {"hosts": [CLAUDE, RENEWING], "login": {"files": [".claude/.credentials.json"]}}
    entry |= {"env": {**env, "NODE_EXTRA_CA_CERTS": "{home}/ca.pem"}, "home_files": {"ca.pem": ca.read_text()}}
    with (lab.path / "agents.yaml").open("a") as file:
        file.write(f"claude-login: {json.dumps(entry)}\n")
    lab.edit("toy/task.yaml", "propose_s: 20", "propose_s: 60")
    login = Path(lab.env["XDG_STATE_HOME"]) / "harness/logins/claude-login/.claude/.credentials.json"
    login.parent.mkdir(parents=True)
    tokens = {"accessToken": "access-0", "refreshToken": "first", "expiresAt": 0, "subscriptionType": "max"}
    login.write_text(json.dumps({"claudeAiOauth": {**tokens, "scopes": ["user:inference", "user:profile"]}}))
    with Provider("idle", address=GOOD, certificate=leaf).serving() as provider:
        lab.harness("run", "--agent", "claude-login", "--tag", "t", "--experiments", "2")
        shown = [seen.headers["authorization"] for seen in provider.asked]
        listed = [line for line in lab.harness("agents").stdout.splitlines() if "claude-login" in line]
        left = json.loads(login.read_text())["claudeAiOauth"]
        return [*dict.fromkeys(shown)], [record(lab, "0001"), record(lab, "0002")], left, [*provider.refreshed, *listed]


@pytest.mark.heavy
def test_the_real_claude_renews_its_login_and_the_next_proposal_goes_on_with_it(lab: Lab, tmp_path: Path) -> None:
    """A refresh token is good for one use: a copy of the login would be refused in the second proposal."""
    need("claude")
    ca, leaf = certificates(tmp_path / "certs", CLAUDE, RENEWING)
    with island(tmp_path / "island", {CLAUDE: GOOD, RENEWING: GOOD}) as pool:
        shown, records, left, refreshed = pool.submit(logged_in_claude, lab, ca, leaf).result(timeout=200)
    assert [each["proposal"]["outcome"]["kind"] for each in records] == ["unchanged", "unchanged"], records
    assert {each["proposal"]["network"] for each in records} == {"provider"}
    assert len(refreshed) > 3
    assert left["refreshToken"] == refreshed[-2]
    assert len(shown) > 1
    assert all(each.startswith("Bearer access-") for each in shown)
    assert "login of 20" in refreshed[-1]
