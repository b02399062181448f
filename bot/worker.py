"""Hears bells, holds threads, answers their turns; gives back what it cannot finish.

A thread is held for as long as it has something to answer. All leases of the process are renewed in one loop (a loop
a lease cannot keep up at 2,000), and all are given back within a second when the process is asked to end.
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import structlog
from redis.exceptions import RedisError

from bot.bells import Bells
from bot.conversation import Conversation
from bot.domain import Exchange, ThreadKey, Turn
from bot.errors import LeaseLost, Retryable
from bot.mailbox import STOPS
from bot.ports import Clock
from bot.redis_client import RedisClient
from bot.silence import Silence
from bot.store import Lease, Store

_log = structlog.get_logger()

RENEWALS = 4  # of a lease before it runs out
SWEEP_SECONDS = 1.0  # how often threads are looked for whose worker died
AWAY_SECONDS = 0.5  # between two tries while Redis is away
HAND_OVER_SECONDS = 0.9
PASS_ON_SECONDS = 1.0  # a bell this worker cannot answer rings again for another one
LEAVING_SECONDS = (
    0.1  # ... sooner when it is on its way out, and hears the bells of what it hands over itself
)


class HeldThread:
    """A thread in this worker's hands: the Desk of its conversation."""

    __slots__ = ("_clock", "_store", "lease", "rung", "silence", "task")

    def __init__(self, store: Store, lease: Lease, clock: Clock) -> None:
        self.lease = lease
        self.silence = Silence()
        self.rung = False  # a bell rang while we held the thread
        self.task: asyncio.Task[None] | None = None
        self._store = store
        self._clock = clock

    async def save(self, turn: Turn) -> None:
        await self._store.save(self.lease, turn)

    async def held(self) -> None:
        # Past its time somebody else may hold the thread. The renewal loop finds out, and ends us if it is so.
        while time.monotonic() - self.lease.renewed_at > self._store.lease_seconds:
            await self._clock.sleep(AWAY_SECONDS / 5)

    async def transcript(self) -> tuple[Exchange, ...]:
        return await self._store.transcript(self.lease.thread)


