"""Stop, from anywhere, at once: ends the block it guards without ending the task."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Silenced(Exception):
    """Raised by the guarded block, and nowhere else."""


class Silence:
    """`ask()` may come before, during or after the block, and any number of times; asked before, the block ends at
    its first wait.

    >>> async with silence:  # raises Silenced
    ...     await a_long_answer()
    """

    __slots__ = ("_scope", "asked")

    def __init__(self) -> None:
        self.asked = False
        self._scope: asyncio.Timeout | None = None

    def ask(self) -> None:
        if self.asked:
            return  # a Timeout that is going off cannot be rescheduled
        self.asked = True
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> None:
        # A deadline that somebody else sets: unlike Task.cancel it cannot be mistaken for the end of the task.
        self._scope = asyncio.timeout(0 if self.asked else None)
        await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope, self._scope = self._scope, None
        assert scope is not None
        try:
            await scope.__aexit__(kind, error, trace)
        except TimeoutError as timeout:
            raise Silenced from timeout
