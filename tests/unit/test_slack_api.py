"""Answers that are none: proxies, half-dead servers, and what each of them means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from adapters.slack.api import Api
from bot.errors import Ambiguous, Rejected, Retryable
from tests.contract.slack_kit import HandClock


@asynccontextmanager
async def answering(**answer: Any) -> AsyncIterator[tuple[Api, list[str]]]:
    """A server that gives this answer to everything, and what it was asked."""
    heard: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.Response(**answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api = Api(token="xoxb-1", api_url=f"http://127.0.0.1:{runner.addresses[0][1]}/api", clock=HandClock())
    try:
        yield api, heard
    finally:
        await api.close()
        await runner.cleanup()


NO_ANSWERS: list[dict[str, Any]] = [
    {"status": 200, "text": "<html>proxy</html>", "content_type": "text/html"},
    {"status": 200, "text": "ok", "content_type": "text/plain"},
    {"status": 200, "text": "{broken", "content_type": "application/json"},
    {"status": 200, "text": "[1]", "content_type": "application/json"},
    {"status": 200, "text": "", "content_type": "application/json"},
    {"status": 200, "text": "{}", "content_type": "application/json"},
    {"status": 502, "text": "bad gateway", "content_type": "text/plain"},
    {"status": 504, "text": "<html>", "content_type": "text/html"},
    {"status": 500, "text": '{"ok":false,"error":"internal_error"}', "content_type": "application/json"},
]


@pytest.mark.parametrize("answer", NO_ANSWERS)
async def test_no_answer_to_a_post_is_ambiguous_and_never_repeated(answer: dict[str, Any]) -> None:
    async with answering(**answer) as (api, heard):
        with pytest.raises(Ambiguous):
            await api.call("chat.postMessage", channel="C1")
        assert heard == ["/api/chat.postMessage"]


@pytest.mark.parametrize("answer", NO_ANSWERS)
async def test_no_answer_to_what_may_be_repeated_is_asked_for_once_more(answer: dict[str, Any]) -> None:
    async with answering(**answer) as (api, heard):
        with pytest.raises(Retryable):
            await api.call("chat.update", repeatable=True, channel="C1")
        assert len(heard) == 2


@pytest.mark.parametrize("header", ["0", "soon", "-1", "1e9", ""])
async def test_an_odd_retry_after_is_a_short_wait(header: str) -> None:
    async with answering(status=429, text="slow down", headers={"Retry-After": header}) as (api, _):
        with pytest.raises(Retryable) as caught:
            await api.call("chat.postMessage", patience=0.5, channel="C1")
        assert 0 <= (caught.value.retry_after or 0) <= 1


async def test_the_limit_of_one_channel_is_not_that_of_another() -> None:
    async with answering(status=429, headers={"Retry-After": "30"}, text="") as (api, heard):
        for channel in ("C1", "C1", "C2"):
            with pytest.raises(Retryable):
                await api.call("chat.postMessage", channel=channel)
        for channel in ("C1", "C2"):
            with pytest.raises(Retryable):
                await api.call("chat.update", channel=channel)
        assert heard == ["/api/chat.postMessage", "/api/chat.postMessage", "/api/chat.update"]


async def test_an_expected_refusal_is_an_answer_and_any_other_an_error() -> None:
    async with answering(text='{"ok":false,"error":"odd_thing"}', content_type="application/json") as (
        api,
        _,
    ):
        assert (await api.call("x.y", expect=frozenset({"odd_thing"})))["error"] == "odd_thing"
        with pytest.raises(Rejected, match="odd_thing"):
            await api.call("x.y")
