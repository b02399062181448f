"""The half of the console that speaks: prints answers, saves produced files, reads attached ones."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TextIO

from adapters.console import files
from adapters.console.screen import Screen
from adapters.console.turns import Turns
from bot.domain import Attachment, Limits, Message, Post, Stage, ThreadKey, ToolKind, Turn
from bot.errors import Rejected

STATUS = {
    None: "thinking...",
    ToolKind.CODE: "running code...",
    ToolKind.SEARCH: "searching files...",
    ToolKind.FUNCTION: "using a tool...",
}


class ConsoleOutlet:
    """Shares its screen and what it knows of turns with the gateway beside it."""

    def __init__(self, stdout: TextIO, downloads: Path, *, file_bytes: int = 512 * 1024 * 1024) -> None:
        self.screen = Screen(stdout)
        self.turns = Turns()
        self._downloads = downloads
        self._limits = Limits(
            post_chars=1_000_000, edit_seconds=0.05, edits_per_minute=1e9, upload_bytes=file_bytes
        )

    @property
    def limits(self) -> Limits:
        return self._limits

    async def open(self, turn: Turn, text: str, stage: Stage) -> Post:
        self.turns.began(_ids(turn))
        return await self.edit(turn, Post(uuid.uuid4().hex), text, stage)

    async def edit(self, turn: Turn, post: Post, text: str, stage: Stage) -> Post:
        """Print what is new. A post of an earlier process is printed whole: this terminal has not seen it."""
        self.turns.began(_ids(turn))
        self.screen.show(post.id, text, complete=stage != "live")
        return post

    async def remove(self, post: Post, thread: ThreadKey) -> None:
        del thread
        self.screen.withdraw(post.id)

    async def find(self, turn: Turn) -> tuple[Post, ...]:
        """Nothing: printing is never in doubt."""
        del turn
        return ()

    async def activity(self, turn: Turn, tool: ToolKind | None, *, working: bool) -> None:
        """The end of work is the end of the turn: the prompt comes back, or the pipe's next line is read."""
        if working:
            self.turns.began(_ids(turn))
            self.screen.status(STATUS[tool])
            return
        self.screen.clear()
        self.turns.forget(_ids(turn))

    async def upload(self, turn: Turn, name: str, media_type: str, content: bytes) -> str:
        """Save into the downloads folder under a harmless name; returns the path."""
        del turn, media_type
        if len(content) > self._limits.upload_bytes:
            raise Rejected(f"{files.safe_name(name)} is too large to be saved here.")
        path = await asyncio.to_thread(files.save, self._downloads, name, content)
        self.screen.say(f"Saved {path}")
        return str(path)

    def fetch(self, attachment: Attachment) -> AsyncGenerator[bytes, None]:
        return files.read(attachment, self._limits.upload_bytes)

    async def history(self, message: Message, limit: int) -> tuple[Message, ...]:
        del message, limit
        return ()

    async def close(self) -> None:
        self.screen.clear()


def _ids(turn: Turn) -> set[str]:
    return {message.id for message in turn.messages}
