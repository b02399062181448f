"""A run's event stream. A stream that merely ends has not ended: then the run's own state is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any

import httpx2

from bot.domain import Event, FileProduced, RunRef, Text, TextDelta
from bot.engines.errors import translated
from bot.engines.files import Files
from bot.engines.polling import Polling
from bot.engines.reply import Reply
from bot.engines.sse import Frame, StreamBroken, frames
from bot.errors import Ambiguous, ThreadbotError

Request = AbstractAsyncContextManager[httpx2.Response]

_DRAIN_SECONDS = 0.1


class Streaming:
    def __init__(
        self, polling: Polling, files: Files, *, clock: Callable[[], float], stall_seconds: float
    ) -> None:
        self._polling = polling
        self._files = files
        self._clock = clock
        self._stall_seconds = stall_seconds

    async def play(self, request: Request, reply: Reply) -> AsyncGenerator[Event, None]:
        """The run's events to its real end, whatever becomes of the connection.

        Raises Ambiguous while no event told that there is a run.
        """
        async with AsyncExitStack() as stack:
            with translated(creating=True):
                response = await stack.enter_async_context(request)
            with contextlib.suppress(httpx2.RequestError, StreamBroken):
                heard = self._clock()
                batches = await stack.enter_async_context(aclosing(_batches(response)))
                async for batch in batches:
                    if batch:
                        heard = self._clock()
                    elif self._clock() - heard > self._stall_seconds:
                        break  # alive, says the server's keep-alive; let the run's state say so, too
                    for event in _told(batch, reply):
                        if reply.ended:
                            await _drain(batches)
                        if isinstance(event, Text | FileProduced):
                            event = await self._files.named(event)  # noqa: PLW2901 - the same event, with names
                        yield event
                    if reply.ended:
                        return
        if reply.run is None:
            raise Ambiguous("The engine's stream ended before it told of a run.")
        async with aclosing(self.follow(reply, reply.run)) as events:
            async for event in events:
                yield event

    async def follow(self, reply: Reply, run: RunRef) -> AsyncGenerator[Event, None]:
        """The same without a stream."""
        async with aclosing(self._polling.follow(reply, run)) as events:
            async for event in events:
                yield await self._files.named(event)


def _batches(response: httpx2.Response) -> AsyncGenerator[list[Frame], None]:
    if response.headers.get("content-type", "").startswith("application/json"):
        return _answered(response)
    return frames(response.aiter_bytes())


async def _answered(response: httpx2.Response) -> AsyncGenerator[list[Frame], None]:
    """A server that cannot stream answers with the run; the rest is polled."""
    await response.aread()
    with contextlib.suppress(ValueError):
        yield [("thread.run.created", response.json())]


def _told(batch: list[Frame], reply: Reply) -> Iterator[Event]:
    """What a batch of frames says; deltas that arrived together are one."""
    delta: TextDelta | None = None
    for name, data in batch:
        try:
            events = _read(name, data, reply)
        except (ThreadbotError, StreamBroken):
            if delta is not None:
                yield delta
            raise
        for event in events:
            if not isinstance(event, TextDelta):
                if delta is not None:
                    yield delta
                    delta = None
                yield event
            elif delta is not None and delta.message == event.message:
                delta = TextDelta(delta.message, delta.text + event.text)
            else:
                if delta is not None:
                    yield delta
                delta = event
    if delta is not None:
        yield delta


def _read(name: str, data: Any, reply: Reply) -> list[Event]:
    """`event: error` comes nested or flat, and says nothing about the run that its state would not say better."""
    if name == "error" or (not name and isinstance(data, dict) and data.get("error")):
        raise StreamBroken("the server sent an error event")
    if not isinstance(data, dict):
        return []
    try:
        return list(reply.read(name, data))
    except (KeyError, TypeError, AttributeError, ValueError):
        return []  # not the shape of the protocol: the authoritative texts and states will tell


async def _drain(batches: AsyncGenerator[list[Frame], None]) -> None:
    """Read the few bytes after the end, so that the connection can be used again."""
    with contextlib.suppress(TimeoutError, StopAsyncIteration, httpx2.RequestError, StreamBroken):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while True:
                await anext(batches)
