"""The answer as people see it: growing text becomes paced posts and edits, each saved before the next.

One writer a turn. It always shows the latest text: what arrives while a call is under way, or while the pace says
wait, goes out with the next edit. The end does not wait for the pace. A post that may or may not have happened is
looked up (`Outlet.find`) before anything is posted again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import structlog

from bot.domain import Limits, Stage
from bot.errors import Ambiguous, LeaseLost, Misconfigured, PostGone, Rejected, Retryable
from bot.ports import Clock, Outlet
from bot.record import Record
from bot.text import Splitter, neutralise

_log = structlog.get_logger()
PATIENCE_SECONDS = 3600.0  # a platform that refuses everything for an hour will not get this answer
SETTLE_SECONDS = 0.5  # before looking for a post whose call was cut: the platform may still be writing it
BACKOFF_SECONDS = (0.5, 1, 2, 4, 8, 15, 30)


class Pace:
    """The budget of one platform, shared by all live posts of this process.

    Every live post may be edited once per interval; the interval grows with the number of live posts, and doubles
    (up to eightfold) when the platform says that it was still too much.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._strain = 1.0
        self._closed_until = 0.0
        self.live = 0

    @property
    def interval(self) -> float:
        shared = self.live * 60.0 / self._limits.edits_per_minute
        return max(self._limits.edit_seconds, shared) * self._strain

    def refused(self, retry_after: float | None) -> float:
        """The platform said not now; returns the seconds to wait."""
        self._strain = min(self._strain * 2, 8.0)
        wait = retry_after if retry_after is not None else self.interval
        self._closed_until = max(self._closed_until, self._clock.now() + wait)
        return wait

    def accepted(self) -> None:
        self._strain = max(1.0, self._strain * 0.9)

    async def wait(self, edited_at: float | None) -> None:
        """Wait until a post edited then (None: never) may be edited again."""
        while True:
            due = (
                self._closed_until
                if edited_at is None
                else max(self._closed_until, edited_at + self.interval)
            )
            left = due - self._clock.now()
            if left <= 0:
                return
            await self._clock.sleep(left)


