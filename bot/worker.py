"""Hears bells, holds threads, answers their turns; gives back what it cannot finish.

A thread is held for as long as it has something to answer. All leases of the process are renewed in one loop (a loop
a lease cannot keep up at 2,000), and all are given back within a second when the process is asked to end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Literal

import structlog
from redis.exceptions import RedisError

from bot.bells import Bells
from bot.consultation import asked
from bot.conversation import Conversation
from bot.domain import Exchange, ThreadKey, Turn
from bot.errors import LeaseLost, Retryable
from bot.ports import Clock
from bot.redis_client import RedisClient
from bot.scripts import HANDED_OVER, STOPS
from bot.silence import Silence
from bot.store import Lease, Store

_log = structlog.get_logger()

RENEWALS = 4  # of a lease before it runs out
SURE = 0.6  # of a lease's time, counted from its last renewal, we may still speak: what is said takes time as well
SWEEP_SECONDS = 0.5  # how often threads are looked for whose worker died, or handed over with nobody hearing
SWEEP_THREADS = 100  # taken up at once
TAKEOVERS = 50  # of one turn: not even the sentence that gives it up can be said without ending the worker
AWAY_SECONDS = 0.5  # between two tries while Redis is away
HAND_OVER_SECONDS = 0.9
PASS_ON_SECONDS = 1.0  # a bell this worker cannot answer rings again for another one


class HeldThread:
    """A thread in this worker's hands: the Desk of its conversation.

    `turn` is the id of the turn being answered. `finishing` is set while its end is on the way to Redis, which may
    give the thread back: until that is known, nobody can say whether a new message will be seen.
    """

    __slots__ = ("_clock", "_store", "finishing", "lease", "silence", "task", "turn")

    def __init__(self, store: Store, lease: Lease, turn: str, clock: Clock) -> None:
        self.lease = lease
        self.turn = turn
        self.silence = Silence()
        self.finishing: asyncio.Event | None = None
        self.task: asyncio.Task[None] | None = None
        self._store = store
        self._clock = clock

    async def save(self, turn: Turn) -> None:
        await self._store.save(self.lease, turn)

    async def held(self) -> None:
        # Past its time somebody else may hold the thread. The renewal loop finds out, and ends us if it is so.
        while time.monotonic() - self.lease.renewed_at > self._store.lease_seconds * SURE:
            await self._clock.sleep(AWAY_SECONDS)

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
        self._left: list[Lease] = []
        self._handed_over = asyncio.Event()
        self._early_stops: deque[tuple[ThreadKey, str]] = deque(
            maxlen=64
        )  # of turns that are just being taken

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
            loops.create_task(self._hear_others(), name="hear stops and hand-overs")
            try:
                async with asyncio.TaskGroup() as self._turns:
                    try:
                        await asyncio.Event().wait()
                    finally:
                        self._leaving = True  # the turns are cancelled next
            finally:
                await self._hand_over()

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
                    await self._bells.ring(thread, f"passed-on/{time.time_ns()}", after=PASS_ON_SECONDS)
                else:
                    await self._hold(thread)
                return
            except Retryable as away:
                _log.warning("worker.redis_away", reason=str(away))
                if self._leaving:
                    raise  # nothing is lost: docket cannot forget a bell while Redis is away
                await self._clock.sleep(AWAY_SECONDS)

    async def _hold(self, thread: ThreadKey) -> Literal["held", "busy", "empty"]:
        """Take the thread and begin to answer it."""
        while held := self._held.get(thread):
            if held.finishing is None:
                return "held"  # its end takes what waits, or gives the thread back
            await held.finishing.wait()
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
        if self._turns is None or self._leaving:
            self._slots.release()
            await self._store.release([lease])
            return "busy"
        held = self._held[thread] = HeldThread(self._store, lease, turn.id, self._clock)
        held.task = self._turns.create_task(self._serve(held, turn), name=f"turns of {thread}")
        await self._store.watch(lease)
        return "held"

    async def _serve(self, held: HeldThread, turn: Turn | None) -> None:
        """Answer the thread's turns until none is left."""
        thread = held.lease.thread
        try:
            while turn is not None:
                turn = await self._answer(held, turn)
        except LeaseLost:
            _log.warning("lease.lost", thread=str(thread))
        except asyncio.CancelledError:
            if self._leaving:
                self._left.append(held.lease)
            raise
        except Exception:  # noqa: BLE001 - one thread's bug must not end the others; the sweep takes it up again
            _log.exception("thread.crashed", thread=str(thread))
        finally:
            # A late claim of our own may have taken the thread anew meanwhile.
            if self._held.get(thread) is held:
                del self._held[thread]
            self._slots.release()
            if held.finishing is not None:
                held.finishing.set()

    async def _answer(self, held: HeldThread, turn: Turn) -> Turn | None:
        """Answer one turn; returns the next."""
        _log.debug("turn.taken", thread=str(turn.thread), turn=turn.id, resumed=turn.resumed)
        held.turn, held.silence = turn.id, Silence()
        if turn.stopped or (turn.thread, turn.id) in self._early_stops:
            held.silence.ask()
        if turn.takeovers > TAKEOVERS:
            _log.error("turn.dropped", thread=str(turn.thread), turn=turn.id, takeovers=turn.takeovers)
            exchange = Exchange(asked(turn), "")
        else:
            turn, exchange = await self._conversation.answer(turn, held, held.silence)
        held.finishing = asyncio.Event()
        following = await self._finish(held, turn, exchange)
        if following is not None:
            held.finishing.set()
            held.finishing = None
        return following

    async def _finish(self, held: HeldThread, turn: Turn, exchange: Exchange) -> Turn | None:
        while True:
            try:
                return await self._store.finish(held.lease, turn, exchange)
            except Retryable as away:
                _log.warning("worker.redis_away", reason=str(away))
                await self._clock.sleep(AWAY_SECONDS)

    async def _hand_over(self) -> None:
        """Give back what is unfinished, all at once, and tell the other workers."""
        self._left += [held.lease for held in self._held.values()]  # of tasks that ended before they began
        try:
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._store.release(self._left)
        except (Retryable, TimeoutError):
            _log.warning("leases.not_handed_over", threads=len(self._left))  # they run out by themselves
        else:
            _log.info("leases.handed_over", threads=len(self._left))

    # --- the loops -----------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        period = self._store.lease_seconds / RENEWALS
        while True:
            await self._clock.sleep(period)
            holding = [held for held in self._held.values() if held.finishing is None]
            try:
                lost = set(await self._store.renew([held.lease for held in holding]))
            except Retryable as away:
                _log.warning("worker.redis_away", reason=str(away))
                continue
            for held in holding:
                if held.lease in lost and held.finishing is None and held.task is not None:
                    _log.warning("lease.lost", thread=str(held.lease.thread))
                    held.task.cancel()
                elif held.lease.stopped == held.turn:
                    held.silence.ask()

    async def _sweep(self) -> None:
        """Take up threads whose worker died, and those that were handed over."""
        while not self._leaving:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._handed_over.wait()
            self._handed_over.clear()
            try:
                found = SWEEP_THREADS
                while found == SWEEP_THREADS and not self._slots.locked():
                    due = await self._store.due(limit=SWEEP_THREADS)
                    found = len(due)
                    await asyncio.gather(*(self._take_up(thread, score) for thread, score in due))
            except Retryable as away:
                _log.warning("worker.redis_away", reason=str(away))

    async def _take_up(self, thread: ThreadKey, score: float) -> None:
        if self._conversation.speaks(thread.platform) and await self._hold(thread) == "empty":
            await self._store.forget(thread, score)

    async def _hear_others(self) -> None:
        """Silence at once what somebody stopped (renewals tell it too, a little later); see what was handed over."""
        while True:
            try:
                async with self._redis.pubsub() as others:
                    await others.subscribe(STOPS, HANDED_OVER)
                    async for message in others.listen():
                        if message["type"] != "message":
                            continue
                        if message["channel"] == HANDED_OVER.encode():
                            self._handed_over.set()
                            continue
                        name, _, turn = message["data"].decode().partition(" ")
                        thread = ThreadKey.parse(name)
                        if (held := self._held.get(thread)) and held.turn == turn:
                            held.silence.ask()
                        else:
                            self._early_stops.append((thread, turn))
            except (RedisError, OSError) as away:
                _log.warning("worker.redis_away", reason=type(away).__name__)
            await self._clock.sleep(AWAY_SECONDS)
