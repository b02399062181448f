"""Processes end, on request and without, at the worst moments; nothing is lost and nothing is said twice."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.e2e.house import House
from tests.e2e.programs import until
from tests.fakes.engine import Say, Script, Wait

pytestmark = pytest.mark.asyncio(loop_scope="module")


# --- a worker is asked to end ------------------------------------------------------------------------------------


async def test_a_worker_asked_to_end_hands_its_answers_over_within_a_second(nobody: House) -> None:
    house = nobody
    _, leaving = await asyncio.gather(house.gateway(), house.worker())
    house.engine.default = Script((Say("I was saying"), Wait("handed over"), Say(" that all is well.")))
    roots = [house.mention(f"question {number}") for number in range(3)]
    for root in roots:
        await house.growing(root, "saying")
    staying = await house.worker()
    asked_at = time.monotonic()
    leaving.ask_to_end()
    await until(lambda: len(staying.events("turn.taken")) == 3, "all three are taken over")
    taken_after = time.monotonic() - asked_at
    assert await leaving.ended() == 0
    ended_after = time.monotonic() - asked_at
    house.engine.open("handed over")
    for root in roots:
        await house.answered(root, "well.")
    print(f"taken over after {taken_after:.2f} s, ended after {ended_after:.2f} s")  # noqa: T201 - a measurement
    assert [house.texts(root) for root in roots] == [["I was saying that all is well."]] * 3
    assert len(house.heard()) == 3
    assert taken_after < 1.0
    assert ended_after < 2.5
    assert "Traceback" not in leaving.log.read_text()


async def test_the_last_worker_asked_to_end_leaves_its_answer_to_the_next_one(nobody: House) -> None:
    house = nobody
    _, leaving = await asyncio.gather(house.gateway(), house.worker())
    house.engine.default = Script((Say("Go on"), Wait("the next one"), Say(" without me.")))
    root = house.mention("what do you do when you leave?")
    await house.growing(root, "Go on")
    leaving.ask_to_end()
    assert await leaving.ended() == 0
    await house.worker()
    house.engine.open("the next one")
    await house.answered(root, "without me.")
    assert house.texts(root) == ["Go on without me."]
    assert len(house.heard()) == 1


# --- a gateway dies ----------------------------------------------------------------------------------------------


async def test_a_gateway_killed_after_storing_and_before_acknowledging_doubles_nothing(nobody: House) -> None:
    house, slack = nobody, nobody.slack
    gateway, _ = await asyncio.gather(house.gateway(), house.worker())
    house.engine.default = Script(chunks=20, delay=0.1)
    root = house.mention("say it once")
    slack.silence_sockets()  # what is on its way arrives, and no acknowledgement comes back
    await until(lambda: b"seen" in house.redis.command("KEYS", f"tb:*:seen:{root}"), "it is stored")
    gateway.kill()
    await slack.wait_until(lambda: slack.open_sockets == 0, 10, "Slack notices")
    await house.gateway()
    await house.settled()
    await house.answered(root, "once")
    redelivered = [d for d in slack.delivery.log if d.envelope.attempt and d.outcome == "acked"]
    assert redelivered, "Slack brought it again"
    assert house.texts(root) == ["You said: alice: say it once"]
    assert len(house.heard()) == 1


async def test_gateways_killed_at_any_moment_lose_and_double_nothing(nobody: House) -> None:
    house, slack, chance = nobody, nobody.slack, random.Random(7)
    slack.delivery.retries = 20  # each death costs an event up to two tries
    gateway, _ = await asyncio.gather(house.gateway(), house.worker())
    roots: list[str] = []
    for _ in range(4):
        for _ in range(6):
            roots.append(house.mention(f"question {len(roots)}."))
            await asyncio.sleep(chance.uniform(0, 0.01))
        gateway.kill()
        gateway = await house.gateway()
    for root in roots:
        await house.answered(root)
    await house.settled()
    assert slack.delivery.undelivered == []
    assert [house.texts(root) for root in roots] == [
        [f"You said: alice: question {number}."] for number in range(len(roots))
    ]
    assert len(house.heard()) == len(roots)


async def test_a_gateway_asked_to_end_answers_what_it_stored_and_ends_well(nobody: House) -> None:
    house = nobody
    gateway, _ = await asyncio.gather(house.gateway(), house.worker())
    roots = [house.mention(f"question {number}.") for number in range(5)]
    asked_at = time.monotonic()
    gateway.ask_to_end()
    assert await gateway.ended() == 0
    assert time.monotonic() - asked_at < 3
    assert "Traceback" not in gateway.log.read_text()
    await house.gateway()
    for number, root in enumerate(roots):
        await house.answered(root, f"question {number}.")
    await house.settled()
    assert [len(house.texts(root)) for root in roots] == [1] * 5
