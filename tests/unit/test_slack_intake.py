"""What is kept while the store is away: in bounds, in order, and not for ever."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from adapters.slack import intake as module
from adapters.slack.api import Api
from adapters.slack.intake import Intake
from adapters.slack.names import Names
from adapters.slack.wire import Deed, Put, Stop
from bot.domain import Author, Message, ThreadKey
from bot.errors import Misconfigured, Retryable
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


class Picky(Mailroom):
    """Cannot store what these say."""

    def __init__(self, failures: dict[str, Exception]) -> None:
        super().__init__()
        self.failures = failures

    async def put(self, message: Message) -> bool:
        if error := self.failures.get(message.text):
            raise error
        return await super().put(message)


def picky(clock: HandClock, **failures: Exception) -> tuple[Intake, Picky]:
    intake = Intake(Names(Api(token="xoxb-1")), clock)
    mailroom = Picky({name.replace("_", " "): error for name, error in failures.items()})
    intake.open(mailroom)
    return intake, mailroom


@pytest.mark.parametrize("error", [Retryable("away"), ConnectionError(), Misconfigured("password")])
async def test_a_thread_that_waits_does_not_hold_up_the_others(error: Exception) -> None:
    intake, mailroom = picky(HandClock(), line_1=error)
    assert not await intake.take(put(1, thread=1))
    assert not await intake.take(put(2, thread=1))
    assert await intake.take(put(3, thread=2))
    mailroom.failures.clear()
    async with running(intake.drain()):
        await eventually(lambda: intake.kept == 0)
    assert [fact[1].text for fact in mailroom.log] == ["line 3", "line 1", "line 2"]


async def test_threads_that_wait_do_not_starve_those_behind_them() -> None:
    failing = {f"line_{n}": Retryable("away") for n in range(7)}
    intake, mailroom = picky(clock := HandClock(), **failing)
    for n in range(10):
        await intake.take(put(n, thread=n))
    assert mailroom.log == []  # it looks like an outage
    async with running(intake.drain()):
        await mailroom.until(lambda: len(mailroom.log) == 3)
    assert sum(clock.slept) < 10
    assert intake.kept == 7


async def test_what_can_never_be_stored_is_dropped_at_once_and_logged_without_its_text() -> None:
    intake, mailroom = picky(HandClock(), line_1=RuntimeError("line 1"))
    with capture_logs() as logs:
        assert not await intake.take(put(1))
        assert await intake.take(put(2))
    assert intake.kept == 0
    (event,) = logs
    assert (event["event"], event["error"]) == ("slack.deed_broken", "RuntimeError")
    assert "line 1" not in str(logs)

    mailroom.failures = {"line 3": Retryable("away")}
    await intake.take(put(3))
    await intake.take(put(4))
    mailroom.failures = {"line 3": RuntimeError("a bug")}
    async with running(intake.drain()):
        await eventually(lambda: intake.kept == 0)
    assert [fact[1].text for fact in mailroom.log] == ["line 2", "line 4"]


@pytest.mark.parametrize("others", [0, 3])
async def test_who_waits_in_line_does_not_overtake_who_gave_up(
    monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    intake, mailroom = build(HandClock())
    monkeypatch.setattr(module, "STORE_SECONDS", 0.05)
    mailroom.hang = True
    first = asyncio.create_task(intake.take(put(1)))
    await mailroom.until(lambda: mailroom.attempts)
    monkeypatch.setattr(module, "STORE_SECONDS", 5.0)
    mailroom.hang, mailroom.away = False, True
    for n in range(others):
        await intake.take(put(n, thread=2 + n))
    mailroom.away = False
    second = asyncio.create_task(intake.take(put(2)))
    assert not any(await asyncio.gather(first, second))
    assert mailroom.log == []
    async with running(intake.drain()):
        await eventually(lambda: intake.kept == 0)
    said = [fact[1] for fact in mailroom.log]
    assert [message.text for message in said if message.thread.root == "1.1"] == ["line 1", "line 2"]


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
