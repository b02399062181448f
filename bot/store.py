"""Threads in Redis: who holds one, what its turn has come to, what was said before.

    {thread}:inbox   list    ids of waiting messages, in order of arrival
    {thread}:mail    hash    message id -> message, while it waits
    {thread}:early   list    the newest messages of a thread that is not ours (yet); minutes
    {thread}:seen:ID string  the message was stored before; a day
    {thread}:lease   string  token of the worker that holds the thread; seconds
    {thread}:turn    hash    the open turn: id, batch (fixed), progress (saved step by step), owner, stop
    {thread}:head    hash    the thread map: ref of its twin on the engine, posts of the last turn; months
    {thread}:log     list    finished turns, for engines that forget; months
    tb:active        zset    held threads by the time at which somebody should look after them

All keys of a thread share one hash tag, so each change of state is one script on one Cluster node. The lease is
given back in the same script that finds the inbox empty: nothing is stranded between the last read and the release.
Every write compares the whole token, which is random: a worker that lost its lease can write nothing, also after a
failover that rolled counters back. A script whose answer got lost is sent again, so each does the same thing twice.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import TypeAdapter

from bot.domain import EngineFile, Exchange, Message, Post, RunRef, ThreadKey, ThreadRef, Turn, Upload
from bot.errors import LeaseLost
from bot.redis_client import RedisClient, Script

SEEN_SECONDS = 24 * 3600  # platforms redeliver for minutes; a day covers delayed events too
KEEP_SECONDS = 90 * 24 * 3600  # a thread nobody wrote to for this long is forgotten
LOG_TURNS = 100
ACTIVE = "tb:active"


def key(thread: ThreadKey | str, part: str) -> str:
    return f"tb:{{{thread}}}:{part}"


@dataclass(frozen=True, slots=True)
class Progress:
    """The part of a Turn that changes; the rest is fixed when the turn is taken."""

    run: RunRef | None
    attempt: int
    posts: tuple[Post, ...]
    uploads: tuple[Upload, ...]
    files: tuple[tuple[str, EngineFile], ...]
    notices: tuple[str, ...]


MESSAGE = TypeAdapter(Message)
_BATCH = TypeAdapter(tuple[Message, ...])
_PROGRESS = TypeAdapter(Progress)
_REF = TypeAdapter(ThreadRef)
_EXCHANGE = TypeAdapter(Exchange)
_POSTS = TypeAdapter(tuple[Post, ...])

# Opens the waiting messages as a turn, or reads the turn that is open, or gives the lease back when there is neither.
# KEYS lease inbox mail turn head. Messages withdrawn meanwhile are gone from `mail`.
_TAKE = """
local function take(token)
  if redis.call('EXISTS', KEYS[4]) == 0 then
    local batch, first = {}, nil
    for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
      local message = redis.call('HGET', KEYS[3], id)
      if message then
        first = first or id
        batch[#batch + 1] = message
      end
    end
    redis.call('DEL', KEYS[2], KEYS[3])
    if not first then
      redis.call('DEL', KEYS[1])
      return {'empty'}
    end
    local messages = '[' .. table.concat(batch, ',') .. ']'
    redis.call('HSET', KEYS[4], 'id', first, 'batch', messages, 'owner', token)
    return {'new', first, messages, '', '', redis.call('HGET', KEYS[5], 'ref') or ''}
  end
  redis.call('HSET', KEYS[4], 'owner', token)
  local turn = redis.call('HMGET', KEYS[4], 'id', 'batch', 'progress', 'stop')
  return {'resumed', turn[1], turn[2], turn[3] or '', turn[4] or '', redis.call('HGET', KEYS[5], 'ref') or ''}
end
"""

_CLAIM = Script(
    "claim",
    _TAKE
    + """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {'busy'} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return take(ARGV[1])
""",
)

_SAVE = Script(
    "save",
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'progress', ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], 'ref', ARGV[3]) end
return 1
""",
)

_FINISH = Script(
    "finish",
    _TAKE
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
if redis.call('HGET', KEYS[4], 'id') == ARGV[2] then
  redis.call('DEL', KEYS[4])
  redis.call('HSET', KEYS[5], 'posts', ARGV[3])
  redis.call('EXPIRE', KEYS[5], ARGV[5])
  redis.call('RPUSH', KEYS[6], ARGV[4])
  redis.call('LTRIM', KEYS[6], -ARGV[6], -1)
  redis.call('EXPIRE', KEYS[6], ARGV[5])
end
return take(ARGV[1])
""",
)

_RELEASE = Script(
    "release",
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
)

# A lease that ran out unseen (Redis was away) is ours again when nobody took the turn meanwhile.
_RENEW = Script(
    "renew",
    """
local holder = redis.call('GET', KEYS[1])
local turn = redis.call('HMGET', KEYS[2], 'owner', 'stop')
if holder ~= ARGV[1] and (holder or turn[1] ~= ARGV[1]) then return {0, ''} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, turn[2] or ''}
""",
)

_DUE = Script(
    "due",
    """
