"""Workers on a real Redis: one turn at a time, nothing stranded, nothing lost when one of them goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from bot.bells import Bells
from bot.clock import SystemClock
from bot.conversation import Conversation
from bot.domain import (
    Assistant,
    Author,
    Event,
    Exchange,
    Input,
    Message,
    RunEnded,
    RunRef,
    RunStarted,
    Text,
    TextDelta,
    ThreadKey,
    ThreadRef,
    ToolOutput,
    Turn,
)
from bot.mailbox import RedisMailroom
from bot.redis_client import RedisClient, connect
from bot.redis_url import RedisUrl
from bot.scripts import key
from bot.store import Lease, Store
from bot.worker import Worker
from tests.fakes.mind import Mind
from tests.fakes.screen import Screen
from tests.redis_servers import SentinelSetup, Server

ASSISTANT = Assistant("default", "Bot", "", "m", (), "v1")


class Thinker(Mind):
    """Answers every run after `gate` with what it heard; a run it was asked to resume goes on the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.said: dict[str, str] = {}
        self.resumed = 0
        self.slow_to_close = False

    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        self.heard.append(tuple(inputs))
        ref = RunRef(thread.id, f"run_{len(self.heard)}")
        self.said[ref.id] = " + ".join(said.text for said in inputs)
        yield RunStarted(ref)
        yield TextDelta("m", "…")
        async for event in self._go_on(ref):
            yield event

    async def resume(self, run: RunRef, outputs: Sequence[ToolOutput] = ()) -> AsyncGenerator[Event, None]:
        self.resumed += 1
        async for event in self._go_on(run):
            yield event

    async def _go_on(self, run: RunRef) -> AsyncGenerator[Event, None]:
        try:
            await self.gate.wait()
        finally:
            if self.slow_to_close:
                await asyncio.sleep(0.1)
        yield Text("m", self.said[run.id])
        yield RunEnded("completed")

    async def create_thread(self, transcript: Sequence[Exchange]) -> ThreadRef:
        return ThreadRef(self.name, "thread")


class SlowStore(Store):
    """The answer that the thread is free again takes its time."""

    def __init__(self) -> None:
        self.freed, self.arrives = asyncio.Event(), asyncio.Event()
        self.bells_met = 0

    def on(self, redis: RedisClient) -> SlowStore:
        super().__init__(redis)
        return self

    async def finish(self, lease: Lease, turn: Turn, exchange: Exchange) -> Turn | None:
        following = await super().finish(lease, turn, exchange)
        if following is None:
            self.freed.set()
            await self.arrives.wait()
        return following


class LateStore(SlowStore):
    """Also the second claim takes its time: its connection broke, say."""

    def __init__(self) -> None:
        super().__init__()
        self.late = asyncio.Event()
        self.claimed = 0

    async def claim(self, thread: ThreadKey) -> tuple[Lease, Turn] | Literal["busy", "empty"]:
        self.claimed += 1
        if self.claimed == 2:
            await self.late.wait()
        return await super().claim(thread)


class BellCounter(Worker):
    """Tells a SlowStore how many bells rang while its answer was on the way."""

    async def _hold(self, thread: ThreadKey) -> Literal["held", "busy", "empty"]:
        if isinstance(self._store, SlowStore) and self._store.freed.is_set():
            self._store.bells_met += 1
        return await super()._hold(thread)


async def nothing() -> None:
    """What a killed process does at its end."""


