"""Runs as tasks of their own: each thinks, tells its listener, and ends in exactly one way.

States (openai.md names the sources):
    queued -> in_progress -> completed | incomplete | failed | expired | requires_action | cancelling
    requires_action -> queued (tool outputs) | expired | cancelled;  cancelling -> cancelled
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import structlog

from bot.local import endings, objects
from bot.local.brain import Brain, Finished, Prompt, TextDelta, ToolCallDelta, Usage
from bot.local.endings import Ending
from bot.local.errors import ApiError, BrainError, bad_request, not_found
from bot.local.live import LiveRun, Outbox
from bot.local.prompt import read_prompt
from bot.local.recovery import end_in_store, expire_overdue, recover
from bot.local.store import Store
from bot.local.tx import Gone, Tx
from bot.local.wire import Body, frame, new_id

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

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, live: LiveRun) -> None:
        try:
            ending = live.verdict if live.stopped else await self._work(live)
            if ending is None:
                await self._wait_for_tools(live)
            else:
                await self._end(live, ending)
        except Gone:
            log.info("local.run_forgotten", run=live.run["id"])
        except Exception:
            # The disk failed: the run stays active in the database and is ended by the next start.
            log.exception("local.run_unsaved", run=live.run["id"])
        finally:
            if self._live.get(live.run["thread_id"]) is live:
                del self._live[live.run["thread_id"]]
            live.close()

    async def _work(self, live: LiveRun) -> Ending | None:
        """How the run ended; None when it waits for tool outputs."""
        try:
            async with live.scope:
                live.thinking = True
                try:
                    return await self._think(live)
                finally:
                    live.thinking = False
        except TimeoutError:
            if live.scope.expired():
                return live.verdict
            log.exception("local.brain_broke", run=live.run["id"])
        except BrainError as exc:
            return endings.failed(exc.code, exc.message)
        except Gone:
            raise
        except Exception:
            log.exception("local.brain_broke", run=live.run["id"])
        return endings.failed("server_error", "Something went wrong inside the server. Its log says more.")

    async def _think(self, live: LiveRun) -> Ending | None:
        prompt = await self._prompt(live)
        if prompt is None:
            return endings.OUT_OF_TOKENS
        if live.stopped:
            return live.verdict
        live.run = live.run | {"status": "in_progress", "started_at": self.now()}
        live.tell_run()
        finished = await self._listen(live, prompt)
        if finished is None:
            raise BrainError("server_error", "The model broke off in the middle of the answer.")
        _spend(live, finished.usage)
        match finished.reason:
            case "length":
                return endings.OUT_OF_TOKENS
            case "content_filter":
                return endings.FILTERED
            case "stop":
                return endings.COMPLETED if live.tools is None else None

    async def _listen(self, live: LiveRun, prompt: Prompt) -> Finished | None:
        """None when the brain broke off: an end is only what was told as one."""
        finished: Finished | None = None
        async with aclosing(self._brain.think(prompt)) as deltas:
            async for delta in deltas:
                match delta:
                    case TextDelta(piece):
                        await self._say(live, piece)
                    case ToolCallDelta():
                        await self._call(live, delta)
                    case Finished():
                        finished = delta
        return finished

    async def _prompt(self, live: LiveRun) -> Prompt | None:
        """None when earlier rounds of tool calls have used up `max_completion_tokens`."""
        run = live.run
        left = run["max_completion_tokens"]
        if left is not None and live.spent is not None:
            left -= live.spent["completion_tokens"]
            if left <= 0:
                return None
        return await self._store.read(lambda tx: read_prompt(tx, run | {"max_completion_tokens": left}))

    async def _say(self, live: LiveRun, piece: str) -> None:
        if live.message is not None and live.message.open:
            live.say(piece)
            return
        # Told before it is stored: the first words wait for no disk, and only terminal states are promises.
        now = self.now()
        body = objects.answer(live.run, now=now)
        details = {"type": "message_creation", "message_creation": {"message_id": body["id"]}}
        step = objects.step(live.run, details, now=now)
        live.open_message(body, step)
        live.tell("thread.run.step.created", step)
        live.tell("thread.run.step.in_progress", step)
        live.tell("thread.message.created", body)
        live.tell("thread.message.in_progress", body)
        live.say(piece)
        run = live.run

        def store(tx: Tx) -> None:
            tx.mark(run)
            tx.insert("message", body, parent=run["thread_id"], tag=run["id"])
            tx.insert("step", step, parent=run["id"])

        await self._store.write(store)

    async def _call(self, live: LiveRun, delta: ToolCallDelta) -> None:
        if live.tools is None:
            await self._open_tools(live)
        assert live.tools is not None  # noqa: S101  opened above
        calls: list[Body] = live.tools["step_details"]["tool_calls"]
        change: Body
        if delta.index == len(calls):
            function = {"name": delta.name or "", "arguments": delta.arguments, "output": None}
            calls.append({"id": delta.id or new_id("call_"), "type": "function", "function": function})
            change = {"index": delta.index} | calls[-1]
        else:
            calls[delta.index]["function"]["arguments"] += delta.arguments
            change = {"index": delta.index, "type": "function", "function": {"arguments": delta.arguments}}
        details = {"step_details": {"type": "tool_calls", "tool_calls": [change]}}
        live.tell(
            "thread.run.step.delta",
            {"id": live.tools["id"], "object": "thread.run.step.delta", "delta": details},
        )

    async def _open_tools(self, live: LiveRun) -> None:
        """What was said before the calls is complete; then one step holds all parallel calls."""
        closed = self._closed_message(live, endings.COMPLETED, usage=None)
        live.tools = objects.step(live.run, {"type": "tool_calls", "tool_calls": []}, now=self.now())
        run, step = live.run, live.tools

        def store(tx: Tx) -> None:
            tx.mark(run)
            for body in closed:
                tx.save(body)
            tx.insert("step", step, parent=run["id"])

        _tell_closed(live, closed)
        if live.message is not None and closed:
            live.message.body, live.message.step = closed
        live.tell("thread.run.step.created", step)
        live.tell("thread.run.step.in_progress", step)
        await self._store.write(store)

    async def _wait_for_tools(self, live: LiveRun) -> None:
        assert live.tools is not None  # noqa: S101  the reason for waiting
        tools, spent = live.tools, live.spent
        asked = [
            {
                "id": call["id"],
                "type": "function",
                "function": {key: call["function"][key] for key in ("name", "arguments")},
            }
            for call in tools["step_details"]["tool_calls"]
        ]
        action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": asked}}
        live.settling = True
        run = live.run | {"status": "requires_action", "required_action": action}
        closed = self._closed_message(live, endings.COMPLETED, usage=None)

        def store(tx: Tx) -> None:
            tx.mark(run, spent=spent)
            tx.save(tools)
            for body in closed:
                tx.save(body)

        await self._store.write(store)
        live.run = run
        _tell_closed(live, closed)
        live.tell_run()

    async def _end(self, live: LiveRun, ending: Ending) -> None:
        now = self.now()
        live.settling = True
        closed = self._closed_message(live, ending, usage=live.spent)
        if live.tools is not None:
            closed.append(endings.end_step(live.tools, ending, usage=live.spent, now=now))
        run = endings.end_run(live.run, ending, usage=live.spent, now=now)

        def store(tx: Tx) -> None:
            tx.mark(run)
            tx.release(run["thread_id"])
            for body in closed:
                tx.save(body)

        await self._store.write(store)
        live.run = run
        _tell_closed(live, closed)
        live.tell_run()
        fields = {"run": run["id"], "thread": run["thread_id"], "status": run["status"]}
        if ending.error is None:
            log.debug("local.run_ended", **fields)
        else:
            log.warning("local.run_failed", code=ending.error[0], **fields)

    def _closed_message(self, live: LiveRun, ending: Ending, *, usage: Body | None) -> list[Body]:
        """The open message and its step as they end; nothing when none is open."""
        if live.message is None or not live.message.open:
            return []
        now = self.now()
        return [
            endings.end_message(live.message.current(), ending, now=now),
            endings.end_step(live.message.step, ending, usage=usage, now=now),
        ]

    async def _reap(self) -> None:
        """Runs at work expire by their own clock; this ends those that wait for tool outputs too long."""
        while True:
            await asyncio.sleep(min(1.0, self._run_seconds / 4))
            try:
                if await self._store.read(self._count_overdue):
                    await self._store.write(self._expire_overdue)
            except Exception:
                log.exception("local.reaper_failed")

    def _count_overdue(self, tx: Tx) -> int:
        return expire_overdue(tx, now=self.clock(), dry=True)

    def _expire_overdue(self, tx: Tx) -> int:
        return expire_overdue(tx, now=self.clock())


def _tell_closed(live: LiveRun, closed: list[Body]) -> None:
    for body in closed:
        live.tell(f"{body['object']}.{body['status']}", body)


def _spend(live: LiveRun, usage: Usage | None) -> None:
    if usage is None:
        return
    before = live.spent or {"prompt_tokens": 0, "completion_tokens": 0}
    prompt = before["prompt_tokens"] + usage.prompt_tokens
    completion = before["completion_tokens"] + usage.completion_tokens
    live.spent = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _cannot_cancel(run: Body) -> ApiError:
    return bad_request(f"Cannot cancel run with status '{run['status']}'.")
