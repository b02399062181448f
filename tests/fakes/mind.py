"""An Engine in memory that plays what a test wrote: for laws of the conversation that need exact control."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field

from bot.domain import (
    Assistant,
    EngineFile,
    Event,
    Exchange,
    Input,
    RunEnded,
    RunRef,
    RunStarted,
    TextDelta,
    ThreadRef,
    ToolOutput,
)
from bot.errors import Retryable

Step = Event | Exception | asyncio.Event
"""Of a script: an event to emit, an error to raise, a gate to wait at."""


def says(text: str, run: str = "run_1", thread: str = "thread_1") -> list[Step]:
    words = [TextDelta("m1", word) for word in text.split(" ")]
    spaced: list[Step] = [TextDelta("m1", f" {word.text}") if at else word for at, word in enumerate(words)]
    return [RunStarted(RunRef(thread, run)), *spaced, RunEnded("completed")]


@dataclass
class Mind:
    """`runs` and `resumes` are played in order, one a call; `found` answers find_run."""

    runs: deque[list[Step]] = field(default_factory=deque)
    resumes: deque[list[Step]] = field(default_factory=deque)
    found: RunRef | None = None
    name: str = "mind"
    calls: list[str] = field(default_factory=list)
    heard: list[tuple[Input, ...]] = field(default_factory=list)
    told: list[tuple[Exchange, ...]] = field(default_factory=list)
    outputs: list[tuple[ToolOutput, ...]] = field(default_factory=list)
    cancelled: list[RunRef] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    lost_files: bool = False

    async def create_thread(self, transcript: Sequence[Exchange]) -> ThreadRef:
        self.calls.append("create_thread")
        self.told.append(tuple(transcript))
        return ThreadRef(self.name, f"thread_{len(self.told)}")

    async def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        self.calls.append("run")
        self.heard.append(tuple(inputs))
        async for event in self._play(self.runs.popleft()):
            yield event

    async def resume(self, run: RunRef, outputs: Sequence[ToolOutput] = ()) -> AsyncGenerator[Event, None]:
        self.calls.append(f"resume {run.id}")
        self.outputs.append(tuple(outputs))
        async for event in self._play(self.resumes.popleft()):
            yield event

    async def cancel(self, run: RunRef) -> None:
        self.calls.append(f"cancel {run.id}")
        self.cancelled.append(run)

    async def find_run(self, thread: ThreadRef, *, turn: str) -> RunRef | None:
        self.calls.append("find_run")
        return self.found

    async def upload(self, name: str, media_type: str, content: AsyncIterator[bytes]) -> EngineFile:
        self.calls.append(f"upload {name}")
        self.uploads.append(b"".join([chunk async for chunk in content]).decode())
        return EngineFile(f"file_{name}", name, media_type)

    async def download(self, file: str) -> AsyncGenerator[bytes, None]:
        if self.lost_files:
            raise Retryable("the engine is away")
        yield self.files[file]

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def _play(self, script: list[Step]) -> AsyncGenerator[Event, None]:
        for step in script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield step
                await asyncio.sleep(0)
