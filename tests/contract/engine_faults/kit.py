"""What the tests of the engine's faults share: the scripted server, an engine on it, and a thread."""

from __future__ import annotations

from bot.domain import (
    Assistant,
    Event,
    Input,
    RunEnded,
    ThreadRef,
)
from bot.ports import Engine
from tests.contract.engine_contract import ASSISTANT, told
from tests.fakes.engine import (
    ScriptedEngine,
)

RUNS = r"/runs$"


async def said(engine: Engine, thread: ThreadRef, *, assistant: Assistant = ASSISTANT) -> list[Event]:
    return await told(engine.run(thread, [Input("Hi")], assistant, turn="1"))


def outcome(events: list[Event]) -> str:
    assert isinstance(events[-1], RunEnded)
    return events[-1].outcome


def created(server: ScriptedEngine) -> int:
    """How often a run was asked for."""
    return sum(method == "POST" and path.endswith("/runs") for method, path in server.calls)
