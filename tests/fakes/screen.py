"""A platform in memory: an Outlet that shows what a person would see, refuses on demand and forgets nothing.

For laws of delivery and conversation that need exact control over single calls; the platforms' own fakes stand at
the wire.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace

from bot.domain import Attachment, Exchange, Limits, Message, Post, Stage, ThreadKey, ToolKind, Turn
from bot.errors import Ambiguous, PostGone, ThreadbotError


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


@dataclass
class Shown:
    turn: str
    thread: ThreadKey
    text: str
    stage: Stage


@dataclass
class Screen:
    """`faults` are raised by the coming calls, one each (None: that call works); a fault after processing is the
    exception with `processed = True`."""

    post_chars: int = 100
    faults: deque[ThreadbotError | None] = field(default_factory=deque)
    lingers: bool = False  # a post or edit is done, and its answer never comes
    upload_faults: deque[ThreadbotError] = field(default_factory=deque)
    posts: dict[str, Shown] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    uploads: list[tuple[str, bytes]] = field(default_factory=list)
    past: tuple[Message, ...] = ()
    working: bool = False
    before_call: Callable[[str], None] = lambda _: None
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def limits(self) -> Limits:
        return Limits(post_chars=self.post_chars, edit_seconds=1.0, edits_per_minute=600, upload_bytes=1000)

    def texts(self) -> list[str]:
        return [shown.text for shown in self.posts.values()]

    async def open(self, turn: Turn, text: str, stage: Stage) -> Post:
        fault = await self._call("open")
        post = Post(f"p{next(self._ids)}")
        if fault is None or isinstance(fault, Processed):
            self.posts[post.id] = Shown(turn.id, turn.thread, text, stage)
            await self._linger()
        self._raise(fault)
        return post

    async def edit(self, turn: Turn, post: Post, text: str, stage: Stage) -> Post:
        fault = await self._call("edit")
        self._raise(fault)
        if post.id not in self.posts:
            raise PostGone(post.id)
        self.posts[post.id] = Shown(turn.id, turn.thread, text, stage)
        await self._linger()
        return replace(post, kind="edited")

    async def remove(self, post: Post, thread: ThreadKey) -> None:
        self._raise(await self._call("remove"))
        self.posts.pop(post.id, None)

    async def find(self, turn: Turn) -> tuple[Post, ...]:
        self._raise(await self._call("find"))
        return tuple(Post(id_) for id_, shown in self.posts.items() if shown.turn == turn.id)

    async def activity(self, turn: Turn, tool: ToolKind | None, *, working: bool) -> None:
        self.working = working

    async def upload(self, turn: Turn, name: str, media_type: str, content: bytes) -> str:
        await self._call("upload")
        fault = self.upload_faults.popleft() if self.upload_faults else None
        if fault is None or isinstance(fault, Processed):
            self.uploads.append((name, content))
        self._raise(fault)
        return f"f{next(self._ids)}"

    async def fetch(self, attachment: Attachment) -> AsyncGenerator[bytes, None]:
        self._raise(await self._call("fetch"))
        yield self.files[attachment.id]

    async def history(self, message: Message, limit: int) -> tuple[Message, ...]:
        return self.past[-limit:]

    async def close(self) -> None:
        pass

    async def _linger(self) -> None:
        if self.lingers:
            await asyncio.Event().wait()

    async def _call(self, name: str) -> ThreadbotError | None:
        self.before_call(name)
        self.calls.append(name)
        await asyncio.sleep(0)
        return self.faults.popleft() if self.faults else None

    @staticmethod
    def _raise(fault: ThreadbotError | None) -> None:
        if fault is not None:
            raise fault


class Processed(Ambiguous):
    """The call was cut, after the platform had done it."""


@dataclass
class Notebook:
    """A Desk in memory: every saved state, in order. `lost` is raised by the next write."""

    saved: list[Turn] = field(default_factory=list)
    past: tuple[Exchange, ...] = ()
    lost: ThreadbotError | None = None

    async def save(self, turn: Turn) -> None:
        if self.lost is not None:
            raise self.lost
        self.saved.append(turn)
        await asyncio.sleep(0)

    async def held(self) -> None:
        if self.lost is not None:
            raise self.lost

    async def transcript(self) -> tuple[Exchange, ...]:
        return self.past
