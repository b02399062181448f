"""The authoritative state of a run: asked for after a cut, by a worker that takes over, and until a cancel is done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from openai import AsyncOpenAI

from bot.domain import Event, RunRef
from bot.engines.errors import translated
from bot.engines.reply import TERMINAL, Reply
from bot.errors import Ambiguous, Rejected, Retryable, ThreadGone

Body = dict[str, Any]

_SHORTEST_WAIT, _FIRST_WAIT, _LONGEST_WAIT = 0.05, 0.25, 1.0  # seconds
_GROWTH = 1.5
_CANCEL_SECONDS = 10.0
_PAGES = 5  # of 100 messages or steps of one run, or runs of one thread


class Polling:
    """`patience`: seconds of an unreachable server before the run's fate is called unknown."""

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        patience: float,
    ) -> None:
        runs = client.beta.threads.runs
        self._runs = runs.with_raw_response
        self._steps = runs.steps.with_raw_response
        self._messages = client.beta.threads.messages.with_raw_response
        self._clock = clock
        self._sleep = sleep
        self._patience = patience

    async def follow(self, reply: Reply, run: RunRef) -> AsyncGenerator[Event, None]:
        """Texts as they change, tools as they come, and the end. Raises Ambiguous when the server stays away."""
        wait, heard = _FIRST_WAIT, self._clock()
        while True:
            pause: float | None = None
            try:
                state, pause = await self.retrieve(run)
                news = await self.snapshot(reply, run)
            except Retryable as exc:
                if self._clock() - heard > self._patience:
                    raise Ambiguous(f"The engine stays away; its run {run.id} may go on.") from exc
                pause = exc.retry_after
            else:
                heard = self._clock()
                for event in news:
                    yield event
                for event in reply.state(state):
                    yield event
                if reply.ended:
                    return
            await self._sleep(wait if pause is None else min(pause, self._patience))
            wait = min(wait * _GROWTH, _LONGEST_WAIT)

    async def retrieve(self, run: RunRef) -> tuple[Body, float | None]:
        """The run and the server's wish for the next look, in seconds."""
        with translated():
            answer = await self._runs.retrieve(run.id, thread_id=run.thread)
            state: Body = answer.http_response.json()
        after = answer.headers.get("openai-poll-after-ms", "")
        return state, max(int(after) / 1000, _SHORTEST_WAIT) if after.isdecimal() else None

    async def snapshot(self, reply: Reply, run: RunRef) -> list[Event]:
        """What the reply does not know yet of the run's messages, unfinished ones too, and steps."""
        steps = await self._all(lambda after: self._steps.list(run.id, thread_id=run.thread, **after))
        messages = await self._all(lambda after: self._messages.list(run.thread, run_id=run.id, **after))
        return [
            *(event for message in messages for event in reply.message(message)),
            *(event for step in steps for event in reply.step(step)),
        ]

    async def find(self, thread: str, key: str, value: str) -> RunRef | None:
        """Newest run with this metadata."""
        after: Body = {}
        for _ in range(_PAGES):
            with translated():
                page = (await self._runs.list(thread, limit=100, order="desc", **after)).http_response.json()
            for run in page.get("data") or ():
                if (run.get("metadata") or {}).get(key) == value:
                    return RunRef(thread, run["id"])
            if not page.get("has_more") or not page.get("data"):
                break
            after = {"after": page["data"][-1]["id"]}
        return None

    async def cancel(self, run: RunRef) -> None:
        """Return when the run is terminal or gone; Retryable when that takes too long."""
        deadline, wait, asked = self._clock() + _CANCEL_SECONDS, _SHORTEST_WAIT, False
        while True:
            state: Body = {}
            try:
                if asked:
                    state, _ = await self.retrieve(run)
                else:
                    with translated():
                        state = (await self._runs.cancel(run.id, thread_id=run.thread)).http_response.json()
                    asked = True
            except ThreadGone:
                return
            except Rejected:
                if asked:
                    raise
                asked = True  # ended already, or ending: look
                continue
            except Retryable:
                pass
            if state.get("status") in TERMINAL:
                return
            if self._clock() >= deadline:
                raise Retryable(f"The run {run.id} does not end though it was cancelled.")
            await self._sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _all(self, ask: Callable[[Body], Awaitable[Any]]) -> list[Body]:
        found: list[Body] = []
        after: Body = {}
        for _ in range(_PAGES):
            with translated():
                page = (await ask({"limit": 100, "order": "asc", **after})).http_response.json()
            found += page.get("data") or ()
            if not page.get("has_more") or not page.get("data"):
                break
            after = {"after": page["data"][-1]["id"]}
        return found
