"""The open turn in memory and its durable twin: every change is saved before the next step is taken."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import structlog

from bot.domain import Turn
from bot.errors import Retryable
from bot.ports import Clock, Desk

_log = structlog.get_logger()
AWAY_SECONDS = 1.0  # between two tries while Redis is away; a lost lease ends the tries


class Record:
    """One turn being answered. Changes go in one at a time, in order; while Redis is away they wait."""

    def __init__(self, turn: Turn, desk: Desk, clock: Clock) -> None:
        self.turn = turn
        self._desk = desk
        self._clock = clock
        self._order = asyncio.Lock()

    async def change(self, **fields: Any) -> None:
        """Set fields of the turn and save it. Raises LeaseLost."""
        async with self._order:
            self.turn = replace(self.turn, **fields)
            while True:
                try:
                    return await self._desk.save(self.turn)
                except Retryable as error:
                    _log.warning("turn.save_waits", thread=str(self.turn.thread), reason=str(error))
                    await self._clock.sleep(error.retry_after or AWAY_SECONDS)

    async def held(self) -> None:
        """Wait until the lease is known to be ours, before anybody can see what we do next. Raises LeaseLost."""
        await self._desk.held()
