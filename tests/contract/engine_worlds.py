"""Worlds for the engine's laws: the Assistants engine on the scripted server, and on our own local API."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from bot.engines.assistants import AssistantsEngine
from bot.local.brain import Delta, Finished, Prompt, TextDelta, ToolCallDelta, Usage
from bot.local.server import LocalApi, serve
from bot.ports import Engine
from tests.contract.engine_contract import Answer, Heard
from tests.fakes.engine import Call, Say, Script, ScriptedEngine, Wait
from tests.fakes.engine.state import text_of
from tests.fakes.wire_cutter import WireCutter

KEY = "the-right-key"
GATE = "gate"


async def quick_sleep(seconds: float) -> None:
    """Waits between polls, a hundredth as long."""
    await asyncio.sleep(seconds / 100)


def engine_on(url: str, key: str = KEY) -> AssistantsEngine:
    return AssistantsEngine(base_url=url, api_key=key, model="scripted", sleep=quick_sleep)


class ScriptedWorld:
    def __init__(self, server: ScriptedEngine, wire: WireCutter) -> None:
        self.server = server
        self.engine: Engine = engine_on(wire.url)
        self._wire = wire
        server.default = Script(reply="All is well.")

    def answer(self, answer: Answer) -> None:
        first, *rest = answer.chunks
        self.server.script(
            Script(
                (
                    *([Call(answer.calls)] if answer.calls else []),
                    Say(first),
                    *([Wait(GATE)] if answer.gate else []),
                    *(Say(chunk) for chunk in rest),
                )
            )
        )

    def open_gate(self) -> None:
        self.server.open(GATE)

    def heard(self) -> Heard:
        *_, thread = (t for t in self.server.threads.values() if t.runs)
        run = thread.runs[-1]
        before = [m for m in thread.messages if m["run_id"] != run.id]
        return Heard(run.body["instructions"], tuple((m["role"], text_of(m)) for m in before))

    async def forget(self, thread: str) -> None:
        self.server.forget_thread(thread)

    def cut(self) -> None:
        self._wire.cut()

    def swallow_next_answer(self) -> None:
        self._wire.swallow_next_answer()

    async def down(self) -> None:
        await self._wire.down()

    def stranger(self) -> Engine:
        return engine_on(self._wire.url, "a-wrong-key")


@asynccontextmanager
async def scripted_world() -> AsyncGenerator[ScriptedWorld, None]:
    async with ScriptedEngine(key=KEY) as server, WireCutter(server.base_url) as wire:
        world = ScriptedWorld(server, wire)
        engine = world.engine
        try:
            yield world
        finally:
            await engine.close()


class ScriptedBrain:
    """Thinks what the world was told to; `All is well.` otherwise."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.prompts: list[Prompt] = []
        self.gate = asyncio.Event()
        self._pending: Answer | None = None

    async def think(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        self.prompts.append(prompt)
        answer, self._pending = self._pending or (self.answers.popleft() if self.answers else Answer()), None
        asked_before = bool(prompt.turns and prompt.turns[-1].calls)
        if answer.calls and not asked_before:
            self._pending = answer
            for index, (name, arguments) in enumerate(answer.calls):
                yield ToolCallDelta(index, arguments, id=f"call_{len(self.prompts)}_{index}", name=name)
        else:
            for index, chunk in enumerate(answer.chunks):
                yield TextDelta(chunk)
                if answer.gate and index == 0:
                    await self.gate.wait()
        yield Finished("stop", Usage(5, 7))

    async def models(self) -> list[str]:
        return ["scripted"]

    async def close(self) -> None:
        pass


class LocalWorld:
    def __init__(self, brain: ScriptedBrain, url: str, wire: WireCutter) -> None:
        self.engine: Engine = engine_on(wire.url)
        self._brain = brain
        self._url = url
        self._wire = wire

    def answer(self, answer: Answer) -> None:
        self._brain.answers.append(answer)

    def open_gate(self) -> None:
        self._brain.gate.set()

    def heard(self) -> Heard:
        prompt = self._brain.prompts[-1]
        return Heard(prompt.instructions, tuple((turn.role, turn.text) for turn in prompt.turns))

    async def forget(self, thread: str) -> None:
        async with httpx2.AsyncClient() as client:
            answer = await client.delete(
                f"{self._url}/threads/{thread}", headers={"Authorization": f"Bearer {KEY}"}
            )
            answer.raise_for_status()

    def cut(self) -> None:
        self._wire.cut()

    def swallow_next_answer(self) -> None:
        self._wire.swallow_next_answer()

    async def down(self) -> None:
        await self._wire.down()

    def stranger(self) -> Engine:
        return engine_on(self._wire.url, "a-wrong-key")


@asynccontextmanager
async def local_world(data: Path) -> AsyncGenerator[LocalWorld, None]:
    brain = ScriptedBrain()
    api = LocalApi(data=data, brain=brain, keys=frozenset({KEY}))
    async with serve(api, host="127.0.0.1", port=0) as url, WireCutter(url) as wire:
        world = LocalWorld(brain, url, wire)
        engine = world.engine
        try:
            yield world
        finally:
            brain.gate.set()
            await engine.close()
