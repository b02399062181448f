"""One turn being answered: consult the engine, show what it says, end it with a sentence where that is needed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import structlog

from bot.answer import Answer
from bot.consultation import Consultation
from bot.delivery import Delivery
from bot.domain import Assistant, RunEnded, Text, TurnOutcome
from bot.errors import Misconfigured, Rejected, ThreadbotError
from bot.ports import Clock, Desk, Engine, Outlet
from bot.produced import ProducedFiles
from bot.record import Record
from bot.silence import Silence, Silenced

_log = structlog.get_logger()

TAKEOVERS = 25  # of one turn: it has ended so many workers that it must not end more
CANCEL_SECONDS = 15.0  # a run that does not end by then is in the next turn's way, which cancels it again

STOPPED = "_Stopped._"
ENDINGS = {
    "completed": "",
    "truncated": "_I reached my length limit here; say “continue” for the rest._",
    "cancelled": STOPPED,
    "expired": "_I ran out of time here; ask again, or for a smaller piece._",
    "refused": "_The model declined to answer this._",
}
WORDLESS = "_The assistant ended without an answer; please ask again._"
MISCONFIGURED = "_I am not set up correctly, so I can't answer; my operator finds the reason in the log._"
BROKEN = "_Something went wrong on my side; please ask again. In the operator's log this is turn {}._"


class Story:
    """Use once: `await story.tell(...)`. Afterwards `answer` and `ended` say what came of it."""

    def __init__(
        self, *, engine: Engine, outlet: Outlet, desk: Desk, record: Record, delivery: Delivery, clock: Clock
    ) -> None:
        self._engine = engine
        self._outlet = outlet
        self._desk = desk
        self._record = record
        self._delivery = delivery
        self._clock = clock
        self.answer = Answer(record.turn.notices)
        self.ended: RunEnded | None = None

    async def tell(self, assistant: Assistant, silence: Silence) -> TurnOutcome:
        async with self._delivery:
            outcome, ending = await self._think(assistant, silence)
            text = _joined(*self.answer.notices, self.answer.said, ending)
            if outcome == "stopped":
                await self._end(text)
                return outcome
            try:
                async with silence:  # people may stop an answer that the engine has given, too
                    await self._end(text)
                    if problems := await self._files().send(self.answer.files):
                        await self._delivery.finish(_joined(text, *problems))
            except Silenced:
                outcome = "stopped"
                await self._delivery.finish(_joined(self._delivery.visible, STOPPED))
        return outcome

    async def _end(self, text: str) -> None:
        """Show the whole answer; meanwhile a run that goes on is ended."""
        cancelling = asyncio.create_task(self._cancel(), name=f"cancel {self._record.turn.thread}")
        try:
            await self._delivery.finish(text)
            await cancelling
        finally:
            cancelling.cancel()

    def _files(self) -> ProducedFiles:
        return ProducedFiles(
            engine=self._engine,
            outlet=self._outlet,
            record=self._record,
            delivery=self._delivery,
            clock=self._clock,
        )

    async def _think(self, assistant: Assistant, silence: Silence) -> tuple[TurnOutcome, str]:
        """Consult the engine; returns the outcome and the sentence to end with."""
        consultation = Consultation(
            engine=self._engine,
            outlet=self._outlet,
            desk=self._desk,
            record=self._record,
            assistant=assistant,
            answer=self.answer,
            show=lambda: self._delivery.show(self.answer.text),
            clock=self._clock,
        )
        where = {"thread": str(self._record.turn.thread), "turn": self._record.turn.id}
        outcome: TurnOutcome = "failed"
        if self._record.turn.takeovers > TAKEOVERS:
            _log.error("turn.given_up", takeovers=self._record.turn.takeovers, **where)
            return outcome, BROKEN.format(self._record.turn.id)
        try:
            if silence.asked:
                await self._recall()
                return "stopped", STOPPED
            async with silence, asyncio.timeout(assistant.limits.seconds):
                self.ended = await consultation.run()
            outcome, ending = "answered", ENDINGS[self.ended.outcome]
            if not ending and not self.answer.said.strip() and not self.answer.files:
                ending = WORDLESS
        except Silenced:
            outcome, ending = "stopped", STOPPED
        except TimeoutError:
            ending = ENDINGS["expired"]
        except Rejected as error:
            ending = error.user_text
        except Misconfigured as error:
            _log.error("turn.misconfigured", reason=str(error), **where)
            ending = MISCONFIGURED
        except ThreadbotError:
            raise
        except Exception:  # noqa: BLE001 - the user gets a sentence for every bug, the operator its trace
            _log.exception("turn.broken", **where)
            ending = BROKEN.format(self._record.turn.id)
        return outcome, ending

    async def _recall(self) -> None:
        """The worker before us was stopped and did not get to say so: what had been said until then?"""
        run = self._record.turn.run
        if run is None:
            return
        await self._cancel()
        try:
            async with asyncio.timeout(CANCEL_SECONDS), aclosing(self._engine.resume(run)) as events:
                async for event in events:
                    if isinstance(event, Text):
                        self.answer.add(event)
        except (ThreadbotError, TimeoutError) as error:
            _log.warning("run.not_recalled", thread=str(self._record.turn.thread), reason=str(error))

    async def _cancel(self) -> None:
        """A run that we leave before its end would be in the next turn's way; so would one that we never saw begin."""
        turn = self._record.turn
        if self.ended is not None or turn.ref is None:
            return
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                if run := turn.run or await self._engine.find_run(turn.ref, turn=turn.id):
                    await self._engine.cancel(run)
        except (ThreadbotError, TimeoutError) as error:
            _log.warning("run.not_cancelled", thread=str(turn.thread), reason=str(error))


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part.strip())
