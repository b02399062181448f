"""Slack's gateway and outlet on the fake Slack, as the tests here use them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette

from adapters.slack.gateway import SlackGateway
from bot.domain import Author, Message, ThreadKey, Turn
from tests.fakes.slack import SlackServer


@dataclass
class Mailroom:
    """Keeps what a gateway stores. While `away` it fails as a lost Redis does; `hang` never returns."""

    log: list[tuple[Any, ...]] = field(default_factory=list)
    away: bool = False
    hang: bool = False
    attempts: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def put(self, message: Message) -> bool:
        return await self._store("put", message)

    async def amend(self, thread: ThreadKey, message: str, text: str) -> bool:
        return await self._store("amend", thread, message, text)

    async def withdraw(self, thread: ThreadKey, message: str) -> bool:
        return await self._store("withdraw", thread, message)

    async def stop(self, thread: ThreadKey) -> bool:
        return await self._store("stop", thread)

    async def feedback(self, thread: ThreadKey, post: str, author: str, *, good: bool) -> None:
        await self._store("feedback", thread, post, author, good)

    async def _store(self, *fact: Any) -> bool:
        self.attempts += 1
        self._changed.set()
        if self.hang:
            await asyncio.Event().wait()
        if self.away:
            raise ConnectionError("redis is away")
        self.log.append(fact)
        self._changed.set()
        return True

    @property
    def messages(self) -> list[Message]:
        """As the core sees them: one for each id."""
        return list({(m.thread, m.id): m for kind, *rest in self.log if kind == "put" for m in rest}.values())

    def count(self, kind: str) -> int:
        return sum(fact[0] == kind for fact in self.log)

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(15):
            while not true():
                self._changed.clear()
                await self._changed.wait()


async def eventually(true: Callable[[], object]) -> None:
    """For what changes without anything to wait on."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def gateway(slack: SlackServer, **more: Any) -> SlackGateway:
    settings = {
        "bot_token": slack.bot_token,
        "app_token": slack.app_token,
        "api_url": slack.api_url,
        "heartbeat": 0.4,
    }
    return SlackGateway(**{**settings, **more})


@contextlib.asynccontextmanager
async def hearing(slack: SlackServer, mailroom: Mailroom, **more: Any) -> AsyncIterator[SlackGateway]:
    """A gateway in Socket Mode with all its sockets open."""
    ears = gateway(slack, **more)
    async with running(ears.run(mailroom)):
        await slack.wait_for_sockets(more.get("connections", 2))
        await eventually(ears.healthy)
        yield ears


@contextlib.asynccontextmanager
async def listening(slack: SlackServer, mailroom: Mailroom) -> AsyncIterator[tuple[SlackGateway, str]]:
    """A gateway in HTTP mode behind a real server, and its URL; events go there."""
    ears = gateway(slack, app_token=None, signing_secret=slack.signing_secret)
    config = uvicorn.Config(
        Starlette(routes=list(ears.routes)), port=0, log_level="critical", lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        async with running(ears.run(mailroom)):
            await eventually(lambda: server.started and ears.healthy())
            port = server.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}/slack/events"
            slack.deliver_to(url)
            yield ears, url
            slack.deliver_to(None)
    finally:
        server.should_exit = server.force_exit = True
        await serving


@dataclass
class HandClock:
    """Time that passes when told to, or when slept through."""

    at: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds
        await asyncio.sleep(0)


def asked(slack: SlackServer, text: str = "why?", *, channel: str = "", thread_ts: str | None = None) -> Turn:
    """Alice says something in Slack, and the turn that answers it."""
    channel = channel or slack.general
    ts = slack.say(channel, slack.alice, text, thread_ts)
    thread = ThreadKey("slack", slack.team_id, channel, thread_ts or ts)
    message = Message(ts, thread, Author(slack.alice, "alice", slack.team_id), text, opens=thread_ts is None)
    return Turn(ts, thread, (message,))
