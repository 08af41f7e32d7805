"""Budgets, rate limits, quotas, refused keys, and a gateway that is killed at work."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import stat
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from gateways import SECRET, agent, ask, connect, gateway
from provider import Provider

from harness.gateway import pace, prices
from harness.gateway.client import Gateway
from harness.gateway.pace import Account
from harness.gateway.prices import Price, Tokens
from harness.models import Usage

ANSWER = (800 * 1 + 200 * 0.1 + 50 * 5) / 1e6  # what the scripted provider's answer costs with claude-haiku-4-5


class Choosy(Provider):
    """A provider that knows one key; it answers 401 to every other."""

    wanted = "the-new-key"

    def failing(self) -> str | None:
        return None if self.seen[-1].headers.get("x-api-key") == self.wanted else "auth"


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_budget_of_a_night_is_exceeded_by_one_request_at_most(tmp_path: Path) -> None:
    known = {"0001": Usage(requests=1, usd=3 * ANSWER)}
    with (
        Provider().serving() as provider,
        gateway(tmp_path, agent("anthropic", provider.url), cost_usd=5.5 * ANSWER, known=known) as made,
    ):
        with made.line("0002", "anthropic") as line, ThreadPoolExecutor(8) as pool:
            assert line
            answers = list(pool.map(lambda _: ask(line, "anthropic", stream=True), range(8)))
        assert made.state().spent_usd == pytest.approx(6 * ANSWER)
        with made.line("0003", "anthropic") as line:
            assert line
            refused = ask(line, "anthropic")
        assert "0003" not in [path.stem for path in made.folder.glob("*.json")]
    assert sorted(answer.status for answer in answers) == [200] * 3 + [400] * 5
    assert refused.json["type"] == "error"
    assert refused.json["error"]["type"] == "invalid_request_error"
    assert "the night's budget of 0.005885 USD is spent" in refused.json["error"]["message"]
    assert len(provider.asked) == 3


def test_the_control_without_a_budget_they_all_pass(tmp_path: Path) -> None:
    with Provider().serving() as provider, gateway(tmp_path, agent("anthropic", provider.url)) as made:
        with made.line("0002", "anthropic") as line, ThreadPoolExecutor(8) as pool:
            assert line
            assert {answer.status for answer in pool.map(lambda _: ask(line, "anthropic"), range(8))} == {200}


@pytest.mark.parametrize("api", ["anthropic", "openai-chat", "gemini"])
def test_the_budget_of_a_proposal_leaves_the_others_alone(tmp_path: Path, api: str) -> None:
    with Provider().serving() as provider, gateway(tmp_path, agent(api, provider.url), propose_usd=0.0001) as made:
        with made.line("0001", api) as first, made.line("0002", api) as second:
            assert first
            assert second
            told = [ask(line, api).status for line in (first, first, second)]
            error = ask(first, api).json["error"]
    assert told == [200, 400, 200]
    assert "the experiment's budget of 0.0001 USD is spent" in error["message"]
    assert error.get("type", error.get("status")) in ("invalid_request_error", "INVALID_ARGUMENT")


def test_a_budget_needs_a_known_price(tmp_path: Path) -> None:
    with Provider().serving() as provider:
        with gateway(tmp_path, agent("anthropic", provider.url), cost_usd=1) as made, made.line("0001", "anthropic") as line:
            assert line
            assert "nobody knows the price" in ask(line, "anthropic", model="claude-next-9").json["error"]["message"]
        with gateway(tmp_path, agent("anthropic", provider.url)) as made, made.line("0001", "anthropic") as line:
            assert line
            assert ask(line, "anthropic", model="claude-next-9").status == 200
            usage = made.usage("0001")
    assert usage
    assert (usage.usd, usage.output, usage.models) == (None, 50, ["claude-next-9"])


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_certificate_that_nobody_vouches_for_gets_no_key(tmp_path: Path) -> None:
    made_by = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made_by += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/certificate"]
    subprocess.run(made_by, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    provider = Provider()
    provider._server.socket = context.wrap_socket(provider._server.socket, server_side=True, do_handshake_on_connect=False)
    url = provider.url.replace("http:", "https:")
    with provider.serving():
        with gateway(tmp_path, agent("anthropic", url)) as made, made.line("0001", "anthropic") as line:
            assert line
            refused = ask(line, "anthropic")
        with pytest.MonkeyPatch.context() as trusting:
            trusting.setenv("SSL_CERT_FILE", f"{tmp_path}/certificate")
            with gateway(tmp_path, agent("anthropic", url)) as made, made.line("0001", "anthropic") as line:
                assert line
                control = ask(line, "anthropic")
    assert refused.status == 502
    assert "certificate" in refused.body.decode()
    assert control.status == 200
    assert len(provider.seen) == 1


def test_hanging_up_early_is_not_free(tmp_path: Path) -> None:
    with Provider("hang").serving() as provider, gateway(tmp_path, agent("anthropic", provider.url)) as made:
        with made.line("0001", "anthropic") as line:
            assert line
            with connect(line) as found:
                body = (
                    b'{"model":"claude-haiku-4-5","max_tokens":5000,"messages":[{"role":"user","content":"'
                    + b"x" * 9000
                    + b'"}]}'
                )
                found.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                wait_for(lambda: provider.asked)
            wait_for(lambda: made.usage("0001"))
        usage = made.usage("0001")
    assert usage
    assert usage.estimated == 1
    assert usage.input >= 3000
    assert usage.usd


def test_a_broken_stream_stays_broken(tmp_path: Path) -> None:
    with Provider("dropped").serving() as provider, gateway(tmp_path, agent("anthropic", provider.url)) as made:
        with made.line("0001", "anthropic") as line:
            assert line
            with pytest.raises(Exception, match=r"IncompleteRead|reset|closed"):
                ask(line, "anthropic", stream=True)
        usage = made.usage("0001")
    assert usage
    assert usage.estimated == 1


def test_a_429_is_waited_for_and_asked_again(tmp_path: Path) -> None:
    with Provider("rate_limited_once", retry_after=1).serving() as provider:
        with gateway(tmp_path, agent("openai-chat", provider.url)) as made, made.line("0001", "openai-chat") as line:
            assert line
            assert ask(line, "openai-chat").status == 200
            usage = made.usage("0001")
    assert usage
    assert usage.retries == 1
    assert usage.requests == 1
    assert provider.asked[1].at - provider.asked[0].at >= 1


def test_a_provider_that_stays_busy_is_asked_a_few_times_only(tmp_path: Path) -> None:
    with Provider("overloaded", retry_after=0.1).serving() as provider:
        with gateway(tmp_path, agent("anthropic", provider.url)) as made, made.line("0001", "anthropic") as line:
            assert line
            refused = ask(line, "anthropic")
            assert made.usage("0001") is None
    assert refused.status == 529
    assert refused.json["error"]["type"] == "overloaded_error"
    assert len(provider.asked) == 5


def test_everybody_waits_for_one_account_and_nobody_for_another(tmp_path: Path) -> None:
    with Provider("rate_limited", retry_after=500).serving() as busy, Provider().serving() as free:
        specs = [agent("anthropic", busy.url), agent("anthropic", busy.url, "twin"), agent("anthropic", free.url, "other")]
        with gateway(tmp_path, *specs) as made:
            told = []
            for name in ("anthropic", "twin", "other"):
                with made.line("0001", name) as line:
                    assert line
                    told.append(ask(line, "anthropic"))
            state = made.state()
    assert [each.status for each in told] == [429, 429, 200]
    assert len(busy.asked) == 1
    assert 450 < int(told[1].headers["retry-after"]) <= 510
    assert set(state.waiting) == {"anthropic", "twin"}
    assert 450 < (state.waiting["twin"].until or 0) - time.time() < 510


@pytest.mark.parametrize(("api", "known"), [("anthropic", True), ("openai-chat", False)])
def test_an_exhausted_quota_stops_all_requests_until_its_reset(tmp_path: Path, api: str, known: bool) -> None:
    with Provider("quota", reset_s=7200).serving() as provider:
        with gateway(tmp_path, agent(api, provider.url)) as made, made.line("0001", api) as line:
            assert line
            first, second = ask(line, api), ask(line, api)
            waiting = made.state().waiting[api]
    assert (first.status, second.status) == (429, 429)
    assert len(provider.asked) == 1
    assert "quota exceeded" in second.body.decode()
    assert "used up" in waiting.reason
    if known:
        assert 7100 < (waiting.until or 0) - time.time() < 7201
    else:
        assert waiting.until is None


def test_a_refused_key_is_said_without_showing_it(tmp_path: Path) -> None:
    with Provider("auth").serving() as provider:
        with gateway(tmp_path, agent("anthropic", provider.url)) as made, made.line("0001", "anthropic") as line:
            assert line
            refused = ask(line, "anthropic")
            state = made.state()
    assert refused.status == 401
    assert state.refused["anthropic"] == "the provider refused the key from GATEWAY_TEST_KEY"
    assert SECRET[:10] not in refused.body.decode()


def test_a_key_that_a_command_prints_is_printed_anew_when_it_is_refused(tmp_path: Path) -> None:
    command = tmp_path / "key"
    command.write_text(f"#!/bin/sh\necho a warning >&2\ncat {tmp_path}/now; echo {Choosy.wanted} > {tmp_path}/now\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "now").write_text("the-old-key\n")
    with Choosy().serving() as provider:
        with gateway(tmp_path, agent("anthropic", provider.url, key_env=[], key_cmd=[str(command)])) as made:
            with made.line("0001", "anthropic") as line:
                assert line
                assert [ask(line, "anthropic").status for _ in range(2)] == [200, 200]
    assert [seen.headers["x-api-key"] for seen in provider.asked] == ["the-old-key", "the-new-key", "the-new-key"]


def test_the_token_of_a_subscription_goes_where_the_cli_would_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-token")
    with Provider().serving() as provider:
        spec = agent("anthropic", provider.url, key_env=["NOT_SET_AT_ALL", "CLAUDE_CODE_OAUTH_TOKEN"])
        with gateway(tmp_path, spec) as made, made.line("0001", "anthropic") as line:
            assert line
            ask(line, "anthropic", headers={"anthropic-beta": "interleaved-thinking-2025-05-14"})
            ask(line, "anthropic", headers={"anthropic-beta": "oauth-2025-04-20,other-2025-01-01", "x-api-key": "harness"})
    first, second = (seen.headers for seen in provider.asked)
    assert first["authorization"] == second["authorization"] == "Bearer sk-ant-oat01-token"
    assert "x-api-key" not in second
    assert first["anthropic-beta"] == "interleaved-thinking-2025-05-14,oauth-2025-04-20"
    assert second["anthropic-beta"] == "oauth-2025-04-20,other-2025-01-01"


def struck(made: Gateway, number: int) -> None:
    """Send a signal to the gateway's process."""
    children = Path(f"/proc/self/task/{made._keeper.native_id}/children").read_text().split()
    assert children
    for child in children:
        os.kill(int(child), number)


