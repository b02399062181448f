"""What one run does: it thinks, tells its listener, and ends in exactly one way."""

from collections.abc import Callable
from contextlib import aclosing

import structlog

from bot.local import endings, objects
from bot.local.brain import Brain, Finished, Prompt, TextDelta, ToolCallDelta, Usage
from bot.local.endings import Ending
from bot.local.errors import BrainError
from bot.local.live import LiveRun
from bot.local.prompt import read_prompt
from bot.local.store import Store
from bot.local.tx import Gone, Tx
from bot.local.wire import Body, new_id

log = structlog.get_logger()


class Work:
    """Stores every state that is promised, terminal ones before they are told; text is stored when it ends.

    A caller may delete the message being written; its run goes on to its end all the same.
    """

    def __init__(self, live: LiveRun, *, store: Store, brain: Brain, now: Callable[[], int]) -> None:
        self._live = live
        self._store = store
        self._brain = brain
        self._now = now

    async def do(self) -> None:
        """Raises Gone when the thread was deleted meanwhile."""
        live = self._live
        ending = live.verdict if live.stopped else await self._outcome()
        if ending is None and live.stopped:
            ending = live.verdict
        if ending is None:
            await self._wait_for_tools()
        else:
            await self._end(ending)

    async def _outcome(self) -> Ending | None:
        """How the run ends; None when it waits for tool outputs."""
        try:
            async with self._live.scope:
                self._live.thinking = True
                try:
                    return await self._think()
                finally:
                    self._live.thinking = False
        except TimeoutError:
            if self._live.scope.expired():
                return self._live.verdict
            log.exception("local.brain_broke", run=self._live.run["id"])
        except BrainError as exc:
            return endings.failed(exc.code, exc.message)
        except Gone:
            raise
        except Exception:
            log.exception("local.brain_broke", run=self._live.run["id"])
        return endings.failed("server_error", "Something went wrong inside the server. Its log says more.")

    async def _think(self) -> Ending | None:
        prompt = await self._prompt()
        if prompt is None:
            return endings.OUT_OF_TOKENS
        if self._live.stopped:
            return self._live.verdict
        self._live.run = self._live.run | {"status": "in_progress", "started_at": self._now()}
        self._live.tell_run()
        finished = await self._listen(prompt)
        if finished is None:
            raise BrainError("server_error", "The model broke off in the middle of the answer.")
        self._spend(finished.usage)
        match finished.reason:
            case "length":
                return endings.OUT_OF_TOKENS
            case "content_filter":
                return endings.FILTERED
            case "stop":
                return endings.COMPLETED if self._live.tools is None else None

    async def _listen(self, prompt: Prompt) -> Finished | None:
        """None when the brain broke off: an end is only what was told as one."""
        finished: Finished | None = None
        async with aclosing(self._brain.think(prompt)) as deltas:
            async for delta in deltas:
                match delta:
                    case TextDelta(piece):
                        await self._say(piece)
                    case ToolCallDelta():
                        await self._call(delta)
                    case Finished():
                        finished = delta
        return finished

    async def _prompt(self) -> Prompt | None:
        """None when earlier rounds of tool calls have used up `max_completion_tokens`."""
        run = self._live.run
        left = run["max_completion_tokens"]
        if left is not None and self._live.spent is not None:
            left -= self._live.spent["completion_tokens"]
            if left <= 0:
                return None
        return await self._store.read(lambda tx: read_prompt(tx, run | {"max_completion_tokens": left}))

    async def _say(self, piece: str) -> None:
        if self._live.message is not None and self._live.message.open:
            self._live.say(piece)
            return
        # Told before it is stored: the first words wait for no disk, and only terminal states are promises.
        now = self._now()
        body = objects.answer(self._live.run, now=now)
        details = {"type": "message_creation", "message_creation": {"message_id": body["id"]}}
        step = objects.step(self._live.run, details, now=now)
        self._live.open_message(body, step)
        self._live.tell("thread.run.step.created", step)
        self._live.tell("thread.run.step.in_progress", step)
        self._live.tell("thread.message.created", body)
        self._live.tell("thread.message.in_progress", body)
        self._live.say(piece)
        run = self._live.run

        def store(tx: Tx) -> None:
            tx.mark(run)
            tx.insert("message", body, parent=run["thread_id"], tag=run["id"])
            tx.insert("step", step, parent=run["id"])

        await self._store.write(store)

    async def _call(self, delta: ToolCallDelta) -> None:
        if self._live.tools is None:
            await self._open_tools()
        assert self._live.tools is not None
        calls: list[Body] = self._live.tools["step_details"]["tool_calls"]
        change: Body
        if delta.index == len(calls):
            function = {"name": delta.name or "", "arguments": delta.arguments, "output": None}
            calls.append({"id": delta.id or new_id("call_"), "type": "function", "function": function})
            change = {"index": delta.index} | calls[-1]
        else:
            calls[delta.index]["function"]["arguments"] += delta.arguments
            change = {"index": delta.index, "type": "function", "function": {"arguments": delta.arguments}}
        details = {"step_details": {"type": "tool_calls", "tool_calls": [change]}}
        self._live.tell(
            "thread.run.step.delta",
            {"id": self._live.tools["id"], "object": "thread.run.step.delta", "delta": details},
        )

    async def _open_tools(self) -> None:
        """What was said before the calls is complete; then one step holds all parallel calls."""
        closed = self._closed_message(endings.COMPLETED, usage=None)
        self._live.tools = objects.step(
            self._live.run, {"type": "tool_calls", "tool_calls": []}, now=self._now()
        )
        run, step = self._live.run, self._live.tools

        def store(tx: Tx) -> None:
            tx.mark(run)
            for body in closed:
                tx.save_if_there(body)
            tx.insert("step", step, parent=run["id"])

        self._tell_closed(closed)
        if self._live.message is not None and closed:
            self._live.message.body, self._live.message.step = closed
        self._live.tell("thread.run.step.created", step)
        self._live.tell("thread.run.step.in_progress", step)
        await self._store.write(store)

    async def _wait_for_tools(self) -> None:
        assert self._live.tools is not None
        spent = self._live.spent
        # The step completes when its outputs come, maybe in another process; its usage is known only here.
        tools = self._live.tools | {"usage": self._live.spent_now}
        asked = [
            {
                "id": call["id"],
                "type": "function",
                "function": {key: call["function"][key] for key in ("name", "arguments")},
            }
            for call in tools["step_details"]["tool_calls"]
        ]
        action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": asked}}
        self._live.settling = True
        run = self._live.run | {"status": "requires_action", "required_action": action}
        closed = self._closed_message(endings.COMPLETED, usage=None)

        def store(tx: Tx) -> None:
            tx.mark(run, spent=spent)
            tx.save_if_there(tools)
            for body in closed:
                tx.save_if_there(body)

        await self._store.write(store)
        self._live.run = run
        self._tell_closed(closed)
        self._live.tell_run()

    async def _end(self, ending: Ending) -> None:
        now = self._now()
        self._live.settling = True
        closed = self._closed_message(ending, usage=self._live.spent_now)
        if self._live.tools is not None:
            closed.append(endings.end_step(self._live.tools, ending, usage=self._live.spent_now, now=now))
        run = endings.end_run(self._live.run, ending, usage=self._live.spent, now=now)

        def store(tx: Tx) -> None:
            tx.mark(run)
            tx.release(run["thread_id"])
            for body in closed:
                tx.save_if_there(body)

        await self._store.write(store)
        self._live.run = run
        self._tell_closed(closed)
        self._live.tell_run()
        fields = {"run": run["id"], "thread": run["thread_id"], "status": run["status"]}
        if ending.error is None:
            log.debug("local.run_ended", **fields)
        else:
            log.warning("local.run_failed", code=ending.error[0], **fields)

    def _closed_message(self, ending: Ending, *, usage: Body | None) -> list[Body]:
        """The open message and its step as they end; nothing when none is open."""
        if self._live.message is None or not self._live.message.open:
            return []
        now = self._now()
        return [
            endings.end_message(self._live.message.current(), ending, now=now),
            endings.end_step(self._live.message.step, ending, usage=usage, now=now),
        ]

    def _tell_closed(self, closed: list[Body]) -> None:
        for body in closed:
            self._live.tell(f"{body['object']}.{body['status']}", body)

    def _spend(self, usage: Usage | None) -> None:
        if usage is None:
            return
        self._live.spent_now = _sum(None, usage)
        self._live.spent = _sum(self._live.spent, usage)


def _sum(before: Body | None, usage: Usage) -> Body:
    prompt = usage.prompt_tokens + (before["prompt_tokens"] if before else 0)
    completion = usage.completion_tokens + (before["completion_tokens"] if before else 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
