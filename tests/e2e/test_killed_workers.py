"""Workers are killed in the middle of their answers; people read one whole answer all the same."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from dataclasses import dataclass

import pytest

from tests.e2e.house import House
from tests.e2e.programs import Program
from tests.fakes.engine import Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAKEOVER_SECONDS = 10.0
ANSWER_SECONDS = 2.5
ROUNDS, WORKERS, THREADS = 7, 4, 12


@dataclass(frozen=True, slots=True)
class Death:
    worker: Program
    at: float  # monotonic

    def widowed(self) -> set[str]:
        """Threads whose turns it left unfinished."""
        taken = [event["turn"] for event in self.worker.events("turn.taken")]
        answered = [event["turn"] for event in self.worker.events("turn.answered")]
        return set(taken) - set(answered)


@pytest.mark.timeout(240)
async def test_twenty_one_workers_killed_while_they_answer_leave_one_whole_answer_each(nobody: House) -> None:
    """Each round kills all workers but one, at moments drawn by lot, while twelve threads are being answered."""
    house, chance = nobody, random.Random(20)
    _, workers = await asyncio.gather(house.gateway(), house.workers(WORKERS))
    house.engine.default = Script(chunks=30, delay=ANSWER_SECONDS / 30)
    deaths: list[Death] = []
    late: list[float] = []
    for number in range(ROUNDS):
        survivor, *doomed = chance.sample(workers, WORKERS)
        questions = [f"{number}-{thread} " + "on and on " * 60 + "end." for thread in range(THREADS)]
        died, roots = await asyncio.gather(_kill(doomed, chance), _ask(house, questions, chance))
        renewing = asyncio.create_task(house.workers(len(doomed)))
        final = {root: await house.answered(root, "end.", timeout=30) for root in roots}
        workers = [survivor, *await renewing]
        await house.settled()
        assert [house.texts(root) for root in roots] == [[f"You said: alice: {said}"] for said in questions]
        assert [house.runs_about(f"alice: {number}-{thread} ") for thread in range(THREADS)] == [1] * THREADS
        late += [final[root].versions[-1].at - death.at for death in died for root in death.widowed()]
        deaths += died
    assert sum(bool(death.widowed()) for death in deaths) >= 15, "too few kills met an answer"
    line = (
        f"{len(deaths)} kills left {len(late)} answers unfinished; seconds from the kill to the whole answer: "
        f"min {min(late):.2f}, median {statistics.median(late):.2f}, max {max(late):.2f}"
    )
    print(line)  # noqa: T201 - a measurement, shown by `pytest -rP`
    assert len(deaths) >= 20
    assert len(late) >= 20
    assert max(late) <= TAKEOVER_SECONDS, line


async def _ask(house: House, questions: list[str], chance: random.Random) -> list[str]:
    """One after the other, so that a kill meets answers of every age."""
    roots = []
    for question in questions:
        roots.append(house.mention(question))
        await asyncio.sleep(chance.uniform(0, 0.3))
    return roots


async def _kill(doomed: list[Program], chance: random.Random) -> list[Death]:
    died: list[Death] = []
    for worker in doomed:
        await asyncio.sleep(chance.uniform(0.2, 1.2))
        worker.kill()
        died.append(Death(worker, time.monotonic()))
    return died
