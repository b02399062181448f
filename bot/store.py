"""Leases and turns: who holds a thread, what its turn has come to, what was said before."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog
from pydantic import TypeAdapter, ValidationError

from bot.domain import EngineFile, Exchange, Message, Post, RunRef, ThreadKey, ThreadRef, Turn, Upload
from bot.errors import LeaseLost
from bot.redis_client import RedisClient
from bot.scripts import ACTIVE, CLAIM, DUE, FINISH, FORGET, HANDED_OVER, PARK, RELEASE, RENEW, SAVE, key

SEEN_SECONDS = 24 * 3600  # platforms redeliver for minutes; a day covers delayed events too
KEEP_SECONDS = 90 * 24 * 3600  # a thread nobody wrote to for this long is forgotten
PARKED_SECONDS = 7 * 24 * 3600
LOG_TURNS = 100

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Progress:
    """The part of a Turn that changes; the rest is fixed when the turn is taken.

    Every field has a default: workers of two versions may share a turn while they are being replaced.
    """

    run: RunRef | None = None
    attempt: int = 0
    posts: tuple[Post, ...] = ()
    uploads: tuple[Upload, ...] = ()
    files: tuple[tuple[str, EngineFile], ...] = ()
    notices: tuple[str, ...] = ()


MESSAGE = TypeAdapter(Message)
_BATCH = TypeAdapter(tuple[Message, ...])
_PROGRESS = TypeAdapter(Progress)
_REF = TypeAdapter(ThreadRef)
_EXCHANGE = TypeAdapter(Exchange)


class Lease:
    """A held thread. `renewed_at` is monotonic; `stopped` is the id of a turn that a person stopped, if any."""

    __slots__ = ("renewed_at", "score", "stopped", "thread", "token")

    def __init__(self, thread: ThreadKey, token: str, renewed_at: float, score: float) -> None:
        self.thread = thread
        self.token = token
        self.renewed_at = renewed_at
        self.score = score
        self.stopped = ""


class Store:
    """Times are seconds; every call raises Retryable when Redis is away."""

    def __init__(self, redis: RedisClient, *, lease_seconds: float = 5.0) -> None:
        self._redis = redis
        self.lease_seconds = lease_seconds

    async def claim(self, thread: ThreadKey) -> tuple[Lease, Turn] | Literal["busy", "empty"]:
        """Hold the thread and its turn; "busy": somebody holds it, "empty": there is nothing to answer."""
        lease = Lease(thread, secrets.token_hex(12), time.monotonic(), self._score())
        # Entered among the active first: whoever dies with the answer on its way is looked after.
        answer = await CLAIM.behind(
            self._redis,
            ("ZADD", ACTIVE, "NX", lease.score, str(thread)),
            _keys(thread),
            [lease.token, self._lease_ms],
        )
        if answer[0] == b"busy":
            return "busy"
        if answer[0] == b"empty":
            return "empty"
        turn = await self._read(lease, answer)
        return await self.claim(thread) if turn is None else (lease, turn)

    async def watch(self, lease: Lease) -> None:
        """Make the claim's entry ours: there may have been one of the holder before, who takes it out on leaving."""
        await self._redis.zadd(ACTIVE, {str(lease.thread): lease.score})

    async def save(self, lease: Lease, turn: Turn) -> None:
        """Write the turn's progress and the thread's ref in one step; LeaseLost when it is no longer ours."""
        progress = Progress(turn.run, turn.attempt, turn.posts, turn.uploads, turn.files, turn.notices)
        ref = _REF.dump_json(turn.ref) if turn.ref else b""
        saved = await SAVE(
            self._redis,
            [key(turn.thread, part) for part in ("lease", "turn", "head")],
            [lease.token, turn.id, _PROGRESS.dump_json(progress), ref],
        )
        if not saved:
            raise LeaseLost(f"another worker has {turn.thread}")

    async def finish(self, lease: Lease, turn: Turn, exchange: Exchange) -> Turn | None:
        """Close the turn and take the next one; None when nothing waits: then the lease is given back as well."""
        answer = await FINISH(
            self._redis,
            [*_keys(turn.thread), key(turn.thread, "log")],
            [lease.token, turn.id, _EXCHANGE.dump_json(exchange), KEEP_SECONDS, LOG_TURNS],
        )
        if answer[0] == b"lost":
            raise LeaseLost(f"another worker has {turn.thread}")
        if answer[0] == b"empty":
            await self.forget(turn.thread, lease.score)
            return None
        return await self._read(lease, answer)

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give threads back with their turns unfinished, all in three round trips, and tell the other workers."""
        if leases:
            await RELEASE.many(
                self._redis,
                [([key(x.thread, "lease"), key(x.thread, "turn")], [x.token]) for x in leases],
            )
            now = time.time()
            await self._redis.zadd(ACTIVE, {str(lease.thread): now for lease in leases})
            await self._redis.publish(HANDED_OVER, "")

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew all in one pipeline; returns those that are lost. One loop a process: a loop a lease cannot keep up."""
        if not leases:
            return []
        sent_at, score = time.monotonic(), self._score()
        answers = await RENEW.many(
            self._redis,
            [([key(x.thread, "lease"), key(x.thread, "turn")], [x.token, self._lease_ms]) for x in leases],
        )
        lost = []
        kept: dict[str, float] = {}
        for lease, (held, stopped) in zip(leases, answers, strict=True):
            if not held:
                lost.append(lease)
                continue
            lease.renewed_at, lease.score = sent_at, score
            lease.stopped = stopped.decode()
            kept[str(lease.thread)] = score
        if kept:
            await self._redis.zadd(ACTIVE, kept)
        return lost

    async def due(self, *, limit: int = 100) -> list[tuple[ThreadKey, float]]:
        """Threads whose holder has not renewed in time, each handed to one caller; with the score to `forget` by."""
        now = time.time()
        bump = now + 2.0
        found = await DUE(self._redis, [ACTIVE], [now, bump, limit])
        return [(ThreadKey.parse(thread.decode()), bump) for thread in found]

    async def forget(self, thread: ThreadKey, score: float) -> None:
        """Stop looking after a thread, unless somebody has looked at it since."""
        await FORGET(self._redis, [ACTIVE], [str(thread), repr(score)])

    async def transcript(self, thread: ThreadKey) -> tuple[Exchange, ...]:
        """Finished turns, oldest first; without those that cannot be read."""
        exchanges = []
        for row in await self._redis.lrange(key(thread, "log"), 0, -1):
            try:
                exchanges.append(_EXCHANGE.validate_json(row))
            except ValidationError as error:
                _log.error("exchange.unreadable", thread=str(thread), problems=error.error_count())
        return tuple(exchanges)

    async def _read(self, lease: Lease, answer: list[Any]) -> Turn | None:
        """The turn that was taken. One that cannot be read is put aside: it would stop every worker, one by one.

        None after that: the thread is free, and the sweep looks at it again.
        """
        try:
            return _turn(lease.thread, answer)
        except ValidationError as error:  # whose text would show what people wrote
            _log.error("turn.unreadable", thread=str(lease.thread), problems=error.error_count())
            keys = [key(lease.thread, part) for part in ("lease", "turn", "parked")]
            await PARK(self._redis, keys, [lease.token, PARKED_SECONDS])
            return None

    @property
    def _lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    def _score(self) -> float:
        return round(time.time() + self.lease_seconds, 6)


def _keys(thread: ThreadKey) -> list[str]:
    return [key(thread, part) for part in ("lease", "inbox", "mail", "turn", "head")]


def _turn(thread: ThreadKey, answer: list[Any]) -> Turn:
    state, first, batch, progress, stop, ref, takeovers = answer
    turn = Turn(
        id=first.decode(),
        thread=thread,
        messages=_BATCH.validate_json(batch),
        ref=_REF.validate_json(ref) if ref else None,
        resumed=state == b"resumed",
        takeovers=int(takeovers),
        stopped=bool(stop),
    )
    if not progress:
        return turn
    saved = _PROGRESS.validate_json(progress)
    return replace(
        turn,
        run=saved.run,
        attempt=saved.attempt,
        posts=saved.posts,
        uploads=saved.uploads,
        files=saved.files,
        notices=saved.notices,
    )