def test_a_gateway_that_is_killed_at_work_is_replaced_on_the_same_line(tmp_path: Path) -> None:
    with Provider().serving() as provider, gateway(tmp_path, agent("anthropic", provider.url)) as made:
        with made.line("0001", "anthropic") as line:
            assert line
            assert ask(line, "anthropic").status == 200
            wait_for(lambda: made.usage("0001"))
            struck(made, signal.SIGKILL)
            wait_for(lambda: made.deaths)
            assert ask(line, "anthropic").status == 200  # it waited in the socket's queue
        usage, state = made.usage("0001"), made.state()
    assert made.closed.reason == "the gateway was killed by signal 9 while the agent worked, and was started again"
    assert usage
    assert usage.requests == 2
    assert state.spent_usd == pytest.approx(2 * ANSWER)


@pytest.mark.heavy
def test_a_gateway_that_hangs_is_replaced_too(tmp_path: Path) -> None:
    with Provider().serving() as provider, gateway(tmp_path, agent("anthropic", provider.url)) as made:
        with made.line("0001", "anthropic") as line:
            assert line
            struck(made, signal.SIGSTOP)
            assert ask(line, "anthropic").status == 200
        assert made.state().spent_usd == pytest.approx(ANSWER)
    assert made.closed.reason == "the gateway did not answer while the agent worked, and was started again"


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with Provider().serving() as provider:
        with gateway(tmp_path, agent("anthropic", provider.url)) as made:
            with made.line("0001", "anthropic") as line:
                assert line
                assert line.socket
                assert stat.S_IMODE(line.socket.stat().st_mode) == 0o600
                assert stat.S_IMODE(line.socket.parent.stat().st_mode) == 0o700
            assert not line.socket.exists()
            keeper = made._keeper
        assert not keeper.is_alive()
    assert not list(tmp_path.rglob("*.sock"))


