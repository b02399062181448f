"""From intent to stored fact: in order within a thread, kept while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import assert_never

import structlog

from adapters.slack.names import Names
from adapters.slack.wire import Amend, Deed, Feedback, Put, Stop, Withdraw
from bot.domain import Message, ThreadKey
from bot.errors import Misconfigured, Retryable
from bot.ports import Clock, Mailroom

_log = structlog.get_logger()
STORE_SECONDS = 2.5  # Slack waits three for its answer
KEEP_SECONDS = 60.0
_ROOM = 10_000  # deeds kept while the store is away, a few kB each
_GESTURES = 1_000
_AWAY_THREADS = 3  # so many waiting at once: it is the store that is away, not something about one of them
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0)
_PASSING = (Retryable, Misconfigured, OSError)  # an operator mends settings; TimeoutError is an OSError


@dataclass(slots=True)
class _Lane:
    """Whoever stores into one thread goes in single file (asyncio.Lock is first come, first served)."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Intake:
    """Hands deeds to the mailroom. What the store is not there for is kept, thread by thread, and tried again, so a
    redelivery is not the last copy.

    Slack redelivers what was not acknowledged, but only for a while
    (https://docs.slack.dev/apis/events-api/#retries); Socket Mode promises even less.
    """

    def __init__(self, names: Names, clock: Clock) -> None:
        self._names = names
        self._clock = clock
        self._mailroom: Mailroom | None = None
        self._lanes: dict[ThreadKey, _Lane] = {}
        self._waiting: dict[ThreadKey, dict[Deed, float]] = {}  # deed -> when to give up; in order of arrival
        self._wake = asyncio.Event()
        self._gestures: dict[Stop, None] = {}
        self.kept = 0

    def open(self, mailroom: Mailroom) -> None:
        self._mailroom = mailroom

    async def take(self, deed: Deed) -> bool:
        """Whether the deed is stored now, so that Slack may be answered. False: kept or dropped, ask for it again."""
        if self._mailroom is None:
            return False
        if len(self._waiting) >= _AWAY_THREADS and _thread(deed) not in self._lanes:
            self._keep(deed)
            return False
        return await self._try(deed)

    async def drain(self) -> None:
        """Store what was kept, whenever the store is back. Runs until cancelled."""
        failures = 0
        while True:
            await self._wake.wait()
            if await self._drain_once():
                failures = 0
            else:
                await self._clock.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                failures += 1
            if not self._waiting:
                self._wake.clear()

    async def _drain_once(self) -> bool:
        failed = 0
        for thread in list(self._waiting):
            if not await self._emptied(thread):
                failed += 1
            if failed >= _AWAY_THREADS:
                break
        return not failed

    async def _emptied(self, thread: ThreadKey) -> bool:
        while (deed := self._first(thread)) is not None:
            await self._try(deed)
            if self._first(thread) == deed:
                # The next round begins with others.
                waiting = self._waiting[thread] = self._waiting.pop(thread)
                if self._clock.now() > waiting[deed]:
                    self._forget(deed)
                    _log.error("slack.deed_lost", deed=type(deed).__name__, thread=str(thread))
                return False
        return True

    def _first(self, thread: ThreadKey) -> Deed | None:
        return next(iter(self._waiting.get(thread, ())), None)

    def _keep(self, deed: Deed) -> None:
        thread = _thread(deed)
        if deed in self._waiting.get(thread, ()):
            return
        if self.kept >= _ROOM:
            _log.error("slack.deed_refused", deed=type(deed).__name__, thread=str(thread))
            return
        self._waiting.setdefault(thread, {})[deed] = self._clock.now() + KEEP_SECONDS
        self.kept += 1
        self._wake.set()

    def _forget(self, deed: Deed) -> None:
        thread = _thread(deed)
        waiting = self._waiting.get(thread, {})
        if deed in waiting:
            del waiting[deed]
            self.kept -= 1
            if not waiting:
                del self._waiting[thread]

    async def _try(self, deed: Deed) -> bool:
        """Store it. What fails for a passing reason is kept; anything else would fail for ever and is dropped."""
        thread = _thread(deed)
        try:
            async with asyncio.timeout(STORE_SECONDS), self._lane(thread):
                if self._first(thread) not in (None, deed):
                    raise Retryable("it would overtake")
                await self._store(deed)
        except _PASSING as error:
            _log.warning("slack.not_stored", deed=type(deed).__name__, error=type(error).__name__)
            self._keep(deed)
            return False
        except Exception as error:  # noqa: BLE001 - a bug: the other messages must not be lost to it
            _log.error(  # without its trace, which may quote the message
                "slack.deed_broken", deed=type(deed).__name__, thread=str(thread), error=type(error).__name__
            )
            self._forget(deed)
            return False
        self._forget(deed)
        return True

    async def _store(self, deed: Deed) -> None:
        mailroom = self._mailroom
        if mailroom is None:
            raise RuntimeError("not open")
        match deed:
            case Put(message):
                await mailroom.put(await self._named(message))
            case Amend(thread, message_id, text):
                await mailroom.amend(thread, message_id, text)
            case Withdraw(thread, message_id):
                await mailroom.withdraw(thread, message_id)
            case Stop(thread):
                if deed not in self._gestures:  # a redelivered stop must not end the next answer
                    await mailroom.stop(thread)
                    self._remember(deed)
            case Feedback(thread, post, author, good):
                await mailroom.feedback(thread, post, author, good=good)
            case _:
                assert_never(deed)

    async def _named(self, message: Message) -> Message:
        """Who said what matters where several read along."""
        if message.private or message.author.name:
            return message
        return replace(
            message, author=replace(message.author, name=await self._names.learn(message.author.id))
        )

    def _remember(self, gesture: Stop) -> None:
        if len(self._gestures) >= _GESTURES:
            del self._gestures[next(iter(self._gestures))]
        self._gestures[gesture] = None

    @asynccontextmanager
    async def _lane(self, thread: ThreadKey) -> AsyncIterator[None]:
        lane = self._lanes.setdefault(thread, _Lane())
        lane.users += 1
        try:
            async with lane.lock:
                yield
        finally:
            lane.users -= 1
            if not lane.users:
                del self._lanes[thread]


def _thread(deed: Deed) -> ThreadKey:
    return deed.message.thread if isinstance(deed, Put) else deed.thread
