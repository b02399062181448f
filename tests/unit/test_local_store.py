"""The store of the local API: transactions share commits, not fates."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import pytest

from bot.local.errors import ApiError
from bot.local.store import Store
from bot.local.tx import Gone, Tx


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store, None]:
    store = Store(tmp_path / "db")
    await store.open()
    yield store
    await store.close()


async def test_a_change_that_fails_is_undone_alone(store: Store) -> None:
    def change(number: int, tx: Tx) -> int:
        tx.insert("thread", {"id": f"t{number}"})
        if number % 3 == 0:
            tx.need("assistant", "asst_x")
        return number

    writes = [store.write(partial(change, number)) for number in range(30)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    for number, result in enumerate(results):
        assert isinstance(result, ApiError) if number % 3 == 0 else result == number
    there = await store.read(lambda tx: [body["id"] for body in tx.all("thread")])
    assert there == [f"t{number}" for number in range(30) if number % 3]


async def test_a_write_is_read_as_soon_as_it_is_acknowledged(store: Store) -> None:
    for number in range(50):
        body = {"id": f"t{number}"}
        await store.write(lambda tx: tx.insert("thread", body))  # noqa: B023  used at once
        assert await store.read(lambda tx: tx.find("thread", body["id"])) == body  # noqa: B023


async def test_a_caller_that_gives_up_undoes_nothing(store: Store) -> None:
    write = asyncio.create_task(store.write(lambda tx: tx.insert("thread", {"id": "t"})))
    await asyncio.wait({write}, timeout=0)
    write.cancel()
    await asyncio.wait({write})
    await store.write(lambda tx: tx.insert("thread", {"id": "u"}))
    assert len(await store.read(lambda tx: tx.all("thread"))) == 2


async def test_a_broken_disk_fails_the_writers_and_not_the_store(store: Store) -> None:
    def break_disk(_tx: Tx) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError):
        await store.write(break_disk)
    await store.write(lambda tx: tx.insert("thread", {"id": "t"}))


async def test_a_deleted_object_cannot_be_saved_back(store: Store) -> None:
    await store.write(lambda tx: tx.insert("thread", {"id": "t"}))
    await store.write(lambda tx: tx.delete_thread("t"))
    with pytest.raises(Gone):
        await store.write(lambda tx: tx.save({"id": "t"}))
