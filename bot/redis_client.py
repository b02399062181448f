"""Our side of Redis: one client for every kind of server, patient while it is away.

Errors are translated by `bot.redis_errors`: a command that cannot be done within the client's patience raises
Retryable (unreachable, loading, failing over, disk full) or at once Misconfigured (credentials, TLS). What remains,
such as WRONGTYPE, is a bug.

A command whose answer got lost is sent again, so it may be *done* twice (measured: while a Cluster recovers, about
one in a hundred of those under way). What must not happen twice belongs in a script that can tell, by a key it set or
by the state it expects to find.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from redis import exceptions as vendor
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.cluster import ClusterPubSub, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from bot.errors import Misconfigured, Retryable
from bot.redis_errors import passing, translate
from bot.redis_url import RedisUrl

RedisClient: TypeAlias = Redis
"""What `connect` yields. On a Cluster it is a RedisCluster in truth: the same commands, keys of one call in one slot."""

Argument: TypeAlias = str | bytes | int | float
T = TypeVar("T")

CONNECTIONS = 64
PATIENCE_SECONDS = 40.0  # a restart, a failover, half a minute of absence
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
SETTINGS: dict[str, Any] = {
    # RESP2: hiredis leaks a list for every RESP3 push, that is for every pub/sub message
    # (https://github.com/redis/hiredis-py/issues/235).
    "protocol": 2,
    "socket_timeout": 5.0,  # listening to pub/sub waits without end (redis-py 8.1, PubSub.listen)
    "socket_connect_timeout": 5.0,
    "health_check_interval": 30,
    "retry": Retry(NoBackoff(), 0),  # ours waits around the whole command, pool and all: `_patiently`
}


@asynccontextmanager
async def connect(
    url: RedisUrl, *, patience: float = PATIENCE_SECONDS, connections: int = CONNECTIONS
) -> AsyncIterator[RedisClient]:
    """A client for the life of the context; connects at the first command, `connections` at most at a time.

    `patience` is how many seconds a command waits for a Redis that is away; cancel it to wait less. What redis-py does
    on a connection of its own, `pipeline()` and `pubsub()`, neither waits nor speaks our errors: for pipelines there
    is `Script.many`.
    """
    client = _client(url, patience, connections)
    try:
        yield cast(RedisClient, client)
    finally:
        await client.close_all()


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What an operator should know. A Redis that forgets or evicts loses messages."""

    server: str  # "valkey 9.1.2"
    appends: bool  # keeps an append-only file
    eviction: str  # "noeviction" is the only right one


async def check(url: RedisUrl, *, patience: float = 2.0) -> RedisFacts:
    """Reach the server once; raise Misconfigured or Retryable with a sentence for the operator."""
    async with connect(url, patience=patience, connections=1) as client:
        await client.ping()
        answer: Any = await client.info("everything")
        # A Cluster answers by node.
        info: dict[str, Any] = answer if "redis_version" in answer else next(iter(answer.values()))
    name = info.get("server_name", "redis")
    version = info.get(f"{name}_version", info["redis_version"])
    return RedisFacts(f"{name} {version}", bool(info["aof_enabled"]), str(info["maxmemory_policy"]))


# --- patience ----------------------------------------------------------------------------------------------------


