"""The story: one turn in, one answered thread out.

A turn ends answered, stopped, or failed with one honest sentence. It may begin in the middle: a worker that takes
over finds the engine's run and the platform's posts, and goes on with both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial

import structlog

from bot.answer import Answer
from bot.consultation import Consultation, asked
from bot.delivery import Delivery, Pace
from bot.domain import Assistant, Exchange, FileProduced, RunEnded, Text, ThreadKey, Turn, TurnOutcome, Upload
from bot.errors import Ambiguous, LeaseLost, Misconfigured, Rejected, ThreadbotError
from bot.ports import Clock, Desk, Engine, Outlet
from bot.record import Record
from bot.silence import Silence, Silenced

_log = structlog.get_logger()

CANCEL_SECONDS = 15.0  # a run that does not end by then is in the next turn's way, which cancels it again
HEAD_START_SECONDS = 0.05  # of the engine; an answer that comes sooner needs no sign of work
SETTLE_SECONDS = 2.0  # of waiting for the platform to take in that we work, before it hears that we do not

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


class Conversation:
    """Answers turns. One for a process; safe for many turns at once."""

    def __init__(
        self,
        *,
        engine: Engine,
        outlets: Mapping[str, Outlet],
        assistant_for: Callable[[ThreadKey, bool], Assistant],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._outlets = outlets
        self._assistant_for = assistant_for
        self._clock = clock
        self._paces = {platform: Pace(outlet.limits, clock) for platform, outlet in outlets.items()}

    def speaks(self, platform: str) -> bool:
        return platform in self._outlets

    async def answer(self, turn: Turn, desk: Desk, silence: Silence) -> tuple[Turn, Exchange]:
        """Answer until people can see it; returns the turn as it ended and what to remember of it.

        Raises LeaseLost; whatever else goes wrong is told in the thread and in the log.
        """
        began_at = self._clock.now()
        outlet = self._outlets[turn.thread.platform]
        record = Record(turn, desk, self._clock)
        delivery = Delivery(record, outlet, self._paces[turn.thread.platform], self._clock)
        story = _Story(self._engine, outlet, desk, record, delivery, self._clock)
        shows = asyncio.Event()
        working = asyncio.create_task(self._show_work(outlet, turn, shows), name=f"activity {turn.thread}")
        try:
            outcome = await story.tell(self._assistant_for(turn.thread, turn.messages[0].private), silence)
            if shows.is_set():
                await asyncio.wait(
                    {working}, timeout=SETTLE_SECONDS
                )  # cut, it could arrive after its own end
        except LeaseLost:
            raise
        except ThreadbotError as error:
            outcome = "failed"
            _log.error("turn.undeliverable", thread=str(turn.thread), turn=turn.id, reason=str(error))
        finally:
            working.cancel()
        # Not reached when somebody takes over: there the work goes on.
        await outlet.activity(record.turn, None, working=False)
        turn, first = record.turn, delivery.first_shown_at
        _log.info(
            f"turn.{outcome}",
            thread=str(turn.thread),
            turn=turn.id,
            messages=len(turn.messages),
            attempts=turn.attempt,
            resumed=turn.resumed,
            posts=len(turn.posts),
            first_text_s=None if first is None else round(first - began_at, 3),
            seconds=round(self._clock.now() - began_at, 3),
            tokens_in=story.ended.usage.input_tokens if story.ended else None,
            tokens_out=story.ended.usage.output_tokens if story.ended else None,
        )
        return turn, Exchange(asked=asked(turn), answered=story.answer.said)

    async def _show_work(self, outlet: Outlet, turn: Turn, shows: asyncio.Event) -> None:
        """Tell people that we work. The engine is told of the turn first: it is the one who needs time."""
        await self._clock.sleep(HEAD_START_SECONDS)
        shows.set()
        await outlet.activity(turn, None, working=True)


class _Story:
    """One turn being answered."""

    def __init__(
        self, engine: Engine, outlet: Outlet, desk: Desk, record: Record, delivery: Delivery, clock: Clock
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
            text = "\n\n".join(part for part in (*self.answer.notices, self.answer.said, ending) if part)
            await asyncio.gather(self._delivery.finish(text), self._cancel())
            await self._hand_out()
        return outcome

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
        try:
            if silence.asked:
                await self._recall()
                return "stopped", STOPPED
            async with silence, asyncio.timeout(assistant.limits.seconds):
                self.ended = await consultation.run()
            outcome, ending = (
                "answered",
                ENDINGS[self.ended.outcome] or ("" if self.answer.said else WORDLESS),
            )
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
        """A run that we leave before its end would be in the next turn's way."""
        if self.ended is None and (run := self._record.turn.run):
            try:
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self._engine.cancel(run)
            except (ThreadbotError, TimeoutError) as error:
                _log.warning("run.not_cancelled", thread=str(self._record.turn.thread), reason=str(error))

    async def _hand_out(self) -> None:
        """Put the files the run made into the thread, each once."""
        for produced in self.answer.files:
            if all(upload.file != produced.id for upload in self._record.turn.uploads):
                await self._delivery.insist(partial(self._send, produced))

    async def _send(self, produced: FileProduced) -> None:
        turn = self._record.turn
        try:
            async with aclosing(self._engine.download(produced.id)) as chunks:
                content = b"".join([chunk async for chunk in chunks])
            upload = await self._outlet.upload(turn, produced.name, produced.media_type, content)
        except Ambiguous:
            upload = ""  # it is there, or it is lost; twice would be worse
        except Rejected as error:
            _log.warning("file.rejected", thread=str(turn.thread), reason=error.user_text)
            upload = ""
        await self._record.change(uploads=(*turn.uploads, Upload(produced.id, upload)))
