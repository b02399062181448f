"""Every law of the engine on every engine and server there is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.contract.engine_contract import LAWS, World
from tests.contract.engine_worlds import local_world, scripted_world


@pytest.fixture(params=["assistants-on-scripted", "assistants-on-local-api"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[World, None]:
    made = scripted_world() if request.param == "assistants-on-scripted" else local_world(tmp_path)
    async with made as world:
        yield world


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
async def test_law(world: World, law: Callable[[World], Awaitable[None]]) -> None:
    await law(world)
