"""What is kept while the store is away: in bounds, in order, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from adapters.slack import intake as module
from adapters.slack.api import Api
from adapters.slack.intake import Intake
from adapters.slack.names import Names
from adapters.slack.wire import Deed, Put, Stop
from bot.domain import Author, Message, ThreadKey
from tests.contract.slack_kit import HandClock, Mailroom, eventually, running


def put(n: int, thread: int = 1) -> Put:
    key = ThreadKey("slack", "T1", "C1", f"{thread}.1")
    return Put(Message(f"{n}.1", key, Author("U1", "alice"), f"line {n}"))


def build(clock: HandClock) -> tuple[Intake, Mailroom]:
    intake = Intake(Names(Api(token="xoxb-1", api_url="http://127.0.0.1:9/api/")), clock)
    mailroom = Mailroom()
    intake.open(mailroom)
    return intake, mailroom


async def test_what_comes_during_an_outage_does_not_overtake_what_is_kept() -> None:
    intake, mailroom = build(HandClock())
    mailroom.away = True
    assert not await intake.take(put(1))
    mailroom.away = False
    assert not await intake.take(put(2))
    assert mailroom.log == []
    async with running(intake.drain()):
        await eventually(lambda: intake.kept == 0)
    assert [fact[1].id for fact in mailroom.log] == ["1.1", "2.1"]
    assert await intake.take(put(3))


async def test_redeliveries_of_what_is_kept_take_no_room() -> None:
    intake, mailroom = build(HandClock())
    mailroom.away = True
    for _ in range(50):
        assert not await intake.take(put(1))
    assert intake.kept == 1


async def test_what_nobody_can_store_is_let_go_after_a_minute() -> None:
    clock = HandClock()
    intake, mailroom = build(clock)
    mailroom.away = True
    await intake.take(put(1))
    async with running(intake.drain()):
        await eventually(lambda: intake.kept == 0)
    assert sum(clock.slept) >= module.KEEP_SECONDS
    assert mailroom.log == []


async def test_the_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROOM", 10)
    intake, mailroom = build(HandClock())
    mailroom.away = True
    for n in range(50):
        await intake.take(put(n))
    assert intake.kept == 10


async def test_a_thread_that_cannot_be_stored_does_not_hold_up_the_others() -> None:
    class Picky(Mailroom):
        async def put(self, message: Message) -> bool:
            if message.thread.root == "1.1":
                raise RuntimeError("poison")
            return await super().put(message)

    intake = Intake(Names(Api(token="xoxb-1")), HandClock())
    mailroom = Picky()
    intake.open(mailroom)
    await intake.take(put(1, thread=1))
    await intake.take(put(2, thread=2))
    async with running(intake.drain()):
        await mailroom.until(lambda: mailroom.log)
    assert mailroom.log[0][1].id == "2.1"


async def test_a_store_that_hangs_is_given_up_in_time_for_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STORE_SECONDS", 0.02)
    intake, mailroom = build(HandClock())
    mailroom.hang = True
    assert not await intake.take(put(1))
    assert intake.kept == 1


async def test_a_stop_is_obeyed_once_however_often_it_comes() -> None:
    intake, mailroom = build(HandClock())
    thread = ThreadKey("slack", "T1", "C1", "1.1")
    deeds: list[Deed] = [Stop(thread, "Ev1"), Stop(thread, "Ev1"), Stop(thread, "Ev2")]
    assert await asyncio.gather(*(intake.take(deed) for deed in deeds)) == [True] * 3
    assert mailroom.count("stop") == 2


async def test_lanes_are_forgotten_when_nobody_is_in_them() -> None:
    intake, _ = build(HandClock())
    await asyncio.gather(*(intake.take(put(n, thread=n % 7)) for n in range(100)))
    assert intake._lanes == {}
