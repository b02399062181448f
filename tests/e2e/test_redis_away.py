"""Redis goes away and comes back: everybody waits for it, and people notice at most a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.e2e.house import House
from tests.fakes.engine import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def redis_away(house: House, seconds: float) -> AsyncIterator[None]:
    """kill -9, and the same data again after `seconds` at the earliest."""
    house.redis.kill()
    away = asyncio.create_task(asyncio.sleep(seconds))
    try:
        yield
        await away
    finally:
        house.redis.start()


async def assert_nothing_was_lost(house: House, roots: list[str], during: list[str], follow_ups: int) -> None:
    await asyncio.gather(*(house.answered(root, "end.", timeout=40) for root in roots))
    for number, root in enumerate(during):
        await house.answered(root, f"during {number}", timeout=40)
    for number in range(follow_ups):
        await house.answered(roots[number], f"more {number}", timeout=40)
    await house.settled()
    assert all(program.alive for program in house.programs)
    told = [line for batch in house.heard() for line in batch.splitlines()]
    assert len(told) == len(set(told)) == len(roots) + len(during) + follow_ups
    for number, root in enumerate(roots):
        question = f"{number} " + "on and on " * 30 + "end."
        more = [f"You said: alice: more {number}"] if number < follow_ups else []
        assert house.texts(root) == [f"You said: alice: {question}", *more]
    assert [len(house.texts(root)) for root in during] == [1] * len(during)
    root = house.mention("is everything as before?")
    await house.answered(root, "as before")


@pytest.mark.parametrize("seconds", [3.0, pytest.param(30.0, marks=pytest.mark.timeout(180))])
async def test_redis_away_in_the_middle_of_answers_loses_and_doubles_nothing(
    house: House, seconds: float
) -> None:
    house.engine.default = Script(chunks=40, delay=0.1)
    roots = [house.mention(f"{number} " + "on and on " * 30 + "end.") for number in range(6)]
    for root in roots:
        await house.growing(root, "You")
    async with redis_away(house, seconds):
        during = [house.mention(f"during {number}") for number in range(4)]
        for number in range(3):
            house.say(f"more {number}", roots[number])
    await assert_nothing_was_lost(house, roots, during, 3)


async def test_redis_that_restarts_again_and_again_loses_and_doubles_nothing(house: House) -> None:
    house.engine.default = Script(chunks=40, delay=0.1)
    roots = [house.mention(f"{number} " + "on and on " * 30 + "end.") for number in range(6)]
    for _ in range(4):
        async with redis_away(house, 0.3):
            pass
        await asyncio.sleep(0.7)
    await assert_nothing_was_lost(house, roots, [], 0)
