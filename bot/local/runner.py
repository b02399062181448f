"""Runs as tasks of their own, which no client ends by going away.

States (openai.md names the sources):
    queued -> in_progress -> completed | incomplete | failed | expired | requires_action | cancelling
    requires_action -> queued (tool outputs) | expired | cancelled;  cancelling -> cancelled
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from functools import partial

import structlog

from bot.local import endings
from bot.local.brain import Brain
from bot.local.errors import ApiError, bad_request, not_found
from bot.local.live import LiveRun, Outbox
from bot.local.recovery import end_in_store, expire_overdue, recover
from bot.local.store import Store
from bot.local.tx import Gone, Tx
from bot.local.wire import Body, frame
from bot.local.work import Work

log = structlog.get_logger()


class Runner:
    """Owns the tasks of all runs between `open` and `close`."""

    def __init__(self, *, store: Store, brain: Brain, run_seconds: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._brain = brain
        self._run_seconds = run_seconds
        self.clock = clock
        self._live: dict[str, LiveRun] = {}  # by thread: it has one active run at most
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def open(self) -> None:
        ended = await self._store.write(lambda tx: recover(tx, now=self.now()))
        if ended:
            log.info("local.recovered", runs=ended)
        self._spawn(self._reap())

    async def drain(self) -> None:
        """Ends every run at work as restarted, keeping its text; new ones end the same way."""
        self._draining = True
        for live in list(self._live.values()):
            live.stop(endings.RESTARTED)
        for live in list(self._live.values()):
            await live.ended.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def now(self) -> int:
        return int(self.clock())

    def deadline(self) -> tuple[float, int]:
        """When a run created now expires: exactly, and as the protocol's whole second."""
        exact = self.clock() + self._run_seconds
        return exact, math.ceil(exact)

    def on_thread(self, thread_id: str) -> LiveRun | None:
        """Ask before reading the database: what is in memory is at least as new as what is read after."""
        return self._live.get(thread_id)

    def start(self, run: Body, *, deadline: float, stream: bool, prelude: bytes = b"") -> LiveRun:
        """Begins to work on a run just claimed."""
        live = self._begin(run, deadline=deadline, stream=stream, prelude=prelude)
        live.tell("thread.run.created", run)
        live.tell_run()
        return live

    def resume(self, run: Body, step: Body, *, deadline: float, spent: Body | None, stream: bool) -> LiveRun:
        """Goes on after tool outputs, of which `step` is the record."""
        prelude = frame("thread.run.step.completed", step)
        live = self._begin(run, deadline=deadline, stream=stream, prelude=prelude, spent=spent)
        live.tell_run()
        return live

    async def cancel(self, thread_id: str, run_id: str) -> Body:
        """A run at work is `cancelling` and ends within moments; one that waits is cancelled when this returns."""
        live = self._live.get(thread_id)
        if live is not None and live.settling:
            await live.ended.wait()
            live = None
        if live is None or live.run["id"] != run_id:
            return await self._store.write(lambda tx: self._cancel_waiting(tx, thread_id, run_id))
        if live.stopped:
            raise _cannot_cancel(live.run)
        live.run = live.run | {"status": "cancelling"}
        answer = live.run
        live.tell_run()
        live.stop(endings.CANCELLED)
        try:
            await self._store.write(lambda tx: tx.mark(answer))
        except Gone:  # the thread was deleted meanwhile
            raise not_found("run", run_id) from None
        return answer

    def forget(self, thread_id: str) -> None:
        """The thread was deleted: its run stops and can write nothing more."""
        live = self._live.get(thread_id)
        if live is not None:
            live.stop(endings.CANCELLED)

    def _cancel_waiting(self, tx: Tx, thread_id: str, run_id: str) -> Body:
        run = tx.need("run", run_id, parent=thread_id)
        if run["status"] != "requires_action":
            raise _cannot_cancel(run)
        return end_in_store(tx, run, endings.CANCELLED, now=self.now())

    def _begin(
        self, run: Body, *, deadline: float, stream: bool, prelude: bytes, spent: Body | None = None
    ) -> LiveRun:
        remaining = max(0.0, deadline - self.clock())
        scope = asyncio.timeout_at(asyncio.get_running_loop().time() + remaining)
        live = LiveRun(run, scope, Outbox() if stream else None, spent)
        if live.outbox is not None and prelude:
            live.outbox.put(prelude)
        self._live[run["thread_id"]] = live
        if self._draining:
            live.stop(endings.RESTARTED)
        self._spawn(self._execute(live))
        return live

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, live: LiveRun) -> None:
        try:
            await Work(live, store=self._store, brain=self._brain, now=self.now).do()
        except Gone:
            log.info("local.run_forgotten", run=live.run["id"])
        except Exception:
            # The disk failed: the run stays active in the database until the reaper can end it.
            log.exception("local.run_unsaved", run=live.run["id"])
        finally:
            if self._live.get(live.run["thread_id"]) is live:
                del self._live[live.run["thread_id"]]
            live.close()

    async def _reap(self) -> None:
        """Runs at work expire by their own clock; this ends those that nobody works on."""
        while True:
            await asyncio.sleep(min(1.0, self._run_seconds / 4))
            try:
                overdue = partial(expire_overdue, now=self.clock(), but=frozenset(self._live))
                if await self._store.read(partial(overdue, dry=True)):
                    await self._store.write(overdue)
            except Exception:
                log.exception("local.reaper_failed")


def _cannot_cancel(run: Body) -> ApiError:
    return bad_request(f"Cannot cancel run with status '{run['status']}'.")
