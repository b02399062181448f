"""The engine's side of one turn: from its messages to the end of its run, through everything that passes.

One step is tried until it ends (`_step`); each kind of error says what the next try has to do first. Who takes over
a turn begins here as well: the run it finds is gone on with, never started twice.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from bot.answer import Answer
from bot.domain import (
    ActionRequired,
    Assistant,
    Attachment,
    EngineFile,
    Event,
    Exchange,
    FileProduced,
    Input,
    Message,
    RunEnded,
    RunRef,
    RunStarted,
    Text,
    TextDelta,
    ToolCall,
    ToolDone,
    ToolOutput,
    ToolStarted,
    Turn,
)
from bot.errors import Ambiguous, Rejected, Retryable, RunFailed, ThreadBusy, ThreadGone
from bot.ports import Clock, Desk, Engine, Outlet
from bot.record import Record

_log = structlog.get_logger()

BACKOFF_SECONDS = (0.25, 0.5, 1, 2, 4, 8, 15, 15, 15)  # an engine that stays away for a minute: say so
LONGEST_WAIT_SECONDS = 120.0  # an engine may ask for more patience than a person has
HISTORY_MESSAGES = 15  # of a thread the bot is called into; Slack serves some apps no more in one call

REBUILT = "_The engine had lost our earlier conversation; I restored it from my notes._"
AWAY = "_I can't reach the engine that thinks for me right now; please ask again in a minute._"
BUSY = "_The engine asks me to wait for {:.0f} seconds; please ask again then._"
FAILED = "_The engine failed {} times to answer this; please ask again, or put it differently._"


class Consultation:
    """Use once: `await consultation.run()`."""

    def __init__(
        self,
        *,
        engine: Engine,
        outlet: Outlet,
        desk: Desk,
        record: Record,
        assistant: Assistant,
        answer: Answer,
        show: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._outlet = outlet
        self._desk = desk
        self._record = record
        self._assistant = assistant
        self._answer = answer
        self._show = show
        self._clock = clock
        turn = record.turn
        self._ref = turn.ref if turn.ref and turn.ref.engine == engine.name else None
        self._run = turn.run if self._ref else None
        self._said = self._run is not None  # the engine's thread holds this turn's messages
        self._look = turn.resumed  # a run may exist that nobody wrote down
        self._in_the_way: RunRef | None = None
        self._inputs: tuple[Input, ...] = ()
        self._patience = itertools.chain(BACKOFF_SECONDS)

    async def run(self) -> RunEnded:
        """Returns how the run ended; raises Rejected with the sentence for the user."""
        while True:
            least = 0.0
            try:
                return await self._step()
            except ThreadGone:
                self._ref = self._run = None
                self._said = False
            except ThreadBusy as busy:
                self._in_the_way = RunRef(self._ref.id, busy.run) if self._ref and busy.run else None
            except Ambiguous:
                self._run, self._look = None, True
            except RunFailed as failure:
                self._run = None
                if self._record.turn.attempt >= self._assistant.limits.attempts:
                    raise Rejected(FAILED.format(self._record.turn.attempt)) from failure
                least = self._bearable(failure)
            except Retryable as away:
                least = self._bearable(away)
            wait = next(self._patience, None)
            if wait is None:
                raise Rejected(AWAY)
            await self._clock.sleep(max(wait, least))

    def _bearable(self, error: Retryable) -> float:
        wait = error.retry_after or 0.0
        _log.warning("engine.retry", thread=str(self._record.turn.thread), reason=str(error), wait_s=wait)
        if wait > LONGEST_WAIT_SECONDS:
            raise Rejected(BUSY.format(wait)) from error
        return wait

    async def _step(self) -> RunEnded:
        turn = self._record.turn
        if self._in_the_way:
            await self._engine.cancel(self._in_the_way)
            self._in_the_way = None
        if self._ref is None:
            await self._open()
        assert self._ref is not None
        if (
            self._run is None
            and self._look
            and (found := await self._engine.find_run(self._ref, turn=turn.id))
        ):
            await self._started(found)
        self._look = False
        if self._run is not None:
            self._answer.begin(self._run)
            return await self._follow(self._engine.resume(self._run))
        if not self._said and not self._inputs:
            self._inputs = await self._say()
        inputs = () if self._said else self._inputs
        return await self._follow(self._engine.run(self._ref, inputs, self._assistant, turn=turn.id))

    async def _open(self) -> None:
        """Give the thread its twin on the engine; one that was lost is rebuilt from the transcript."""
        turn = self._record.turn
        transcript = await self._desk.transcript()
        if not transcript and not turn.messages[0].opens:
            transcript = await self._overheard(turn.messages[0])
        self._ref = await self._engine.create_thread(transcript)
        notices = turn.notices
        if turn.ref is not None and transcript and REBUILT not in notices:
            notices = (*notices, REBUILT)
        self._answer.notices = notices
        await self._record.change(ref=self._ref, run=None, notices=notices)

    async def _overheard(self, message: Message) -> tuple[Exchange, ...]:
        """What people said in the thread before they called the bot into it."""
        history = await self._outlet.history(message, HISTORY_MESSAGES)
        if not history:
            return ()
        lines = "\n".join(f"{said.author.name or said.author.id}: {said.text}" for said in history)
        return (Exchange(asked=f"Said in this thread before you were called:\n{lines}", answered=""),)

    async def _say(self) -> tuple[Input, ...]:
        """The turn's messages as the engine reads them, with their files uploaded once."""
        inputs = []
        for message in self._record.turn.messages:
            files = [await self._hand_in(attachment) for attachment in message.attachments]
            inputs.append(Input(text=spoken(message), files=tuple(file for file in files if file)))
        return tuple(inputs)

    async def _hand_in(self, attachment: Attachment) -> EngineFile | None:
        turn = self._record.turn
        if held := dict(turn.files).get(attachment.id):
            return held
        try:
            async with aclosing(self._outlet.fetch(attachment)) as content:
                file = await self._engine.upload(attachment.name, attachment.media_type, content)
        except Rejected as error:
            if error.user_text not in turn.notices:  # it may have been told by a try before
                self._answer.notices = (*turn.notices, error.user_text)
                await self._record.change(notices=self._answer.notices)
            return None
        await self._record.change(files=(*turn.files, (attachment.id, file)))
        return file

    async def _follow(self, events: AsyncGenerator[Event, None]) -> RunEnded:
        """Take in one run to its end, answering the calls it makes on the way."""
        while True:
            calls: tuple[ToolCall, ...] = ()
            async with aclosing(events) as stream:
                async for event in stream:
                    match event:
                        case TextDelta() | Text():
                            self._answer.add(event)
                            self._show()
                        case RunStarted(run):
                            await self._started(run)
                        case ToolStarted(_, kind):
                            await self._outlet.activity(self._record.turn, kind, working=True)
                        case ToolDone():
                            await self._outlet.activity(self._record.turn, None, working=True)
                        case FileProduced():
                            self._answer.add(event)
                        case ActionRequired():
                            calls = event.calls
                        case RunEnded():
                            return event
            if not calls or self._run is None:
                raise Retryable("the engine's events ended without an end")
            outputs = tuple(
                ToolOutput(call.id, f'{{"error": "unknown function {call.name!r}"}}') for call in calls
            )
            events = self._engine.resume(self._run, outputs)

    async def _started(self, run: RunRef) -> None:
        self._patience = itertools.chain(BACKOFF_SECONDS)
        if run == self._run:
            return
        self._run, self._said = run, True
        if run == self._record.turn.run:
            return  # found again
        self._answer.begin(run)
        await self._record.change(run=run, attempt=self._record.turn.attempt + 1)


def spoken(message: Message) -> str:
    """A message as the engine reads it: where several people talk, each line says whose it is."""
    if message.private:
        return message.text
    text = message.text.replace("\n", "\n  ")  # or a line of it could pass for somebody else's
    return f"{message.author.name or message.author.id}: {text}"


def asked(turn: Turn) -> str:
    return "\n".join(spoken(message) for message in turn.messages)