def test_prices_fit_versions_of_a_model_and_nothing_else() -> None:
    known = prices.load()
    assert known.of("claude-haiku-4-5-20251001") == known.of("anthropic/claude-haiku-4-5") == known.of("claude-haiku-4-5")
    assert known.of("gpt-5-2025-08-07") == known.of("gpt-5")
    assert known.of("gpt-5") != known.of("gpt-5-mini") != known.of("gpt-5.1")
    for unknown in ("gpt-5-ultra", "gpt-55", "claude-haiku-4", "", "gpt", "haiku-of-mine"):
        assert known.of(unknown) is None, unknown


def test_a_price_list_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert prices.load().of("my-model-7") is None
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness/prices.yaml").write_text("models:\n  my-*: {input: 1, output: 2}\n  gpt-5: {input: 9, output: 9}\n")
    known = prices.load()
    assert known.of("my-model-7") == Price(input=1, output=2)
    assert known.of("gpt-5") == Price(input=9, output=9)
    assert known.of("gpt-5-mini")
    (tmp_path / "harness/prices.yaml").write_text("models: {x: {input: -1, output: 2}}\n")
    with pytest.raises(Exception, match=r"prices.yaml: models.x.input: .*greater than or equal to 0"):
        prices.load()


def test_tokens_are_priced_by_kind_and_length() -> None:
    price = Price.model_validate(
        {
            "input": 2,
            "output": 10,
            "cached": 0.2,
            "written": 2.5,
            "written_1h": 4,
            "long": {"above": 100, "input": 4, "output": 20},
        }
    )
    assert price.usd(Tokens(input=10, cached=10, written=10, written_1h=10, output=1)) * 1e6 == pytest.approx(
        20 + 2 + 25 + 40 + 10
    )
    assert price.usd(Tokens(input=101, output=1)) * 1e6 == pytest.approx(4 * 101 + 20)


