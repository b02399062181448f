"""The Assistants v2 engine: any server that speaks the protocol, the embedded one first of all.

The hosted Assistants API ended on 2026-08-26 (https://developers.openai.com/api/docs/deprecations); the protocol and
its client in the openai SDK live on.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from openai import AsyncOpenAI, AsyncStream

from bot.domain import Assistant, EngineFile, Event, Exchange, Input, RunRef, ThreadRef, ToolOutput
from bot.engines import inputs as wire
from bot.engines.definitions import Definitions
from bot.engines.errors import AssistantGone, not_assistants, translated
from bot.engines.files import Files
from bot.engines.polling import Polling
from bot.engines.pools import Pools
from bot.engines.probe import probe
from bot.engines.reply import Reply
from bot.engines.streaming import Streaming
from bot.errors import Ambiguous, Rejected, ThreadGone

_BETA = {"OpenAI-Beta": "assistants=v2"}
TURN = "threadbot_turn"  # metadata key of a run


class AssistantsEngine:
    """An `Engine`. `uds`: unix socket of a server on this machine; `base_url` then only names the path (`/v1`).

    `stall_seconds` without an event make it ask for the run's state instead of waiting on. The SDK retries nothing:
    a call that creates something must not happen twice, and all other waiting belongs to the caller.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        model: str | None = None,
        uds: Path | None = None,
        connections: int = 4096,
        stall_seconds: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        _accept_deprecation()
        self._where = str(uds or base_url)
        self.name = f"assistants@{self._where}"
        self._model = model
        self._pools = Pools(connections, tls=base_url.startswith("https:"), uds=uds)
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key,
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=self._pools),
            timeout=httpx2.Timeout(30.0, connect=5.0),
        )
        self._definitions = Definitions(self._client, model, self._where)
        self._files = Files(self._client)
        self._polling = Polling(self._client, clock=clock, sleep=sleep, patience=stall_seconds)
        self._streaming = Streaming(self._polling, self._files, clock=clock, stall_seconds=stall_seconds)
        self._stream_timeout = httpx2.Timeout(stall_seconds, connect=5.0)

    async def create_thread(self, transcript: Sequence[Exchange]) -> ThreadRef:
        messages: Any = wire.remembered(transcript)
        try:
            # A thread whose answer was lost is a thread nobody names: no ambiguity to tell.
            with translated():
                made = await self._client.beta.threads.create(messages=messages)
        except (ThreadGone, AssistantGone) as exc:
            raise not_assistants(self._where) from exc
        if not isinstance(getattr(made, "id", None), str):  # the SDK passes on what is not JSON as text
            raise not_assistants(self._where)
        return ThreadRef(self.name, made.id)

    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        messages: Any = wire.said(inputs, assistant.tools)
        for last_try in (False, True):
            reply = Reply(thread.id)
            request = self._streamed(
                f"/threads/{quote(thread.id, safe='')}/runs",
                assistant_id=await self._definitions.id(assistant),
                additional_messages=messages,
                metadata={TURN: turn},
            )
            try:
                async with aclosing(self._streaming.play(request, reply)) as events:
                    async for event in events:
                        yield event
                return
            except AssistantGone:
                self._definitions.forget(assistant)
                if last_try or reply.run is not None:
                    raise

    async def resume(self, run: RunRef, outputs: Sequence[ToolOutput] = ()) -> AsyncGenerator[Event, None]:
        reply = Reply(run.thread, run)
        if outputs:
            for event in await self._polling.snapshot(reply, run):
                yield await self._files.named(event)
            request = self._streamed(
                f"/threads/{quote(run.thread, safe='')}/runs/{quote(run.id, safe='')}/submit_tool_outputs",
                tool_outputs=[{"tool_call_id": one.call, "output": one.output} for one in outputs],
            )
            try:
                async with aclosing(self._streaming.play(request, reply)) as events:
                    async for event in events:
                        yield event
                return
            except Ambiguous:
                pass  # did the outputs arrive? The run's state tells.
            except Rejected:
                # Somebody else gave the outputs, or the run expired meanwhile: then its state is the answer.
                state, _ = await self._polling.retrieve(run)
                if state.get("status") == "requires_action":
                    raise
        async with aclosing(self._streaming.follow(reply, run)) as events:
            async for event in events:
                yield event

    async def cancel(self, run: RunRef) -> None:
        await self._polling.cancel(run)

    async def find_run(self, thread: ThreadRef, *, turn: str) -> RunRef | None:
        return await self._polling.find(thread.id, TURN, turn)

    async def upload(self, name: str, media_type: str, content: AsyncIterator[bytes]) -> EngineFile:
        return await self._files.upload(name, media_type, content)

    def download(self, file: str) -> AsyncGenerator[bytes, None]:
        return self._files.download(file)

    async def check(self) -> None:
        await probe(self._client, self._where, self._model)

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _streamed(self, path: str, **body: Any) -> AsyncIterator[httpx2.Response]:
        """A call that answers with events, not yet read. The SDK's generic `post` sends what is given as it is; its
        method for each call walks the body along its types first, a third of the CPU of the whole request.
        """
        stream = await self._client.post(
            path,
            cast_to=object,
            body=body | {"stream": True},
            options={"headers": _BETA, "timeout": self._stream_timeout},
            stream=True,
            stream_cls=AsyncStream[Any],
        )
        try:
            yield stream.response
        finally:
            await stream.close()


def _accept_deprecation() -> None:
    """The SDK warns on every call of this protocol, from inside its own files, so only the message can be matched."""
    warnings.filterwarnings("ignore", message="The Assistants API is deprecated", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="^deprecated$", category=DeprecationWarning)