class Worker:
    """Answers at most `capacity` threads at once; the rest of the bells wait for it or for another worker."""

    def __init__(
        self,
        *,
        redis: RedisClient,
        store: Store,
        bells: Bells,
        conversation: Conversation,
        clock: Clock,
        capacity: int = 2500,
    ) -> None:
        self._redis = redis
        self._store = store
        self._bells = bells
        self._conversation = conversation
        self._clock = clock
        self._slots = asyncio.Semaphore(capacity)
        self._held: dict[ThreadKey, HeldThread] = {}
        self._turns: asyncio.TaskGroup | None = None
        self._leaving = False

    async def idle(self) -> None:
        """Wait until no thread is held."""
        while self._held:
            await self._clock.sleep(AWAY_SECONDS / 50)

    async def run(self) -> None:
        """Work until cancelled; then every held thread is handed over."""
        _log.info("worker.started")
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._bells.listen(self._hear), name="hear bells")
            loops.create_task(self._renew(), name="renew leases")
            loops.create_task(self._sweep(), name="sweep for threads left behind")
            loops.create_task(self._hear_stops(), name="hear stops")
            async with asyncio.TaskGroup() as self._turns:
                try:
                    await asyncio.Event().wait()
                finally:
                    self._leaving = (
                        True  # cancelled: the turns end first, while their leases are still renewed
                    )

    # --- taking threads ------------------------------------------------------------------------------------------

    async def announce(self, thread: ThreadKey, cause: str) -> None:
        """For the gateways of this process: answer here and now, which saves a bell its way through Redis.

        Where there is no room the bell rings for another worker. Raises Retryable; then nothing is lost either.
        """
        if self._turns is None or self._leaving or self._slots.locked():
            await self._bells.ring(thread, cause)
        else:
            await self._hold(thread)

    async def _hear(self, thread: ThreadKey) -> None:
        """A bell: hold the thread and return. Returning forgets the bell, so Redis being away is waited out."""
        while True:
            try:
                if self._leaving or not self._conversation.speaks(thread.platform):
                    after = LEAVING_SECONDS if self._leaving else PASS_ON_SECONDS
                    await self._bells.ring(thread, f"passed-on/{time.time_ns()}", after=after)
                else:
                    await self._hold(thread)
                return
            except Retryable as away:
                _log.warning("worker.redis_away", reason=str(away))
                await self._clock.sleep(AWAY_SECONDS)

    async def _hold(self, thread: ThreadKey) -> Literal["held", "busy", "empty"]:
        """Take the thread and begin to answer it."""
        if held := self._held.get(thread):
            held.rung = True
            return "held"
        await self._slots.acquire()
        claimed: tuple[Lease, Turn] | Literal["busy", "empty"] = "busy"
        try:
            claimed = await self._store.claim(thread)
        finally:
            if isinstance(claimed, str):
                self._slots.release()
        if isinstance(claimed, str):
            return claimed
        lease, turn = claimed
        held = self._held[thread] = HeldThread(self._store, lease, self._clock)
        if self._turns is None or self._leaving:
            await self._let_go(held)
        else:
            held.task = self._turns.create_task(self._serve(held, turn), name=f"turns of {thread}")
            await self._store.watch(lease)
        return "held"

    async def _serve(self, held: HeldThread, turn: Turn | None) -> None:
        """Answer the thread's turns until none is left."""
        try:
            while turn is not None:
                _log.debug("turn.taken", thread=str(turn.thread), turn=turn.id, resumed=turn.resumed)
                if turn.stopped:
                    held.silence.ask()
                ended, exchange = await self._conversation.answer(turn, held, held.silence)
                held.rung = False
                turn = await self._finish(held, ended, exchange)
                held.silence = Silence()
        except LeaseLost:
            _log.warning("lease.lost", thread=str(held.lease.thread))
        except asyncio.CancelledError:
            await self._let_go(held)
            raise
        except Exception:  # noqa: BLE001 - one thread's bug must not end the others; the sweep takes it up again
            _log.exception("thread.crashed", thread=str(held.lease.thread))
        finally:
            self._held.pop(held.lease.thread, None)
            self._slots.release()
        if held.rung:  # while the lease was on its way back: that bell found us holding
            await self._hear(held.lease.thread)

    async def _finish(self, held: HeldThread, turn: Turn, exchange: Exchange) -> Turn | None:
        while True:
            try:
                return await self._store.finish(held.lease, turn, exchange)
            except Retryable as away:
                _log.warning("worker.redis_away", reason=str(away))
                await self._clock.sleep(AWAY_SECONDS)

    async def _let_go(self, held: HeldThread) -> None:
        """Give the thread back unfinished and tell the other workers."""
        thread = held.lease.thread
        try:
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._store.release(held.lease)
                await self._bells.ring(thread, f"hand-over/{held.lease.token}")
        except (Retryable, TimeoutError):
            _log.warning("lease.not_handed_over", thread=str(thread))  # it runs out by itself
        else:
            _log.info("lease.handed_over", thread=str(thread))

    # --- the loops -----------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        period = self._store.lease_seconds / RENEWALS
        while True:
            await self._clock.sleep(period)
            try:
                lost = await self._store.renew([held.lease for held in self._held.values()])
            except Retryable as away:
                _log.warning("worker.redis_away", reason=str(away))
                continue
            for lease in lost:
                held = self._held.get(lease.thread)
                if held is not None and held.lease is lease and held.task is not None:
                    _log.warning("lease.lost", thread=str(lease.thread))
                    held.task.cancel()
            for held in list(self._held.values()):
                if held.lease.stopped:
                    held.silence.ask()

    async def _sweep(self) -> None:
        """Take up threads whose worker died, and those whose hand-over nobody heard."""
        while not self._leaving:
            await self._clock.sleep(SWEEP_SECONDS)
            try:
                for thread, score in await self._store.due():
                    if self._conversation.speaks(thread.platform) and await self._hold(thread) == "empty":
                        await self._store.forget(thread, score)
            except Retryable as away:
                _log.warning("worker.redis_away", reason=str(away))

    async def _hear_stops(self) -> None:
        """Silence at once what somebody stopped. Renewals tell it too, within a lease's quarter."""
        while True:
            try:
                async with self._redis.pubsub() as stops:
                    await stops.subscribe(STOPS)
                    async for message in stops.listen():
                        if message["type"] == "message":
                            held = self._held.get(ThreadKey.parse(message["data"].decode()))
                            if held is not None:
                                held.silence.ask()
            except (RedisError, OSError) as away:
                _log.warning("worker.redis_away", reason=type(away).__name__)
            await self._clock.sleep(AWAY_SECONDS)
