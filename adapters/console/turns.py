"""Which of the messages sent are still to be answered: the outlet sees turns end, the gateway waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Turns:
    def __init__(self) -> None:
        self._asked: set[str] = set()  # messages whose turn has not ended
        self._begun: set[str] = set()  # those of them whose turn has begun
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_idle: Callable[[], None] = lambda: None

    @property
    def idle(self) -> bool:
        """Whether no answer is awaited."""
        return self._idle.is_set()

    async def wait_idle(self) -> None:
        await self._idle.wait()

    def asked(self, message: str) -> None:
        self._asked.add(message)
        self._idle.clear()

    def began(self, messages: set[str]) -> None:
        self._begun |= self._asked & messages

    def forget(self, messages: set[str]) -> None:
        """Their turn ended, or there will be none."""
        self._asked -= messages
        self._begun -= messages
        if not self._asked:
            self._idle.set()
            self.on_idle()

    def forget_waiting(self) -> None:
        """What waited was dropped before its turn began: no turn will end for it."""
        self.forget(self._asked - self._begun)
