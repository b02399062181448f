"""HTTP mode: only Slack is heard, and strangers get a 401, never a 500."""

from __future__ import annotations

import contextlib
import io
import json
import time
from typing import Any

import aiohttp
import pytest

from tests.contract.slack_kit import Mailroom, gateway, listening
from tests.fakes.slack import SlackServer

EVENT: dict[str, Any] = {"type": "event_callback", "event_id": "Ev1"}


def body(slack: SlackServer, text: str = "hello") -> str:
    event = {
        "type": "message",
        "ts": "1732346000.000200",
        "channel": slack.general,
        "user": slack.alice,
        "text": text,
    }
    return json.dumps({**EVENT, "team_id": slack.team_id, "event": event})


async def post(url: str, data: bytes | str, headers: dict[str, str]) -> int:
    headers = {"Content-Type": "application/json", **headers}
    data = data.encode() if isinstance(data, str) else data
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(data), headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


async def test_signed_events_and_presses_are_stored_and_answered() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with listening(slack, mailroom) as (ears, url):
            assert ears.healthy()
            assert await slack.verify_url(url)
            slack.say(slack.general, slack.alice, f"<@{slack.bot_user_id}> hello")
            await slack.wait_for_delivery()
            assert len(mailroom.messages) == 1
            assert {entry.outcome for entry in slack.delivery.log} == {"acked"}


async def test_forged_stale_and_malformed_requests_are_401() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with listening(slack, mailroom) as (_, url):
            raw, now = body(slack), int(time.time())
            good = slack.sign(raw)
            signature, stamp = good["X-Slack-Signature"], good["X-Slack-Request-Timestamp"]
            forged: list[dict[str, str]] = [
                {},
                {"X-Slack-Signature": signature},
                {"X-Slack-Request-Timestamp": stamp},
                {**good, "X-Slack-Signature": "v0=" + "0" * 64},
                {**good, "X-Slack-Signature": "v0=é"},
                {**good, "X-Slack-Signature": ""},
                {**good, "X-Slack-Request-Timestamp": "now"},
                {**good, "X-Slack-Request-Timestamp": "-1"},
                {**good, "X-Slack-Request-Timestamp": "1.5"},
                {**good, "X-Slack-Request-Timestamp": "9" * 400},
                slack.sign(raw, now - 301),
                slack.sign(raw, now + 310),
                slack.sign(raw + " "),
            ]
            assert [await post(url, raw, headers) for headers in forged] == [401] * len(forged)
            for junk in ("", "not json", "[]", "null", "[" * 100_000):
                assert await post(url, junk, slack.sign(junk)) == 401
            assert await post(url, b"\xff\xfe", good) == 401
            assert mailroom.attempts == 0
            assert await post(url, raw, good) == 200


async def test_a_replayed_request_is_the_same_message() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with listening(slack, mailroom) as (_, url):
            raw = body(slack)
            headers = slack.sign(raw)
            assert [await post(url, raw, headers) for _ in range(3)] == [200] * 3
            assert len(mailroom.messages) == 1


async def test_signed_nonsense_is_answered_so_that_it_does_not_come_again() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with listening(slack, mailroom) as (_, url):
            nonsense: list[Any] = [
                {},
                {"type": "event_callback"},
                {"type": "event_callback", "event": []},
                {
                    "type": "event_callback",
                    "event": {"type": "message", "channel": 7, "ts": {}, "user": None},
                },
                {
                    "type": "event_callback",
                    "event": {"type": "message", "channel": {"id": 1}},
                    "authorizations": 3,
                },
                {"type": "block_actions", "actions": "x", "user": [], "channel": 1, "response_urls": [[]]},
            ]
            for payload in nonsense:
                raw = json.dumps(payload)
                assert await post(url, raw, slack.sign(raw)) == 200
            assert mailroom.attempts == 0


async def test_too_much_is_refused_without_reading_it_all() -> None:
    async with SlackServer() as slack, listening(slack, Mailroom()) as (_, url):
        raw = "x" * (1024 * 1024 + 1)
        with contextlib.suppress(aiohttp.ClientOSError):  # it may hang up while we are still sending
            assert await post(url, raw, slack.sign(raw)) == 413
        assert await post(url, body(slack), slack.sign(body(slack))) == 200


async def test_a_store_that_is_away_gives_503_and_the_retry_is_stored() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom(away=True)
        async with listening(slack, mailroom) as (_, url):
            raw = body(slack)
            assert await post(url, raw, slack.sign(raw)) == 503
            mailroom.away = False
            await mailroom.until(lambda: len(mailroom.messages) == 1)  # kept here as well
            assert await post(url, raw, slack.sign(raw)) == 200


async def test_before_it_runs_nothing_is_acknowledged_and_in_socket_mode_nothing_is_served() -> None:
    async with SlackServer() as slack:
        ears = gateway(slack, app_token=None, signing_secret=slack.signing_secret)
        assert await ears._dispatch({"type": "event_callback", "event": {}}, {}) == (503, "")
        assert [route.path for route in ears.routes] == ["/slack/events"]
        assert gateway(slack).routes == ()


async def test_bodies_and_secrets_stay_out_of_the_logs(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    async with SlackServer() as slack:
        mailroom = Mailroom(away=True)
        async with listening(slack, mailroom) as (_, url):
            raw = body(slack, "a very private sentence")
            await post(url, raw, {})
            await post(url, raw, slack.sign(raw))
            mailroom.away = False
            await post(url, raw, slack.sign(raw))
            await mailroom.until(lambda: mailroom.messages)
    printed = caplog.text + "".join(capsys.readouterr())
    assert "private sentence" not in printed
    assert slack.signing_secret not in printed
    assert slack.bot_token not in printed
