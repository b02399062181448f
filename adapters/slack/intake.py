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
from bot.ports import Clock, Mailroom

_log = structlog.get_logger()
STORE_SECONDS = 2.5  # Slack waits three for its answer
KEEP_SECONDS = 60.0
_ROOM = 10_000  # deeds kept while the store is away, a few kB each
_GESTURES = 1_000
_FAILURES_A_ROUND = 3
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0)


@dataclass(slots=True)
class _Lane:
    """Whoever stores into one thread goes in single file (asyncio.Lock is first come, first served)."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Intake:
    """Hands deeds to the mailroom. What fails is kept and tried again, so a redelivery is not the last copy.

    Slack redelivers what was not acknowledged, but only for a while
    (https://docs.slack.dev/apis/events-api/#retries); Socket Mode promises even less.
    """

    def __init__(self, names: Names, clock: Clock) -> None:
        self._names = names
        self._clock = clock
        self._mailroom: Mailroom | None = None
        self._lanes: dict[ThreadKey, _Lane] = {}
        self._kept: dict[Deed, float] = {}  # deed -> when to give up; in order of arrival
        self._wake = asyncio.Event()
        self._gestures: dict[Stop, None] = {}

    def open(self, mailroom: Mailroom) -> None:
        self._mailroom = mailroom

    @property
    def kept(self) -> int:
        return len(self._kept)

    async def take(self, deed: Deed) -> bool:
        """Whether the deed is stored now, so that Slack may be answered. False: kept, ask for it again."""
        if self._mailroom is None:
            return False
        if self._kept:  # or it would overtake
            self._keep(deed)
            return False
        if await self._stored(deed):
            return True
        self._keep(deed)
        return False

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
            if not self._kept:
                self._wake.clear()

    async def _drain_once(self) -> bool:
        failed: set[ThreadKey] = set()
        for deed, until in list(self._kept.items()):
            thread = _thread(deed)
            if thread in failed:
                continue
            if await self._stored(deed):
                del self._kept[deed]
                continue
            failed.add(thread)
            if self._clock.now() > until:
                del self._kept[deed]
                _log.error("slack.deed_lost", deed=type(deed).__name__, thread=str(thread))
            if len(failed) >= _FAILURES_A_ROUND:
                break
        return not failed

    def _keep(self, deed: Deed) -> None:
        if deed not in self._kept and len(self._kept) >= _ROOM:
            _log.error("slack.deed_refused", deed=type(deed).__name__, thread=str(_thread(deed)))
            return
        self._kept.setdefault(deed, self._clock.now() + KEEP_SECONDS)
        self._wake.set()

    async def _stored(self, deed: Deed) -> bool:
        try:
            async with asyncio.timeout(STORE_SECONDS), self._lane(_thread(deed)):
                await self._store(deed)
        except Exception as error:  # noqa: BLE001 - whatever it is, the person's message must not be lost to it
            _log.warning("slack.not_stored", deed=type(deed).__name__, error=type(error).__name__)
            return False
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