class PatientRedis(Redis):
    """Waits for its server and speaks our errors."""

    def __init__(
        self, pool: ConnectionPool, url: RedisUrl, patience: float, limit: float | None = None
    ) -> None:
        super().__init__(connection_pool=pool)
        self._url = url
        self._patience = patience
        self._limit = limit

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        attempt: Any = super().execute_command
        return await _patiently(lambda: attempt(*args, **options), self._url, self._patience, self._limit)

    async def together(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """All commands in one round trip; an answer may be the ResponseError of its command."""

        async def attempt() -> list[Any]:
            async with self.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return _complete(await pipeline.execute(raise_on_error=False))

        return await _patiently(attempt, self._url, self._patience, self._limit)

    async def close_all(self) -> None:
        await self.aclose()
        await self.connection_pool.aclose()


class _PatientCluster(RedisCluster):
    __slots__ = ("_patience", "_url")

    def __init__(self, url: RedisUrl, patience: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._url = url
        self._patience = patience

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        ask = super().execute_command

        async def attempt() -> Any:
            with _closed_underneath():
                return await ask(*args, **options)

        return await _patiently(attempt, self._url, self._patience)

    async def together(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        async def attempt() -> list[Any]:
            with _closed_underneath():
                async with self.pipeline() as pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    return _complete(await pipeline.execute(raise_on_error=False))

        return await _patiently(attempt, self._url, self._patience)

    def pubsub(self, *args: Any, **options: Any) -> ClusterPubSub:
        return _ClusterPubSub(self, *args, **options)

    async def close_all(self) -> None:
        await self.aclose()


class _ClusterPubSub(ClusterPubSub):
    """Finds the nodes first: redis-py's own fails with KeyError on a client that has not run a command yet."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        await self.cluster.initialize()
        return await super().execute_command(*args, **options)


@contextmanager
def _closed_underneath() -> Iterator[None]:
    """When a node fails, redis-py 8.1 closes its connections under those who wait on them: `None` has no write."""
    try:
        yield
    except AttributeError as error:
        raise vendor.ConnectionError("the connection was closed") from error


class _BlockingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Asks Sentinel for the primary, and waits for a free connection where redis-py's own raises."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


async def _patiently(
    attempt: Callable[[], Awaitable[T]], url: RedisUrl, patience: float, limit: float | None = None
) -> T:
    """`limit`: seconds of one attempt; None where the connections limit themselves."""
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + patience, FIRST_PAUSE
    while True:
        try:
            async with asyncio.timeout(limit):
                return await attempt()
        except (vendor.RedisError, vendor.RedisClusterException, OSError) as error:
            problem = translate(error, url)
            if problem is None:
                raise
            if not isinstance(problem, Retryable) or loop.time() + pause > deadline:
                raise problem from error
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _complete(answers: list[Any]) -> list[Any]:
    """Raise the first answer that says the server is not ready: then the whole round is made again."""
    for answer in answers:
        if isinstance(answer, Exception) and (
            not isinstance(answer, vendor.ResponseError) or passing(answer)
        ):
            raise answer
    return answers


# --- the client of a URL -----------------------------------------------------------------------------------------


def _client(url: RedisUrl, patience: float, connections: int) -> PatientRedis | _PatientCluster:
    try:
        given: dict[str, Any] = dict(parse_url(url.plain))
    except ValueError as error:  # redis-py names the option, not its value
        raise Misconfigured(f"REDIS_URL {url} has an option that cannot be read: {error}") from None
    try:
        return _make(url, patience, connections, given)
    except TypeError as error:
        raise Misconfigured(f"REDIS_URL {url} has an option that redis-py does not know: {error}") from None


def _make(
    url: RedisUrl, patience: float, connections: int, given: dict[str, Any]
) -> PatientRedis | _PatientCluster:
    for name in ("sentinel_username", "sentinel_password"):
        given.pop(name, None)
    settings = SETTINGS | given
    if url.kind == "cluster":
        settings.pop("connection_class", None)
        settings.pop("db", None)
        # A node's pool raises when it is empty instead of waiting: give it plenty.
        settings.setdefault("max_connections", max(512, connections))
        return _PatientCluster(url, patience, ssl=url.tls, **settings)
    settings.setdefault("max_connections", connections)
    settings["timeout"] = None  # waiting for a free connection is bounded by those who hold them
    limit: float | None = settings.pop("socket_timeout")
    sentinel = _sentinel(url, settings | {"socket_timeout": limit}) if url.kind == "sentinel" else None
    # One limit around the whole attempt. redis-py's own wraps every write in `asyncio.wait_for`: a task each, and on
    # Python 3.11 one that can swallow a cancellation (https://github.com/python/cpython/issues/86296).
    settings["socket_timeout"] = None
    pool: ConnectionPool
    if sentinel is None:
        pool = BlockingConnectionPool(**settings)
        pool.make_connection()  # type: ignore[no-untyped-call]  # raises TypeError now, not at the first command
        return PatientRedis(pool, url, patience, limit)
    for name in ("host", "port", "connection_class"):
        settings.pop(name, None)
    pool = _BlockingSentinelPool(url.service, sentinel, ssl=url.tls, **settings)  # type: ignore[no-untyped-call]  # redis-py's
    return PatientRedis(pool, url, patience, limit)


def _sentinel(url: RedisUrl, settings: dict[str, Any]) -> Sentinel:
    """The daemons share the primary's TLS and timeouts, not its user."""
    own = {
        name: value
        for name, value in settings.items()
        if name.startswith(("ssl_", "socket_", "retry", "protocol"))
    }
    options = dict(url.options)
    for name in ("username", "password"):
        if value := options.get(f"sentinel_{name}"):
            own[name] = value
    return Sentinel(url.hosts, sentinel_kwargs=own | {"ssl": url.tls})  # type: ignore[no-untyped-call]  # redis-py's
