"""How the engine uses connections: few when it is quiet, as many as it takes when it is busy, a socket path too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.domain import RunEnded
from bot.engines.assistants import AssistantsEngine
from bot.local.server import LocalApi, serve
from tests.contract.engine_contract import texts
from tests.contract.engine_faults.kit import said
from tests.contract.engine_worlds import ScriptedBrain
from tests.fakes.engine import Raw, Say, Script, ScriptedEngine, Wait


async def test_a_quiet_house_uses_one_connection(server: ScriptedEngine, engine: AssistantsEngine) -> None:
    thread = await engine.create_thread([])
    for _ in range(10):
        await said(engine, thread)
    assert len(server.peers) == 1


async def test_hundreds_of_streams_run_at_once_and_leave_nothing_behind(
    server: ScriptedEngine, engine: AssistantsEngine
) -> None:
    server.default = Script((Say("one "), Wait("gate"), Say("two")))
    threads = [await engine.create_thread([]) for _ in range(300)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(said(engine, thread)) for thread in threads]
        while sum(run.body["status"] == "in_progress" for run in server.runs) < len(threads):
            await asyncio.sleep(0)
        server.open("gate")
    assert {texts(task.result()) for task in tasks} == {"one two"}
    assert all(isinstance(task.result()[-1], RunEnded) for task in tasks)
    assert set(engine._pools.busy) == {0}


async def test_leaving_early_gives_the_connection_back(
    server: ScriptedEngine, engine: AssistantsEngine
) -> None:
    server.default = Script((Say("one "), Wait("never")))
    thread = await engine.create_thread([])
    task = asyncio.create_task(said(engine, thread))
    while not server.runs:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(engine._pools.busy) == {0}


async def test_a_server_that_keeps_the_line_open_after_the_end_holds_nobody(
    server: ScriptedEngine, engine: AssistantsEngine
) -> None:
    ended = 'event: thread.run.completed\ndata: {"id": "run_1", "status": "completed"}\n\n'
    server.default = Script((Say("one"), Raw(ended), Wait("never")))
    async with asyncio.timeout(5):
        events = await said(engine, await engine.create_thread([]))
    assert isinstance(events[-1], RunEnded)


async def test_the_embedded_server_is_spoken_to_through_a_socket_path(short_path: Path) -> None:
    socket = short_path / "api.sock"
    async with serve(LocalApi(data=short_path, brain=ScriptedBrain()), uds=socket) as url:
        engine = AssistantsEngine(base_url=url, api_key="none", model="scripted", uds=socket)
        try:
            await engine.check()
            assert engine.name == f"assistants@{socket}"
            assert texts(await said(engine, await engine.create_thread([]))) == "All is well."
        finally:
            await engine.close()
