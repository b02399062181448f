"""The half of the console that hears: one person at a terminal, or lines from a pipe; one thread at a time."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from enum import Enum
from typing import TextIO

from adapters.console import files
from adapters.console.lines import Lines
from adapters.console.outlet import ConsoleOutlet
from bot.domain import Attachment, Author, Message, ThreadKey
from bot.errors import Rejected, ThreadbotError
from bot.ports import Mailroom

GREETING = (
    "Threadbot: an assistant in your terminal. Type a question.\n/attach FILE  /new  /stop  /help  /quit"
)
HELP = """\
/attach FILE  send a file along with your next message
/new          start a new conversation
/stop         silence the answer (as Ctrl-C does)
/quit         leave (as Ctrl-D does)"""
PROMPT = "> "
COMMANDS = ("/attach", "/new", "/stop", "/help", "/quit")


class _Signal(Enum):
    INTERRUPT = "Ctrl-C"
    END = "no more input"


class ConsoleGateway:
    """Speaks and waits through the outlet beside it, in one process. `run` returns when the person leaves, or when
    the pipe has all its answers.

    On a terminal people may type while an answer comes; what they say is heard at once. On a pipe each line that is
    not blank is one message, sent when the answer to the one before has ended. While a terminal is heard, SIGINT is
    ours: at the prompt it leaves, during an answer it stops it.
    """

    def __init__(
        self,
        stdin: TextIO,
        outlet: ConsoleOutlet,
        *,
        author: Author = Author("you", "you"),  # noqa: B008 - a frozen value
        now_ns: Callable[[], int] = time.time_ns,
        paste_seconds: float = 0.03,
    ) -> None:
        self._lines = Lines(stdin, paste_seconds=paste_seconds)
        self._outlet = outlet
        self._screen = outlet.screen
        self._turns = outlet.turns
        self._author = author
        self._now_ns = now_ns
        self._heard: asyncio.Queue[str | _Signal] = asyncio.Queue()
        self._last_id = 0
        self._thread = self._new_thread()
        self._opens = True
        self._attached: tuple[Attachment, ...] = ()
        self._running = False

    async def run(self, mailroom: Mailroom) -> None:
        self._running = True
        try:
            if self._lines.typed:
                await self._converse(mailroom)
            else:
                await self._work_off(mailroom)
        finally:
            self._running = False
            self._turns.on_idle = lambda: None
            self._screen.clear()

    def healthy(self) -> bool:
        return self._running

    def interrupt(self) -> None:
        """What Ctrl-C does; may be called from the event loop's thread only."""
        self._heard.put_nowait(_Signal.INTERRUPT)

    async def _work_off(self, mailroom: Mailroom) -> None:
        async with aclosing(self._lines.entries()) as entries:
            async for line in entries:
                if not line.strip():
                    continue
                if self._screen.gone or not await self._hear(mailroom, line):
                    return
                await self._turns.wait_idle()

    async def _converse(self, mailroom: Mailroom) -> None:
        self._turns.on_idle = lambda: self._screen.prompt(PROMPT)
        self._screen.say(GREETING)
        self._screen.prompt(PROMPT)
        with self._interrupts():
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(), name="console reader")
                while await self._obey(mailroom, await self._heard.get()):
                    if self._turns.idle:
                        self._screen.prompt(PROMPT)
                reading.cancel()
        if not self._turns.idle:
            await self._stop(mailroom)  # or the answer would come out of the blue in the next session
        self._screen.say("")

    async def _read(self) -> None:
        async with aclosing(self._lines.entries()) as entries:
            async for entry in entries:
                self._heard.put_nowait(entry)
        self._heard.put_nowait(_Signal.END)

    async def _obey(self, mailroom: Mailroom, heard: str | _Signal) -> bool:
        """Do what was said; False to leave."""
        match heard:
            case _Signal.END:
                return False
            case _Signal.INTERRUPT:
                if self._turns.idle:
                    return False
                await self._stop(mailroom)
            case _:
                self._screen.typed()
                rest = heard.strip()
                while rest and rest.split(maxsplit=1)[0] in COMMANDS:
                    command, _, rest = rest.partition("\n")
                    rest = rest.lstrip()
                    if not await self._hear(mailroom, command):
                        return False
                return not rest or await self._hear(mailroom, rest)
        return True

    async def _hear(self, mailroom: Mailroom, text: str) -> bool:
        """One message or command; False to leave. What goes wrong is told."""
        try:
            return await self._act(mailroom, text.strip())
        except Rejected as error:
            self._screen.say(error.user_text)
        except ThreadbotError:
            self._screen.say("That could not be taken just now: please say it again in a moment.")
        return True

    async def _act(self, mailroom: Mailroom, text: str) -> bool:
        command, _, argument = text.partition(" ") if "\n" not in text else ("", "", "")
        match command:
            case "/quit":
                return False
            case "/help":
                self._screen.say(HELP)
            case "/new":
                if not self._turns.idle:
                    await self._stop(mailroom)
                self._thread, self._opens = self._new_thread(), True
                self._screen.say("A new conversation.")
            case "/stop":
                await self._stop(mailroom)
            case "/attach":
                await self._attach(argument.strip())
            case _ if command.startswith("/"):
                self._screen.say(f"There is no command {command}: /help lists them.")
            case _:
                await self._put(mailroom, text)
        return True

    async def _attach(self, typed: str) -> None:
        if not typed:
            raise Rejected("Name the file: /attach FILE.")
        attachment = await asyncio.to_thread(files.attach, typed, self._outlet.limits.upload_bytes)
        self._attached = (*self._attached, attachment)
        if self._lines.typed:
            self._screen.say(f"{attachment.name} goes along with your next message.")

    async def _put(self, mailroom: Mailroom, text: str) -> None:
        message = Message(
            id=self._next_id(),
            thread=self._thread,
            author=self._author,
            text=text,
            attachments=self._attached,
            private=True,
            opens=self._opens,
        )
        self._turns.asked(message.id)  # before the mailroom knows it: the answer may end before `put` returns
        try:
            taken = await mailroom.put(message)
        except ThreadbotError:
            self._turns.forget({message.id})
            raise
        self._attached, self._opens = (), False
        if not taken:
            self._turns.forget({message.id})
            self._screen.say("Nobody here answers that: check the settings of the console.")

    async def _stop(self, mailroom: Mailroom) -> None:
        if not await mailroom.stop(self._thread) and self._turns.idle:
            self._screen.say("There is nothing to stop.")
        elif not self._turns.idle:
            self._turns.forget_waiting()

    def _new_thread(self) -> ThreadKey:
        return ThreadKey("console", "local", "terminal", uuid.uuid4().hex)

    def _next_id(self) -> str:
        """Grows also from process to process: the mailbox remembers ids."""
        self._last_id = max(self._last_id + 1, self._now_ns())
        return str(self._last_id)

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)
