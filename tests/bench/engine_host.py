"""The scripted engine in its own process. It answers at once, slowly, or when told to, and notes the times."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, replace
from typing import Literal

from aiohttp import web

from tests.bench.wire import FIRST, LAST, QUESTION, Body, Deed, obey
from tests.fakes.engine import Pause, Say, Script, ScriptedEngine, Wait, state
from tests.fakes.engine.house import House
from tests.fakes.engine.player import Player
from tests.fakes.engine.runs import Runs
from tests.fakes.engine.script import Act
from tests.fakes.engine.state import RunState, ThreadState

Pacing = Literal["instant", "slow", "gated"]


@dataclass(frozen=True, slots=True)
class Answer(Script):
    """First token (with the questions), something between, last token. `gates` hold each of the later tokens."""

    asked: str = ""
    pause: float = 0.0
    gates: tuple[str, ...] = ()

    def played(self, heard: str) -> tuple[Act, ...]:
        between: list[Act] = [Pause(self.pause), Say("and on "), Pause(self.pause)] if self.pause else []
        if self.gates:
            between = [Wait(self.gates[0]), Say("and on "), Wait(self.gates[1])]
        return (Say(f"{FIRST} {self.asked} "), *between, Say(LAST))


class Times:
    """Question -> when."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}


class TimedPlayer(Player):
    def __init__(self, times: Times, house: House, thread: ThreadState, run: RunState) -> None:
        super().__init__(house.ids, thread, run, house.pass_gate)
        self._times = times

    def _say(self, act: Say) -> None:
        super()._say(act)
        said = str(self._open_message()["content"][-1]["text"]["value"])
        for question in QUESTION.findall(said):
            self._times.first.setdefault(question, time.monotonic())
            if act.text == LAST:
                self._times.last.setdefault(question, time.monotonic())


class TimedRuns(Runs):
    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.times = Times()

    async def _create_run(self, request: web.Request) -> web.StreamResponse:
        at = time.monotonic()
        for question in QUESTION.findall(await request.text()):
            self.times.heard.setdefault(question, at)
        return await super()._create_run(request)

    def _start(self, thread: ThreadState, run: RunState) -> None:
        if isinstance(run.script, Answer):
            run.script = replace(run.script, asked=_asked(thread))
        run.player = asyncio.create_task(TimedPlayer(self.times, self._house, thread, run).play())
        self._players.add(run.player)
        run.player.add_done_callback(self._players.discard)


def _asked(thread: ThreadState) -> str:
    """The questions since the last answer: there are several when they came while an answer was under way."""
    new = itertools.takewhile(lambda said: said["role"] == "user", reversed(thread.messages))
    return " ".join(question for said in new for question in QUESTION.findall(state.text_of(said)))


class TimedEngine(ScriptedEngine):
    def __init__(self) -> None:
        super().__init__()
        self.default = Answer()
        self._served_runs: TimedRuns = TimedRuns(self)

    # --- what the bench asks for ---

    async def answer(self, pacing: Pacing, *, pause: float = 0.0, gates: tuple[str, ...] = ()) -> Body:
        """How runs are answered from now on."""
        self.default = Answer(pause=pause, gates=tuple(gates))
        return {"pacing": pacing}

    async def let_go(self, gate: str) -> Body:
        self.open(gate)
        return {}

    async def times(self) -> Body:
        return vars(self._served_runs.times)

    async def until_heard(self, count: int) -> Body:
        """The time at which that many questions have reached us."""
        while len(self._served_runs.times.heard) < count:
            await asyncio.sleep(0.005)
        return {"at": time.monotonic()}


async def main() -> None:
    async with TimedEngine() as engine:
        deeds: dict[str, Deed] = {
            "answer": engine.answer,
            "let_go": engine.let_go,
            "times": engine.times,
            "until_heard": engine.until_heard,
        }
        await obey(deeds, {"url": engine.base_url})


if __name__ == "__main__":
    asyncio.run(main())