class House:
    """One Redis, one engine, one platform, and as many workers as a test starts."""

    def __init__(self, url: str) -> None:
        self.url = RedisUrl.parse(url)
        self.engine = Thinker()
        self.screen = Screen(post_chars=1000)
        self.workers: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        async with connect(self.url) as self.redis, Bells(self.url.for_docket()) as bells:
            self.mailroom = RedisMailroom(self.redis, ring=bells.ring, follows=lambda _: True)
            try:
                yield self
            finally:
                for worker in list(self.workers):
                    await self.end(worker)

    async def work(
        self,
        *,
        capacity: int = 1000,
        lease_seconds: float = 1.0,
        store: SlowStore | None = None,
        dies: bool = False,
    ) -> asyncio.Task[None]:
        ready = asyncio.Event()

        async def run() -> None:
            clock = SystemClock()
            async with connect(self.url) as redis, Bells(self.url.for_docket()) as bells:
                worker = BellCounter(
                    redis=redis,
                    store=store.on(redis) if store else Store(redis, lease_seconds=lease_seconds),
                    bells=bells,
                    conversation=Conversation(
                        engine=self.engine,
                        outlets={"screen": self.screen},
                        assistant_for=lambda thread, private: ASSISTANT,
                        clock=clock,
                    ),
                    clock=clock,
                    capacity=capacity,
                )
                ready.set()
                self.newest = worker
                if dies:
                    worker._hand_over = nothing  # type: ignore[method-assign]
                await worker.run()

        task = asyncio.create_task(run())
        self.workers.append(task)
        await ready.wait()
        return task

    async def end(self, worker: asyncio.Task[None]) -> None:
        self.workers.remove(worker)
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker

    def hear_and_work(self) -> None:
        """From now on the newest worker is in the process that hears."""
        self.mailroom = RedisMailroom(self.redis, ring=self.newest.announce, follows=lambda _: True)

    async def bells_rung(self) -> int:
        return len(await self.redis.keys("threadbot:runs:*"))

    async def say(self, text: str, root: str = "1") -> None:
        self.count = getattr(self, "count", 0) + 1
        thread = ThreadKey("screen", "W", "C", root)
        await self.mailroom.put(Message(str(self.count), thread, Author("U"), text, private=True))

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    def visible(self) -> list[str]:
        return sorted(self.screen.texts())