local threads = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, thread in ipairs(threads) do redis.call('ZADD', KEYS[1], 'XX', ARGV[2], thread) end
return threads
""",
)

_FORGET = Script(
    "forget",
    "if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('ZREM', KEYS[1], ARGV[1]) end return 0",
)


class Lease:
    """A held thread. `renewed_at` is monotonic; `stopped` is true once a person asked for silence."""

    __slots__ = ("renewed_at", "score", "stopped", "thread", "token")

    def __init__(self, thread: ThreadKey, token: str, renewed_at: float, score: float) -> None:
        self.thread = thread
        self.token = token
        self.renewed_at = renewed_at
        self.score = score
        self.stopped = False


class Store:
    """Leases and turns. Times are seconds; every call raises Retryable when Redis is away."""

    def __init__(self, redis: RedisClient, *, lease_seconds: float = 5.0) -> None:
        self._redis = redis
        self.lease_seconds = lease_seconds

    async def claim(self, thread: ThreadKey) -> tuple[Lease, Turn] | Literal["busy", "empty"]:
        """Hold the thread and its turn; "busy": somebody holds it, "empty": there is nothing to answer."""
        token, score = secrets.token_hex(12), self._score()
        sent_at = time.monotonic()
        # Entered among the active first: whoever dies with the answer on its way is looked after.
        answer = await _CLAIM.behind(
            self._redis,
            ("ZADD", ACTIVE, "NX", score, str(thread)),
            _keys(thread),
            [token, self._lease_ms],
        )
        if answer[0] == b"busy":
            return "busy"
        turn = _turn(thread, answer)
        if turn is None:
            return "empty"
        return Lease(thread, token, sent_at, score), turn

    async def watch(self, lease: Lease) -> None:
        """Make the claim's entry ours: there may have been one of the holder before, who takes it out on leaving."""
        await self._redis.zadd(ACTIVE, {str(lease.thread): lease.score})

    async def save(self, lease: Lease, turn: Turn) -> None:
        """Write the turn's progress and the thread's ref in one step; LeaseLost when it is no longer ours."""
        progress = Progress(turn.run, turn.attempt, turn.posts, turn.uploads, turn.files, turn.notices)
        ref = _REF.dump_json(turn.ref) if turn.ref else b""
        lease_key, _, _, turn_key, head_key = _keys(turn.thread)
        saved = await _SAVE(
            self._redis, [lease_key, turn_key, head_key], [lease.token, _PROGRESS.dump_json(progress), ref]
        )
        if not saved:
            raise LeaseLost(f"another worker has {turn.thread}")

    async def finish(self, lease: Lease, turn: Turn, exchange: Exchange) -> Turn | None:
        """Close the turn and take the next one; None when nothing waits: then the lease is given back as well."""
        answer = await _FINISH(
            self._redis,
            [*_keys(turn.thread), key(turn.thread, "log")],
            [
                lease.token,
                turn.id,
                _POSTS.dump_json(turn.posts),
                _EXCHANGE.dump_json(exchange),
                KEEP_SECONDS,
                LOG_TURNS,
            ],
        )
        if answer[0] == b"lost":
            raise LeaseLost(f"another worker has {turn.thread}")
        following = _turn(turn.thread, answer)
        lease.stopped = False
        if following is None:
            await self.forget(turn.thread, lease.score)
        return following

    async def release(self, lease: Lease) -> None:
        """Give the thread back with its turn unfinished, so that anybody may go on at once."""
        await _RELEASE(self._redis, [key(lease.thread, "lease")], [lease.token])
        await self._redis.zadd(ACTIVE, {str(lease.thread): time.time()})

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew all in one pipeline; returns those that are lost. One loop a process: a loop a lease cannot keep up."""
        if not leases:
            return []
        sent_at, score = time.monotonic(), self._score()
        answers = await _RENEW.many(
            self._redis,
            [([key(x.thread, "lease"), key(x.thread, "turn")], [x.token, self._lease_ms]) for x in leases],
        )
        lost = []
        kept: dict[str, float] = {}
        for lease, (held, stop) in zip(leases, answers, strict=True):
            if not held:
                lost.append(lease)
                continue
            lease.renewed_at, lease.score = sent_at, score
            lease.stopped = lease.stopped or bool(stop)
            kept[str(lease.thread)] = score
        if kept:
            await self._redis.zadd(ACTIVE, kept)
        return lost

    async def due(self, *, limit: int = 100) -> list[tuple[ThreadKey, float]]:
        """Threads whose holder has not renewed in time, each handed to one caller; with the score to `forget` by."""
        now = time.time()
        bump = now + 2.0
        found = await _DUE(self._redis, [ACTIVE], [now, bump, limit])
        return [(ThreadKey.parse(thread.decode()), bump) for thread in found]

    async def forget(self, thread: ThreadKey, score: float) -> None:
        """Stop looking after a thread, unless somebody has looked at it since."""
        await _FORGET(self._redis, [ACTIVE], [str(thread), repr(score)])

    async def transcript(self, thread: ThreadKey) -> tuple[Exchange, ...]:
        """Finished turns, oldest first."""
        rows = await self._redis.lrange(key(thread, "log"), 0, -1)
        return tuple(_EXCHANGE.validate_json(row) for row in rows)

    @property
    def _lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    def _score(self) -> float:
        return round(time.time() + self.lease_seconds, 6)


def _keys(thread: ThreadKey) -> list[str]:
    return [key(thread, part) for part in ("lease", "inbox", "mail", "turn", "head")]


def _turn(thread: ThreadKey, answer: list[bytes]) -> Turn | None:
    if answer[0] == b"empty":
        return None
    state, first, batch, progress, stop, ref = answer
    turn = Turn(
        id=first.decode(),
        thread=thread,
        messages=_BATCH.validate_json(batch),
        ref=_REF.validate_json(ref) if ref else None,
        resumed=state == b"resumed",
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
