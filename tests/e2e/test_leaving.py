"""A process that is asked to end goes, whoever hangs."""

from __future__ import annotations

import pytest

from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("command", ["worker", "gateway"])
async def test_a_process_asked_to_end_goes_although_redis_hangs(empty_house: House, command: str) -> None:
    program = await (empty_house.worker() if command == "worker" else empty_house.gateway())
    empty_house.redis.freeze()
    try:
        program.ask_to_end()
        await program.ended(15)
    finally:
        empty_house.redis.thaw()