def test_times_to_wait_are_read_in_every_form() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=100)
    for text in ("100", format_datetime(soon, usegmt=True), soon.isoformat(), soon.strftime("%Y-%m-%dT%H:%M:%SZ")):
        assert pace.seconds_until(text) == pytest.approx(100, abs=2), text
    assert pace.seconds_until("tomorrow") is None
    assert pace.seconds_until("nan") is None
    told = {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": soon.isoformat()}
    told |= {"anthropic-ratelimit-requests-remaining": "5", "anthropic-ratelimit-requests-reset": "2099-01-01T00:00:00Z"}
    assert pace.named_wait(told, b"") == pytest.approx(100, abs=2)
    google = b'{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}'
    assert pace.named_wait({}, google) == 34.5


def test_a_used_up_day_ends_at_midnight_of_the_provider() -> None:
    day = (
        b'{"error":{"code":429,"details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProject"}]},{"retryDelay":"3s"}]}}'
    )
    minute = day.replace(b"PerDay", b"PerMinute")
    account = Account()
    assert account.learn(429, {}, minute)
    assert not account.quota
    assert not account.learn(429, {}, day)
    assert account.quota
    assert account.wait_s() <= 24 * 3600
    assert (account.until - 8 * 3600) % (24 * 3600) == 0


def test_waiting_grows_without_a_hint_and_ends_with_an_answer() -> None:
    account, waits = Account(), []
    for _ in range(9):
        account.until = 0.0
        assert account.learn(529, {})
        waits.append(account.wait_s())
    assert 0.4 < waits[0] <= 1
    assert 25 < waits[-1] <= 60
    account.learn(200, {})
    assert account.failures == 0


def test_the_owner_of_a_subscription_keeps_a_share() -> None:
    reset = int(time.time()) + 3000
    told = {"Anthropic-Ratelimit-Unified-5h-Utilization": "0.61", "anthropic-ratelimit-unified-5h-reset": str(reset)}
    told |= {"anthropic-ratelimit-unified-7d-utilization": "0.2", "anthropic-ratelimit-unified-7d-reset": str(reset + 10**5)}
    modest, greedy = Account(share=0.6), Account()
    modest.learn(200, told)
    greedy.learn(200, told)
    assert greedy.wait_s() == 0
    assert modest.wait_s() == pytest.approx(3000, abs=3)
    assert modest.reason == "61% of the five-hour quota is used, and quota_share leaves the rest to its owner"
    assert modest.windows == {"five-hour": 0.61, "weekly": 0.2}
