"""Many threads at once, with what Slack delivers twice."""

from __future__ import annotations

import random
import time

import pytest

from tests.e2e.house import House
from tests.e2e.programs import until
from tests.fakes.engine import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

THREADS, MESSAGES = 100, 4


async def test_a_hundred_threads_with_duplicates_are_answered_once_each_and_in_order(house: House) -> None:
    slack, chance = house.slack, random.Random(11)
    house.engine.default = Script(chunks=4, delay=0.05)
    began_at = time.monotonic()
    roots: list[str] = []
    for number in range(MESSAGES):
        for thread in range(THREADS):
            slack.duplicates = 1 if chance.random() < 0.2 else 0
            if number == 0:
                roots.append(house.mention(f"t{thread} m0"))
            else:
                house.say(f"t{thread} m{number}", roots[thread])
        await house.settled()
    slack.duplicates = 0
    await until(lambda: len(_lines(house)) >= THREADS * MESSAGES, "everything is heard", 60)
    for root in roots:
        await house.answered(root, timeout=60)
    print(f"{THREADS * MESSAGES} messages in {time.monotonic() - began_at:.1f} s")  # noqa: T201 - a measurement
    for thread, root in enumerate(roots):
        told = [line for line in _lines(house) if line.startswith(f"alice: t{thread} ")]
        assert told == [f"alice: t{thread} m{number}" for number in range(MESSAGES)]
        turns = [batch for batch in house.heard() if batch.startswith(f"alice: t{thread} ")]
        assert [text.rpartition(" ")[2] for text in house.texts(root)] == [
            turn.rpartition(" ")[2] for turn in turns
        ]
    assert sum(call.outcome == "ok" for call in slack.calls if call.method == "chat.delete") == 0


def _lines(house: House) -> list[str]:
    return [line for batch in house.heard() for line in batch.splitlines()]
