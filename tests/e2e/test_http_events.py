"""Slack's events by signed HTTP instead of sockets."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.e2e.house import House
from tests.redis_servers import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_house(empty_house: House) -> AsyncIterator[House]:
    """A gateway that listens on a port, and a worker."""
    house = empty_house
    port = free_port()
    house.env["THREADBOT_HTTP"] = f"127.0.0.1:{port}"
    house.env["SLACK_SIGNING_SECRET"] = house.slack.signing_secret
    del house.env["SLACK_APP_TOKEN"]
    gateway = house.start("gateway", "slack")
    await house.worker()
    await gateway.logged("http.listening")
    house.slack.deliver_to(events_url(house))
    yield house


def events_url(house: House) -> str:
    return f"http://{house.env['THREADBOT_HTTP']}/slack/events"


async def post(house: House, body: str, headers: dict[str, str]) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            events_url(house), data=body, headers={"Content-Type": "application/json", **headers}
        ) as answer,
    ):
        return answer.status


def captured(house: House, root: str) -> str:
    """The body of the mention as Slack sent it."""
    return next(
        json.dumps(delivered.envelope.payload)
        for delivered in house.slack.delivery.log
        if delivered.envelope.payload.get("event", {}).get("type") == "app_mention"
        and delivered.envelope.payload["event"]["ts"] == root
    )


async def test_a_mention_by_http_is_answered_once(house: House) -> None:
    root = house.mention("over the wire")
    await house.answered(root, "over the wire")
    await house.settled()
    assert house.texts(root) == ["You said: alice: over the wire"]
    assert not house.slack.delivery.undelivered


async def test_slack_is_told_that_the_address_is_ours(house: House) -> None:
    assert await house.slack.verify_url(events_url(house))


async def test_forged_stale_and_unsigned_requests_are_refused_and_change_nothing(house: House) -> None:
    root = house.mention("the real one")
    await house.answered(root)
    await house.settled()
    event = json.loads(captured(house, root))
    event["event"] |= {"ts": "1700000000.000001", "text": f"<@{house.slack.bot_user_id}> forged"}
    body = json.dumps(event)
    fresh = house.slack.sign(body)
    stale = house.slack.sign(body, int(time.time()) - 600)
    assert await post(house, body, {}) == 401
    assert await post(house, body, {**fresh, "X-Slack-Signature": "v0=" + "0" * 64}) == 401
    assert await post(house, body + " ", fresh) == 401
    assert await post(house, body, stale) == 401
    after = house.mention("and the next one")
    await house.answered(after)
    assert house.runs_about("forged") == 0


async def test_a_request_that_is_sent_again_is_taken_and_answered_no_second_time(house: House) -> None:
    root = house.mention("only once")
    await house.answered(root)
    body = captured(house, root)
    signed = house.slack.sign(body)
    assert [await post(house, body, signed) for _ in range(3)] == [200] * 3
    after = house.mention("and the next one")
    await house.answered(after)
    assert len(house.texts(root)) == 1
    assert house.runs_about("only once") == 1


async def test_health_is_told_to_whoever_asks(house: House) -> None:
    address = house.env["THREADBOT_HTTP"]
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"slack": True})
