"""Engines that are wrong in one way each, to prove that the laws bite."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from bot.domain import (
    Assistant,
    EngineFile,
    Event,
    Exchange,
    Input,
    RunEnded,
    RunRef,
    RunStarted,
    Text,
    TextDelta,
    ThreadRef,
    ToolOutput,
)
from bot.engines.assistants import AssistantsEngine
from bot.errors import Ambiguous, Retryable, ThreadBusy
from bot.ports import Engine


class Wrapped:
    """Passes everything on; mutants override what they get wrong."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def name(self) -> str:
        return self._engine.name

    async def create_thread(self, transcript: Sequence[Exchange]) -> ThreadRef:
        return await self._engine.create_thread(transcript)

    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        async with aclosing(self._engine.run(thread, inputs, assistant, turn=turn)) as events:
            async for event in events:
                yield event

    async def resume(self, run: RunRef, outputs: Sequence[ToolOutput] = ()) -> AsyncGenerator[Event, None]:
        async with aclosing(self._engine.resume(run, outputs)) as events:
            async for event in events:
                yield event

    async def cancel(self, run: RunRef) -> None:
        await self._engine.cancel(run)

    async def find_run(self, thread: ThreadRef, *, turn: str) -> RunRef | None:
        return await self._engine.find_run(thread, turn=turn)

    async def upload(self, name: str, media_type: str, content: AsyncIterator[bytes]) -> EngineFile:
        return await self._engine.upload(name, media_type, content)

    def download(self, file: str) -> AsyncGenerator[bytes, None]:
        return self._engine.download(file)

    async def check(self) -> None:
        await self._engine.check()

    async def close(self) -> None:
        await self._engine.close()


class TakesACutForAnEnd(Wrapped):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        assert isinstance(engine, AssistantsEngine)

        async def follow(*_: object) -> AsyncGenerator[Event, None]:
            yield RunEnded("completed")

        engine._streaming.follow = follow  # type: ignore[method-assign, assignment]


class SaysADeltaTwice(Wrapped):
    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        doubled = False
        async for event in super().run(thread, inputs, assistant, turn=turn):
            yield event
            if isinstance(event, TextDelta) and not doubled:
                doubled = True
                yield event


class ForgetsItsRuns(Wrapped):
    async def find_run(self, thread: ThreadRef, *, turn: str) -> RunRef | None:
        return None


class FindsAnyRun(Wrapped):
    """Whatever turn is asked for, the newest run it has seen."""

    _last: RunRef | None = None

    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        async for event in super().run(thread, inputs, assistant, turn=turn):
            if isinstance(event, RunStarted):
                self._last = event.run
            yield event

    async def find_run(self, thread: ThreadRef, *, turn: str) -> RunRef | None:
        return self._last


class HidesThatTheThreadIsBusy(Wrapped):
    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        try:
            async for event in super().run(thread, inputs, assistant, turn=turn):
                yield event
        except ThreadBusy as exc:
            raise Retryable("busy") from exc


class EndsTheRunWhenLeft(Wrapped):
    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        run: RunRef | None = None
        try:
            async for event in super().run(thread, inputs, assistant, turn=turn):
                if isinstance(event, RunStarted):
                    run = event.run
                yield event
        finally:
            if run is not None:
                await self.cancel(run)


class ResumesFromNow(Wrapped):
    """Tells only what is new, as deltas: a second worker would lose the beginning."""

    async def resume(self, run: RunRef, outputs: Sequence[ToolOutput] = ()) -> AsyncGenerator[Event, None]:
        known = ""
        async for event in super().resume(run, outputs):
            if isinstance(event, Text):
                yield TextDelta(event.message, event.text.removeprefix(known))
                known = event.text
            else:
                yield event


class TriesAgainWhenUnsure(Wrapped):
    """A lost answer for a call that did not happen: the run would be made twice."""

    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        try:
            async for event in super().run(thread, inputs, assistant, turn=turn):
                yield event
        except Ambiguous as exc:
            raise Retryable("lost") from exc


class TruncatesLongAnswers(Wrapped):
    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        async for event in super().run(thread, inputs, assistant, turn=turn):
            yield replace(event, text=event.text[:2000]) if isinstance(event, Text) else event
