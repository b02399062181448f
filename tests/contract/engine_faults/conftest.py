"""A scripted server, an engine on it, and a thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from bot.domain import (
    ThreadRef,
)
from bot.engines.assistants import AssistantsEngine
from bot.ports import Engine
from tests.contract.engine_worlds import KEY, engine_on
from tests.fakes.engine import (
    ScriptedEngine,
)


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedEngine, None]:
    async with ScriptedEngine(key=KEY) as server:
        yield server


@pytest.fixture
async def engine(server: ScriptedEngine) -> AsyncGenerator[AssistantsEngine, None]:
    engine = engine_on(server.base_url)
    yield engine
    await engine.close()


@pytest.fixture
async def thread(engine: Engine) -> ThreadRef:
    return await engine.create_thread([])