async def test_a_message_is_answered(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        await house.work()
        await house.say("hello")
        await house.until(lambda: house.visible() == ["hello"])


async def test_a_process_that_hears_and_works_needs_no_bell(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        await house.work()
        await house.say("warm")
        await house.until(lambda: house.visible() == ["warm"])
        house.hear_and_work()
        rung = await house.bells_rung()
        await asyncio.gather(*(house.say(f"m{number}", root=str(number)) for number in range(20)))
        await house.until(lambda: len(house.visible()) == 21)
        assert await house.bells_rung() == rung


async def test_a_process_without_room_rings(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        await house.work(capacity=1)
        house.engine.gate.clear()
        await house.say("one", root="1")
        await house.until(lambda: len(house.engine.heard) == 1)
        rung = await house.bells_rung()
        house.hear_and_work()
        await house.say("two", root="2")
        assert await house.bells_rung() == rung + 1
        house.engine.gate.set()
        await house.until(lambda: house.visible() == ["one", "two"])


async def test_lines_said_during_a_turn_are_answered_together_next(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        await house.work()
        house.engine.gate.clear()
        await house.say("one")
        await house.until(lambda: len(house.engine.heard) == 1)
        for text in ("two", "three", "four"):
            await house.say(text)
        house.engine.gate.set()
        await house.until(lambda: house.visible() == ["one", "two + three + four"])


async def test_two_workers_answer_each_message_once(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        await house.work()
        await house.work()
        await asyncio.gather(*(house.say(f"m{number}", root=str(number % 40)) for number in range(200)))
        everything = {f"m{number}" for number in range(200)}
        await house.until(lambda: {w for text in house.visible() for w in text.split(" + ")} == everything)
        assert sum(len(text.split(" + ")) for text in house.visible()) == 200


async def test_no_bell_is_lost_while_a_lease_is_on_its_way_back(redis_url: str) -> None:
    """Redis has freed the thread, its answer is still on the way: a bell in that moment meets a worker that holds."""
    store = SlowStore()
    async with House(redis_url).open() as house:
        await house.work(store=store)
        await house.say("one")
        await store.freed.wait()
        await house.say("two")
        await house.until(lambda: store.bells_met > 0)
        store.arrives.set()
        await house.until(lambda: house.visible() == ["one", "two"], 4)


async def test_a_worker_asked_to_end_hands_over_within_a_second(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        first = await house.work(lease_seconds=30)
        house.engine.gate.clear()
        for number in range(20):
            await house.say(f"m{number}", root=str(number))
        await house.until(lambda: len(house.engine.heard) == 20)
        await house.work(lease_seconds=30)
        began = asyncio.get_running_loop().time()
        await house.end(first)
        assert asyncio.get_running_loop().time() - began < 2
        house.engine.gate.set()
        await house.until(lambda: house.visible() == sorted(f"m{number}" for number in range(20)), 5)
        assert len(house.engine.heard) == 20, "the runs went on, none was started twice"


async def test_a_late_claim_of_the_same_process_harms_nobody(redis_url: str) -> None:
    """Two bells of one thread: the second claim reaches Redis when the first turn has ended there, but not yet here."""
    store = LateStore()
    thread = ThreadKey("screen", "W", "C", "1")

    async def stored_only(_: ThreadKey, __: str) -> None:
        """No bell: this test rings itself."""

    async with House(redis_url).open() as house:
        worker = await house.work(store=store)
        await house.until(lambda: house.newest._turns is not None)
        house.mailroom = RedisMailroom(house.redis, ring=stored_only, follows=lambda _: True)
        await house.say("one")
        async with asyncio.TaskGroup() as bells:
            bells.create_task(house.newest._hold(thread))
            bells.create_task(house.newest._hold(thread))
            await store.freed.wait()
            house.engine.gate.clear()
            await house.say("two")
            store.late.set()
        store.arrives.set()
        await house.until(lambda: "…" in house.visible())
        house.engine.gate.set()
        await house.until(lambda: house.visible() == ["one", "two"], 5)
        await house.until(lambda: not house.newest._held)
        assert house.newest._slots._value == 1000
        assert not worker.done()


async def many_threads_change_hands(house: House, *, dies: bool) -> float:
    """Seconds from the end of a worker with 400 open threads until another has them all."""
    first = await house.work(lease_seconds=2, dies=dies)
    house.engine.gate.clear()
    await asyncio.gather(*(house.say(f"m{number}", root=str(number)) for number in range(400)))
    await house.until(lambda: len(house.engine.heard) == 400)
    await house.work(lease_seconds=2)
    began = asyncio.get_running_loop().time()
    await house.end(first)
    if dies:
        assert await house.redis.exists(key(ThreadKey("screen", "W", "C", "1"), "lease")), (
            "it gave nothing back"
        )
        assert house.engine.resumed == 0
    await house.until(lambda: house.engine.resumed >= 400, 15)
    taken = asyncio.get_running_loop().time() - began
    house.engine.gate.set()
    await house.until(lambda: house.visible() == sorted(f"m{number}" for number in range(400)), 15)
    assert len(house.engine.heard) == 400
    return taken


async def test_hundreds_of_threads_are_handed_over_at_once(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        assert (
            await many_threads_change_hands(house, dies=False) < 5
        )  # a bound against hanging, not a measurement


async def test_hundreds_of_threads_of_a_dead_worker_are_taken_over(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        assert await many_threads_change_hands(house, dies=True) < 10


async def test_stops_may_come_any_number_of_times_and_the_worker_lives(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        worker = await house.work(lease_seconds=0.2)
        house.engine.gate.clear()
        house.engine.slow_to_close = True
        await house.say("tell me everything")
        await house.until(lambda: house.visible() == ["…"])
        for _ in range(20):
            await house.mailroom.stop(ThreadKey("screen", "W", "C", "1"))
            await asyncio.sleep(0.01)
        await house.until(lambda: house.visible() == ["…\n\n_Stopped._"], 3)
        house.engine.gate.set()
        await house.say("and now")
        await house.until(lambda: "and now" in house.visible(), 3)
        assert not worker.done()


async def test_a_stop_that_comes_before_its_turn_is_in_hand_is_heard_at_once(redis_url: str) -> None:
    """Redis has opened the turn, its answer is still on the way: leases of 30 s leave no renewal to tell it."""
    store = LateStore()
    async with House(redis_url).open() as house:
        await house.work(store=store)
        await house.until(lambda: house.newest._turns is not None)
        house.engine.gate.clear()
        house.newest._early_stops.append((ThreadKey("screen", "W", "C", "1"), "1"))
        await house.say("tell me everything")
        await house.until(lambda: house.visible() == ["_Stopped._"], 5)
        assert house.engine.heard == []


class CancellingStore(SlowStore):
    """The process is asked to end in the moment a thread is taken."""

    ending: asyncio.Task[None] | None = None

    async def claim(self, thread: ThreadKey) -> tuple[Lease, Turn] | Literal["busy", "empty"]:
        claimed = await super().claim(thread)
        if self.ending is not None:
            self.ending.cancel()
        return claimed


async def test_a_turn_cancelled_before_its_first_step_is_handed_over_too(redis_url: str) -> None:
    store = CancellingStore()
    async with House(redis_url).open() as house:
        store.ending = await house.work(store=store)
        await house.until(lambda: house.newest._turns is not None)
        await house.say("one")
        await asyncio.wait({store.ending}, timeout=5)
        assert not await house.redis.exists(key(ThreadKey("screen", "W", "C", "1"), "lease"))


async def test_more_threads_than_a_worker_holds_wait_their_turn(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        await house.work(capacity=3)
        for number in range(30):
            await house.say(f"m{number}", root=str(number))
        await house.until(lambda: len(house.visible()) == 30)


async def test_stop_is_heard_within_a_second(redis_url: str) -> None:
    async with House(redis_url).open() as house:
        await house.work(lease_seconds=30)
        house.engine.gate.clear()
        await house.say("tell me everything")
        await house.until(lambda: house.visible() == ["…"])
        assert await house.mailroom.stop(ThreadKey("screen", "W", "C", "1"))
        await house.until(lambda: house.visible() == ["…\n\n_Stopped._"], 1)


async def test_a_cluster_carries_bells_leases_and_stops(redis_cluster: Server) -> None:
    await answers_and_stops(House(redis_cluster.url))


async def test_behind_sentinel_bells_leases_and_stops_arrive(redis_sentinel: SentinelSetup) -> None:
    await answers_and_stops(House(redis_sentinel.url))


async def answers_and_stops(closed: House) -> None:
    async with closed.open() as house:
        await house.work(lease_seconds=30)
        await asyncio.gather(*(house.say(f"m{number}", root=str(number)) for number in range(20)))
        await house.until(lambda: len(house.visible()) == 20)
        house.engine.gate.clear()
        await house.say("tell me everything", root="long")
        await house.until(lambda: "…" in house.visible())
        assert await house.mailroom.stop(ThreadKey("screen", "W", "C", "long"))
        await house.until(lambda: "…\n\n_Stopped._" in house.visible(), 1)


async def test_runs_go_on_in_place_while_redis_restarts(redis_faults: Server) -> None:
    async with House(redis_faults.url).open() as house:
        await house.work(lease_seconds=1)
        house.engine.gate.clear()
        for number in range(5):
            await house.say(f"m{number}", root=str(number))
        await house.until(lambda: house.visible() == ["…"] * 5)
        redis_faults.kill()
        await asyncio.sleep(1.5)
        house.engine.gate.set()
        redis_faults.start()
        await house.until(lambda: house.visible() == sorted(f"m{number}" for number in range(5)), 15)
        assert len(house.engine.heard) == 5, "no run was started again"
        await house.say("after", root="9")
        await house.until(lambda: "after" in house.visible(), 15)
