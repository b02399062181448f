"""The story: one turn in, one answered thread out.

A turn ends answered, stopped, or failed with one honest sentence. It may begin in the middle: a worker that takes
over finds the engine's run and the platform's posts, and goes on with both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from bot.consultation import asked
from bot.delivery import Delivery, Pace
from bot.domain import Assistant, Exchange, ThreadKey, Turn
from bot.errors import LeaseLost, ThreadbotError
from bot.ports import Clock, Desk, Engine, Outlet
from bot.record import Record
from bot.silence import Silence
from bot.story import Story

_log = structlog.get_logger()

HEAD_START_SECONDS = 0.05  # of the engine; an answer that comes sooner needs no sign of work
SETTLE_SECONDS = 2.0  # of waiting for the platform to take in that we work, before it hears that we do not


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
        story = Story(
            engine=self._engine,
            outlet=outlet,
            desk=desk,
            record=record,
            delivery=delivery,
            clock=self._clock,
        )
        shows = asyncio.Event()
        working = asyncio.create_task(self._show_work(outlet, turn, shows), name=f"activity {turn.thread}")
        try:
            outcome = await story.tell(self._assistant_for(turn.thread, turn.messages[0].private), silence)
            if shows.is_set():  # cut, it could arrive after its own end
                await asyncio.wait({working}, timeout=SETTLE_SECONDS)
        except LeaseLost:
            raise
        except ThreadbotError as error:
            outcome = "failed"
            _log.error("turn.undeliverable", thread=str(turn.thread), turn=turn.id, reason=str(error))
        except Exception:  # noqa: BLE001 - taken up again it would only crash again
            outcome = "failed"
            _log.exception("turn.crashed", thread=str(turn.thread), turn=turn.id)
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
