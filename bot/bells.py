"""docket, and nothing else of it: a bell says that a thread has something to answer.

A bell lives for milliseconds: who hears it takes the thread's lease and returns. A run of minutes must never be a
docket task: docket drains running tasks before it reconnects and redelivers them while they run (measured). Bells of
one message are rung once while they wait; the argument on the wire is the thread key's text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from docket import Docket, Worker
from redis.exceptions import RedisError

from bot.domain import ThreadKey
from bot.errors import Retryable

RINGING = 64  # at once; docket's pool raises when it is empty instead of waiting


class Bells:
    """`url` is docket's: a plain pool of 100 connections is too small, so it names `max_connections`."""

    def __init__(self, url: str, *, name: str = "threadbot") -> None:
        self._docket = Docket(name=name, url=url, execution_ttl=timedelta(seconds=60))
        self._stack = AsyncExitStack()
        self._hands = asyncio.Semaphore(RINGING)
        self._hear: Callable[[ThreadKey], Awaitable[None]] | None = None
        self._docket.register(self._bell, names=["bell"])

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._docket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def ring(self, thread: ThreadKey, cause: str, *, after: float = 0.0) -> None:
        """Announce a thread (in `after` seconds); the same cause rings once while its bell waits."""
        when = datetime.now(UTC) + timedelta(seconds=after) if after else None
        try:
            async with self._hands:
                await self._docket.add("bell", when=when, key=f"{thread}/{cause}")(str(thread))
        except (RedisError, OSError) as error:
            raise Retryable("Redis is away") from error

    async def listen(self, hear: Callable[[ThreadKey], Awaitable[None]], *, concurrency: int = 64) -> None:
        """Hear bells until cancelled. A bell whose hearer dies is heard again elsewhere; one that `hear` raises at is
        lost, so it must not.
        """
        self._hear = hear
        worker = Worker(
            self._docket,
            concurrency=concurrency,
            minimum_check_interval=timedelta(milliseconds=50),
            redelivery_timeout=timedelta(seconds=5),
            reconnection_delay=timedelta(seconds=1),
        )
        async with worker:
            await worker.run_forever()

    async def _bell(self, thread: str) -> None:
        if self._hear is None:
            raise Retryable("this process rings bells but does not hear them")
        await self._hear(ThreadKey.parse(thread))
