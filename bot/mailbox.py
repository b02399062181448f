"""The way in: a gateway's message becomes a stored, announced message, once.

The message is appended and remembered as seen in one script; then its thread's bell rings. Only after that does
the gateway answer its platform. A duplicate rings as well, so a message that was stored but not announced heals
itself when the platform delivers it again. Deliveries overtake each other: a line of a thread that is not ours yet is
kept for a while, in case the mention above it is still on its way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import structlog

from bot.domain import Message, ThreadKey
from bot.redis_client import RedisClient
from bot.scripts import ACTIVE, AMEND, PUT, STOP, STOPS, WITHDRAW, key
from bot.store import KEEP_SECONDS, MESSAGE, SEEN_SECONDS

_log = structlog.get_logger()

EARLY_SECONDS = (
    600  # Slack redelivers a mention within six minutes, and what was said after it may be here first
)
EARLY_LINES = 20  # of a thread that may never be ours


class RedisMailroom:
    """The Mailroom port on Redis. `ring(thread, key)` announces; `follows(thread)` is the channel's policy."""

    def __init__(
        self,
        redis: RedisClient,
        *,
        ring: Callable[[ThreadKey, str], Awaitable[None]],
        follows: Callable[[ThreadKey], bool],
    ) -> None:
        self._redis = redis
        self._ring = ring
        self._follows = follows

    async def put(self, message: Message) -> bool:
        thread = message.thread
        if not message.addressed and not self._follows(thread):
            return False
        stored, early = await PUT(
            self._redis,
            [
                key(thread, f"seen:{message.id}"),
                key(thread, "inbox"),
                key(thread, "mail"),
                key(thread, "head"),
                key(thread, "early"),
            ],
            [
                message.id,
                MESSAGE.dump_json(message),
                int(message.addressed),
                SEEN_SECONDS,
                KEEP_SECONDS,
                int(bool(message.attachments)),
                int(not message.opens),
                EARLY_SECONDS,
                EARLY_LINES,
            ],
        )
        if not stored:
            return False
        if stored == 1:
            _log.info("message.duplicate", thread=str(thread), message=message.id)
        if early and message.addressed:
            await self._catch_up(message)
        await self._ring(thread, message.id)
        return True

    async def _catch_up(self, first: Message) -> None:
        """Store the lines that were said after the message that made the thread ours, but came before it."""
        early = key(first.thread, "early")
        lines = [MESSAGE.validate_json(line) for line in await self._redis.lrange(early, 0, -1)]
        for line in sorted(lines, key=_said):
            if _said(line) > _said(first):
                await self.put(line)
        await self._redis.delete(early)

    async def amend(self, thread: ThreadKey, message: str, text: str) -> bool:
        waiting = await self._redis.hget(key(thread, "mail"), message)
        if waiting is None:
            return False
        amended = replace(MESSAGE.validate_json(waiting), text=text)
        return bool(await AMEND(self._redis, [key(thread, "mail")], [message, MESSAGE.dump_json(amended)]))

    async def withdraw(self, thread: ThreadKey, message: str) -> bool:
        keys = [key(thread, f"seen:{message}"), key(thread, "inbox"), key(thread, "mail")]
        return bool(await WITHDRAW(self._redis, keys, [message, SEEN_SECONDS]))

    async def stop(self, thread: ThreadKey) -> bool:
        if not thread.root:
            names: Any = await self._redis.zrange(ACTIVE, 0, -1)
            held = [ThreadKey.parse(name.decode()) for name in names]
            return any([await self.stop(one) for one in held if replace(one, root="") == thread])
        dropped, turn = await STOP(self._redis, [key(thread, part) for part in ("inbox", "mail", "turn")])
        if turn:
            await self._redis.publish(STOPS, f"{thread} {turn.decode()}")
        return bool(dropped or turn)

    async def feedback(self, thread: ThreadKey, post: str, author: str, *, good: bool) -> None:
        await self._redis.hset(key(thread, "feedback"), f"{post}:{author}", "good" if good else "bad")
        await self._redis.expire(key(thread, "feedback"), KEEP_SECONDS)
        _log.info("feedback.given", thread=str(thread), post=post, good=good)


def _said(message: Message) -> tuple[int, str]:
    """Orders the messages of a channel: their ids are numbers, which grow longer."""
    return len(message.id), message.id
