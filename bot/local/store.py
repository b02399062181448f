"""SQLite off the event loop: one table of JSON objects, one of active runs.

Work is a plain function of a `Tx`, run whole on a database thread: one hop per transaction, however many
statements. Writers that queue up meanwhile share one commit, each in its own savepoint.

WAL with synchronous=NORMAL: a commit survives the death of the process (`kill -9`), though the last ones may
not survive a power cut (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bot.local.errors import LocalApiError
from bot.local.tx import SCHEMA, Tx

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting:
    change: Callable[[Tx], Any]
    done: asyncio.Future[Any]


class Store:
    """`open` before and `close` after use, in the event loop that uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[_Waiting] = deque()

    async def open(self) -> None:
        """Raises LocalApiError for a file that is no database, or cannot be written."""
        self._loop = asyncio.get_running_loop()
        self._writing = ThreadPoolExecutor(1, "local-api-write")
        self._reading = ThreadPoolExecutor(1, "local-api-read")
        try:
            self._writer = await self._loop.run_in_executor(self._writing, self._connect)
            self._reader = await self._loop.run_in_executor(self._reading, self._connect)
        except sqlite3.Error as exc:
            self._reading.shutdown()
            self._writing.shutdown()
            raise LocalApiError(f"Cannot open the database {self._path}: {exc}.") from exc

    async def close(self) -> None:
        """What was accepted by `write` is committed first."""
        await self._loop.run_in_executor(self._reading, self._reader.close)
        await self._loop.run_in_executor(self._writing, self._writer.close)
        self._reading.shutdown()
        self._writing.shutdown()

    async def read(self, query: Callable[[Tx], T]) -> T:
        """One consistent snapshot that contains every write acknowledged before."""
        return await self._loop.run_in_executor(self._reading, self._read, query)

    async def write(self, change: Callable[[Tx], T]) -> T:
        """Returns after the commit. What `change` raises undoes it, and it alone.

        Writes happen in the order of the calls. A caller cancelled while waiting does not undo its write.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Waiting(change, done))
        self._writing.submit(self._commit_waiting)
        return await done

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA busy_timeout=5000")
            connection.executescript(SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _read(self, query: Callable[[Tx], T]) -> T:
        self._reader.execute("BEGIN")
        try:
            return query(Tx(self._reader))
        finally:
            self._reader.execute("ROLLBACK")

    def _commit_waiting(self) -> None:
        """Everything that waits, in one commit. Called once per write, so it often finds nothing left to do."""
        batch: list[_Waiting] = []
        with suppress(IndexError):
            while True:
                batch.append(self._waiting.popleft())
        if not batch:
            return
        results: list[tuple[Any, BaseException | None]]
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            results = [self._in_savepoint(waiting.change) for waiting in batch]
            self._writer.execute("COMMIT")
        except sqlite3.Error as exc:  # disk full, file gone: nothing of this batch was written
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            results = [(None, exc)] * len(batch)
        self._loop.call_soon_threadsafe(_acknowledge, batch, results)

    def _in_savepoint(self, change: Callable[[Tx], T]) -> tuple[T | None, BaseException | None]:
        self._writer.execute("SAVEPOINT change")
        try:
            result = change(Tx(self._writer))
        except Exception as exc:  # noqa: BLE001  handed to the one who asked
            self._writer.execute("ROLLBACK TO change")
            return None, exc
        finally:
            if self._writer.in_transaction:
                self._writer.execute("RELEASE change")
        return result, None


def _acknowledge(batch: list[_Waiting], results: list[tuple[Any, BaseException | None]]) -> None:
    for waiting, (result, error) in zip(batch, results, strict=True):
        if waiting.done.done():  # the caller was cancelled
            continue
        if error is None:
            waiting.done.set_result(result)
        else:
            waiting.done.set_exception(error)
