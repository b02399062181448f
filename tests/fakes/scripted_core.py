"""Stands for the core behind a console: answers each message by playing a script through the outlet.

Run as a program it is a whole session on its own terminal; one argument: the downloads folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path

from adapters.console import ConsoleGateway, ConsoleOutlet
from bot.domain import Message, ThreadKey, Turn

Script = Callable[[Turn], Awaitable[None]]


class ScriptedCore:
    """A Mailroom. Every message is a turn of its own; `stop` ends the one that runs."""

    def __init__(self, outlet: ConsoleOutlet, script: Script, tasks: asyncio.TaskGroup) -> None:
        self._outlet = outlet
        self._script = script
        self._tasks = tasks
        self._running: asyncio.Task[None] | None = None
        self.put_messages: list[Message] = []
        self.stops: list[ThreadKey] = []
        self.was_put = asyncio.Event()
        self.hold = False  # messages wait in the mailbox and no turn begins
        self.takes = True

    async def put(self, message: Message) -> bool:
        self.put_messages.append(message)
        self.was_put.set()
        if self.takes and not self.hold:
            self._running = self._tasks.create_task(self._turn(message))
        return self.takes

    async def _turn(self, message: Message) -> None:
        turn = Turn(message.id, message.thread, (message,))
        try:
            await self._outlet.activity(turn, None, working=True)
            await self._script(turn)
        finally:
            await self._outlet.activity(turn, None, working=False)

    async def stop(self, thread: ThreadKey) -> bool:
        self.stops.append(thread)
        if self._running is None or self._running.done():
            return self.hold
        self._running.cancel()
        return True

    async def amend(self, thread: ThreadKey, message: str, text: str) -> bool:
        return False

    async def withdraw(self, thread: ThreadKey, message: str) -> bool:
        return False

    async def feedback(self, thread: ThreadKey, post: str, author: str, *, good: bool) -> None:
        return None


def echo(outlet: ConsoleOutlet) -> Script:
    """Streams "You said: …" in two pieces; "forever" is answered without end."""

    async def script(turn: Turn) -> None:
        text = turn.messages[0].text
        post = await outlet.open(turn, "You said:", "live")
        if text == "forever":
            await asyncio.Event().wait()
        await outlet.edit(turn, post, f"You said: {text}", "last")

    return script


async def session(downloads: Path) -> None:
    outlet = ConsoleOutlet(sys.stdout, downloads)
    async with asyncio.TaskGroup() as tasks:
        await ConsoleGateway(sys.stdin, outlet).run(ScriptedCore(outlet, echo(outlet), tasks))


if __name__ == "__main__":
    if sys.stdin.isatty():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C on it is a signal to us
    asyncio.run(session(Path(sys.argv[1])))