class Delivery:
    """Shows one turn's answer. `show` may be called at any rate; `finish` returns when all of it is visible.

    Use as a context. Leaving it early (a lost lease, a hand-over) says nothing more.
    """

    def __init__(self, record: Record, outlet: Outlet, pace: Pace, clock: Clock) -> None:
        self._record = record
        self._outlet = outlet
        self._pace = pace
        self._clock = clock
        self._splitter = Splitter(outlet.limits.post_chars)
        self._text = ""
        self._shown: dict[str, tuple[str, Stage]] = {}  # post id -> what it surely shows
        self._changed = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._calling = False
        self._ending = False
        self._crashed = False
        self._doubtful: set[str] = set()  # posts of which a call was cut
        self._unsure = record.turn.resumed  # the platform may show a post that nobody wrote down
        self._edited_at: float | None = None
        self.first_shown_at: float | None = None

    async def __aenter__(self) -> Self:
        self._pace.live += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pace.live -= 1
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait({self._writer})

    def show(self, text: str) -> None:
        """Make this the text so far. Raises LeaseLost when the writer met it."""
        if not text or text == self._text:
            return
        self._text = text
        self._changed.set()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name=f"delivery {self._record.turn.thread}")
        else:
            self._raise_lease_lost()

    async def finish(self, text: str) -> None:
        """Make this the whole answer; returns when the platform shows it."""
        self._ending = True
        if self._writer is not None:
            if not self._calling:  # a call under way is let through: cut, it would leave an unknown post
                self._writer.cancel()
            await asyncio.wait({self._writer})
            self._raise_lease_lost()
        self._text = text
        await self.insist(lambda: self._flush(ended=True))

    @property
    def visible(self) -> str:
        """What people surely see, as far as this process knows."""
        return "\n\n".join(
            self._shown[post.id][0] for post in self._record.turn.posts if post.id in self._shown
        )

    def _raise_lease_lost(self) -> None:
        """Nothing else that ended the writer decides anything: the end of the answer is tried all the same."""
        writer = self._writer
        if writer is None or not writer.done() or writer.cancelled() or (error := writer.exception()) is None:
            return
        if isinstance(error, LeaseLost):
            raise error
        if not self._crashed:
            self._crashed = True
            _log.error("edit.crashed", thread=str(self._record.turn.thread), exc_info=error)

    async def _write(self) -> None:
        while not self._ending:
            await self._changed.wait()
            await self._pace.wait(self._edited_at)
            self._changed.clear()
            self._calling = True
            try:
                await self._flush(ended=False)
            except Retryable as error:
                self._pace.refused(error.retry_after)
                self._changed.set()
            except Ambiguous:
                self._changed.set()
            except (Rejected, Misconfigured) as error:
                # It decides nothing: the end of the answer is tried all the same.
                _log.warning("edit.refused", thread=str(self._record.turn.thread), reason=str(error))
                return
            else:
                self._pace.accepted()
            finally:
                self._calling = False
            self._edited_at = self._clock.now()

    async def insist(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it until it is done; the platform's wait is obeyed, an hour of refusals is the end."""
        deadline = self._clock.now() + PATIENCE_SECONDS
        for backoff in itertools.chain(BACKOFF_SECONDS, itertools.repeat(BACKOFF_SECONDS[-1])):
            try:
                await act()
            except (Retryable, Ambiguous) as error:
                if self._clock.now() > deadline:
                    raise
                wait = error.retry_after if isinstance(error, Retryable) else None
                if wait is not None:
                    self._pace.refused(wait)
                await self._clock.sleep(backoff if wait is None else wait)
            else:
                return

    async def _flush(self, *, ended: bool) -> None:
        if self._unsure:
            await self._look()
        parts = self._splitter.feed(neutralise(self._text))
        for index, part in enumerate(parts):
            await self._place(
                index, part, "sealed" if index < len(parts) - 1 else "last" if ended else "live"
            )
        if ended:
            await self._take_back(len(parts))

    async def _place(self, index: int, text: str, stage: Stage) -> None:
        """Make the turn's post number `index` show the text."""
        await self._record.held()
        posts = self._record.turn.posts
        if index >= len(posts):
            return await self._open(text, stage)
        post = posts[index]
        if self._shown.get(post.id) == (text, stage) and post.id not in self._doubtful:
            return None
        self._doubtful.add(post.id)
        try:
            edited = await self._outlet.edit(self._record.turn, post, text, stage)
        except PostGone:
            await self._record.change(posts=(*posts[:index], *posts[index + 1 :]))
            return await self._place(index, text, stage)
        self._doubtful.discard(edited.id)
        self._shown[edited.id] = (text, stage)
        if edited != post:
            await self._record.change(posts=(*posts[:index], edited, *posts[index + 1 :]))
        return None

    async def _open(self, text: str, stage: Stage) -> None:
        try:
            post = await self._outlet.open(self._record.turn, text, stage)
        except (Ambiguous, asyncio.CancelledError):
            _log.warning("post.ambiguous", thread=str(self._record.turn.thread))
            self._unsure = True
            raise
        self._shown[post.id] = (text, stage)
        if self.first_shown_at is None:
            self.first_shown_at = self._clock.now()
        await self._record.change(posts=(*self._record.turn.posts, post))

    async def _look(self) -> None:
        """Take up the posts of this turn that the platform shows and the record does not know."""
        await self._clock.sleep(SETTLE_SECONDS)
        posts = self._record.turn.posts
        known = {post.id for post in posts}
        unknown = tuple(post for post in await self._outlet.find(self._record.turn) if post.id not in known)
        if unknown:
            _log.info("post.found", thread=str(self._record.turn.thread), posts=len(unknown))
            await self._record.change(posts=(*posts, *unknown))
        self._unsure = False

    async def _take_back(self, count: int) -> None:
        """An earlier try of the answer was longer: remove what is left of it."""
        while len(posts := self._record.turn.posts) > count:
            await self._record.held()
            await self._outlet.remove(posts[-1], self._record.turn.thread)
            await self._record.change(posts=posts[:-1])
