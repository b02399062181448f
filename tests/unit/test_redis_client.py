"""One client for every kind of Redis; it waits for a server that is away, and its scripts survive restarts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from docket import Docket
from redis.exceptions import ResponseError

from bot.errors import Misconfigured, Retryable
from bot.lua import Script
from bot.redis_client import RedisClient, check, connect
from bot.redis_url import RedisUrl
from tests import redis_servers
from tests.redis_servers import SentinelSetup, Server

COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
WRONG = Script("wrong", "return redis.call('LPUSH', KEYS[1], 'x')")


@pytest.fixture(scope="module", params=["single", "tcp", "sentinel", "cluster"])
def started(request: pytest.FixtureRequest) -> Iterator[tuple[Server, RedisUrl]]:
    with tempfile.TemporaryDirectory(prefix="tb", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        match request.param:
            case "single":
                with redis_servers.standalone(place) as one:
                    yield one, RedisUrl.parse(one.url)
            case "tcp":
                with redis_servers.tcp(place) as one:
                    yield one, RedisUrl.parse(one.url.replace("redis://", "valkey://"))
            case "cluster":
                with redis_servers.cluster(place) as one:
                    yield one, RedisUrl.parse(one.url)
            case _:
                with redis_servers.sentinel(place) as setup:
                    yield setup.primary, RedisUrl.parse(setup.url)


@pytest.fixture
def server(started: tuple[Server, RedisUrl]) -> tuple[Server, RedisUrl]:
    """The empty data server of each kind of set-up, with the URL an operator would write."""
    started[0].start()
    started[0].command("FLUSHALL")
    started[0].command("SCRIPT", "FLUSH")
    return started


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisClient]:
    async with connect(RedisUrl.parse(redis_url)) as one:
        yield one


async def test_every_kind_of_redis_takes_commands_scripts_and_many_scripts(
    server: tuple[Server, RedisUrl],
) -> None:
    async with connect(server[1]) as client:
        await client.set("{a}:key", "value")
        assert await client.get("{a}:key") == b"value"
        assert await COUNT(client, ["{a}:n"], [2]) == 2
        calls = [([f"{{{name}}}:n"], [1]) for name in "abcde"]
        assert await COUNT.many(client, calls) == [3, 1, 1, 1, 1]
        assert {key async for key in client.scan_iter(match="*:n")} == {
            f"{{{x}}}:n".encode() for x in "abcde"
        }


async def test_every_kind_of_redis_is_survived_when_it_restarts(server: tuple[Server, RedisUrl]) -> None:
    one, url = server
    async with connect(url) as client:
        assert await COUNT(client, ["{a}:n"], [1]) == 1
        one.restart()
        assert await client.get("{a}:n") == b"1"
        one.restart()
        assert await COUNT(client, ["{a}:n"], [1]) == 2
        one.restart()
        assert await COUNT.many(client, [(["{a}:n"], [1]), (["{b}:n"], [1])]) == [3, 1]


async def test_commands_wait_while_redis_is_away_and_then_are_done(server: tuple[Server, RedisUrl]) -> None:
    one, url = server
    async with connect(url) as client:
        await client.set("{a}:n", 0)
        one.kill()
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(COUNT(client, [f"{{{index}}}:n"], [1])) for index in range(200)]
            together = group.create_task(COUNT.many(client, [(["{a}:n"], [1])]))
            done, _ = await asyncio.wait([*waiting, together], timeout=1)
            assert not done
            await asyncio.to_thread(one.start)
        # Done, and maybe twice: while a Cluster recovers, redis-py closes connections whose answers are on the way.
        assert {task.result() for task in waiting} <= ({1, 2} if url.kind == "cluster" else {1})


async def test_every_kind_of_redis_says_what_it_is(server: tuple[Server, RedisUrl]) -> None:
    facts = await check(server[1])
    assert facts.server.startswith("valkey 9.")
    assert facts.appends
    assert facts.eviction == "noeviction"


async def task() -> None: ...


async def test_docket_takes_the_same_url(server: tuple[Server, RedisUrl]) -> None:
    async with Docket(name="test", url=server[1].for_docket()) as docket:
        docket.register(task)
        await docket.add(task, key="one")()
        async with docket.redis() as client:
            assert await client.xlen(docket.stream_key) == 1


async def test_pub_sub_hears_on_every_kind_of_redis(server: tuple[Server, RedisUrl]) -> None:
    async with connect(server[1]) as client, client.pubsub() as ears:
        await ears.subscribe("news")
        async with asyncio.timeout(10):
            assert (await anext(ears.listen()))["type"] == "subscribe"
            await client.publish("news", "hello")
            assert (await anext(ears.listen()))["data"] == b"hello"


async def test_patience_ends(redis_faults: Server) -> None:
    async with connect(RedisUrl.parse(redis_faults.url), patience=0.2) as client:
        await client.ping()
        redis_faults.kill()
        with pytest.raises(Retryable, match="away"):
            await client.get("key")
        with pytest.raises(Retryable, match="away"):
            await COUNT(client, ["key"], [1])
        with pytest.raises(Retryable, match="away"):
            await COUNT.many(client, [(["key"], [1])])


async def test_a_frozen_redis_counts_as_away(redis_faults: Server) -> None:
    url = RedisUrl.parse(f"{redis_faults.url}?socket_timeout=0.2")
    async with connect(url, patience=0.1) as client:
        await client.ping()
        redis_faults.freeze()
        with pytest.raises(Retryable, match="away"):
            await client.get("key")
        redis_faults.thaw()
        assert await client.get("key") is None


async def test_a_waiting_command_can_be_cancelled(redis_faults: Server) -> None:
    async with connect(RedisUrl.parse(redis_faults.url)) as client:
        await client.ping()
        redis_faults.kill()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.get("key")
        redis_faults.start()
        assert await client.get("key") is None


async def test_more_commands_than_connections_wait_their_turn(redis_url: str) -> None:
    async with connect(RedisUrl.parse(redis_url), connections=4) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(500):
                group.create_task(COUNT(client, ["n"], [1]))
        assert await client.get("n") == b"500"
        assert len(await client.client_list(_type="normal")) <= 5


async def test_a_script_unknown_to_the_server_is_sent_once_and_run_once(client: RedisClient) -> None:
    await client.script_flush()
    assert await COUNT(client, ["n"], [1]) == 1
    assert await client.script_exists(COUNT.sha) == [True]


async def test_only_the_calls_that_did_not_run_are_made_again(client: RedisClient) -> None:
    await client.script_flush()
    # The first call of the round finds no script, the middle one brings it: those after it run at once.
    answers = await COUNT.many(client, [(["n"], [1])] * 3)
    assert sorted(answers) == [1, 2, 3]
    assert await client.get("n") == b"3"


async def test_a_mistake_in_a_script_is_raised_as_it_is(client: RedisClient) -> None:
    await client.set("key", "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await WRONG(client, ["key"])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await WRONG.many(client, [(["list"], []), (["key"], [])])


async def test_keys_of_one_call_in_two_slots_are_a_mistake_that_a_cluster_shows(
    redis_cluster: Server,
) -> None:
    async with connect(RedisUrl.parse(redis_cluster.url), patience=0.2) as client:
        with pytest.raises(Exception, match="slot"):
            await COUNT(client, ["{a}:n", "{b}:n"], [1])


@contextmanager
def locked(folder: Path) -> Iterator[Server]:
    with redis_servers.tcp(folder) as server:
        server.command("ACL", "SETUSER", "bot", "on", ">hunter2", "~*", "+@all")
        server.command("ACL", "SETUSER", "reader", "on", ">hunter2", "~*", "+get")
        server.command("CONFIG", "SET", "requirepass", "hunter2")
        yield server


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ("", "refuses the user or password"),
        (":hunter3@", "refuses the user or password"),
        ("nobody:hunter2@", "refuses the user or password"),
        ("reader:hunter2@", "allow all keys"),
    ],
)
async def test_wrong_credentials_are_the_operators_and_said_at_once(
    short_path: Path, user: str, sentence: str
) -> None:
    with locked(short_path) as server:
        url = RedisUrl.parse(server.url.replace("://", f"://{user}"))
        async with asyncio.timeout(5), connect(url) as client:
            with pytest.raises(Misconfigured, match=sentence) as caught:
                await client.set("key", "value")
    assert "hunter" not in str(caught.value)
    assert "REDIS_URL" in str(caught.value) or "allow" in str(caught.value)


async def test_right_credentials_are_taken(short_path: Path) -> None:
    with locked(short_path) as server:
        async with connect(RedisUrl.parse(server.url.replace("://", "://bot:hunter2@"))) as client:
            assert await client.ping()


async def test_a_database_that_does_not_exist_is_said(short_path: Path) -> None:
    with redis_servers.tcp(short_path) as server:
        url = RedisUrl.parse(server.url.replace("/0", "/99"))
        async with connect(url, patience=1) as client:
            with pytest.raises(Misconfigured, match="no such database"):
                await client.ping()


async def test_a_single_server_under_a_cluster_url_is_said(short_path: Path) -> None:
    with redis_servers.tcp(short_path) as server:
        url = RedisUrl.parse(server.url.replace("redis://", "redis+cluster://"))
        async with connect(url, patience=1) as client:
            with pytest.raises(Misconfigured, match="not a Cluster"):
                await client.ping()


async def test_nobody_listening_is_worth_a_retry(short_path: Path) -> None:
    with pytest.raises(Retryable, match=r"127\.0\.0\.1"):
        await check(RedisUrl.parse(f"redis://:secret@127.0.0.1:{redis_servers.free_port()}/0"), patience=0.1)


async def test_sentinel_is_asked_again_after_the_primary_came_back(redis_sentinel: SentinelSetup) -> None:
    async with connect(RedisUrl.parse(redis_sentinel.url)) as client:
        await client.set("key", "value")
        redis_sentinel.sentinel.restart()
        redis_sentinel.primary.restart()
        assert await client.get("key") == b"value"


async def test_a_service_that_sentinel_does_not_know_is_away(redis_sentinel: SentinelSetup) -> None:
    url = RedisUrl.parse(redis_sentinel.url.replace("/main", "/other"))
    with pytest.raises(Retryable, match="other"):
        await check(url, patience=0.2)


def test_an_option_that_cannot_be_read_is_said(redis_url: str) -> None:
    async def use(url: str) -> Any:
        async with connect(RedisUrl.parse(url)) as client:
            return await client.ping()

    with pytest.raises(Misconfigured, match="socket_timeout"):
        asyncio.run(use(f"{redis_url}?socket_timeout=soon"))
    with pytest.raises(Misconfigured, match="option"):
        asyncio.run(use(f"{redis_url}?colour=blue"))


def test_replies_are_parsed_in_c() -> None:
    assert redis.asyncio.connection.DefaultParser.__name__ == "_AsyncHiredisParser"
