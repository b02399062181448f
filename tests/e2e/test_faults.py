"""What goes wrong between us and Slack, and what people notice of it: nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.house import House
from tests.e2e.programs import until
from tests.fakes.engine import Say, Script, Wait, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

STOPPED = "_Stopped._"
STORY = " ".join(f"word{number}" for number in range(200)) + " end."


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["agent", "classic"])
async def running_house(request: pytest.FixtureRequest, empty_house: House) -> AsyncIterator[House]:
    """Twice: where Slack has streams and agent sessions, and where it has neither."""
    empty_house.slack.streaming = empty_house.slack.agent_view = request.param == "agent"
    yield await empty_house.staff()
    empty_house.dismiss()


async def ask_all(house: House, count: int, answer: str = STORY) -> list[str]:
    house.engine.default = Script(said(answer, chunks=20, delay=0.05))
    return [house.mention(f"question {number}") for number in range(count)]


async def assert_one_whole_answer_each(
    house: House,
    roots: list[str],
    answer: str = STORY,
    timeout: float = 60.0,  # noqa: ASYNC109
) -> None:
    for root in roots:
        await house.answered(root, answer[-20:], timeout=timeout)
    await house.settled()
    assert [house.texts(root) for root in roots] == [[answer]] * len(roots)
    assert len(house.heard()) == len(roots)


# --- refusals ----------------------------------------------------------------------------------------------------


async def test_a_storm_of_429_delays_the_answer_and_nothing_else(house: House) -> None:
    house.slack.faults.add("chat.*", "429", times=12, retry_after=1)
    house.slack.faults.add("agents.*", "429", times=4, retry_after=1)
    await assert_one_whole_answer_each(house, await ask_all(house, 4))


async def test_slacks_own_rate_limits_are_kept(house: House) -> None:
    house.slack.enforce_limits = True
    await assert_one_whole_answer_each(house, await ask_all(house, 6))


@pytest.mark.parametrize("kind", ["500", "503", "reset", "drop_after"])
async def test_a_third_of_all_posting_calls_fails_and_every_answer_is_there_once(
    house: House, kind: str
) -> None:
    house.slack.faults.add("chat.*", kind, probability=0.33, seed=9)
    await assert_one_whole_answer_each(house, await ask_all(house, 4))


async def test_everything_fails_now_and_then_and_every_answer_is_there_once(house: House) -> None:
    for seed, kind in enumerate(("429", "500", "reset", "drop_after", "delay")):
        house.slack.faults.add("*", kind, probability=0.08, seed=seed, seconds=0.3)
    await assert_one_whole_answer_each(house, await ask_all(house, 5))


# --- streams that end --------------------------------------------------------------------------------------------


async def test_an_answer_that_outlives_its_stream_stays_one_whole_answer(house: House) -> None:
    house.slack.stream_seconds = 0.7
    roots = await ask_all(house, 2)
    await assert_one_whole_answer_each(house, roots)


# --- stop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["Slack's button or ours", "the word", "the word with a mention"])
async def test_stop_means_silence_within_a_second(house: House, how: str) -> None:
    slack = house.slack
    house.engine.default = Script(said(STORY, chunks=200, delay=0.05))
    root = house.mention("tell me a story")
    post = await house.growing(root, "word1")
    match how:
        case "Slack's button or ours" if slack.agent_view:
            slack.native_stop(slack.general, root, slack.alice)
        case "Slack's button or ours":
            slack.press(slack.general, post.ts, "threadbot_stop", user=slack.alice)
        case "the word":
            house.say("stop", root)
        case _:
            house.mention("Stop!", root)
    await assert_silence_follows(house, root)


async def assert_silence_follows(house: House, root: str) -> None:
    stopped_at = time.monotonic()
    reply = await house.answered(root, STOPPED)
    assert reply.versions[-1].at - stopped_at < 1.0
    partial = house.texts(root)[0].removesuffix(STOPPED).strip()
    assert partial
    assert STORY.startswith(partial)
    assert len(house.texts(root)) == 1
    run = house.engine.runs[-1]
    await until(lambda: run.over, "the run is cancelled")
    assert run.body["status"] == "cancelled"
    shown = len(reply.versions)
    house.engine.default = Script()
    house.say("and who are you?", root)  # the thread lives on
    await house.answered(root, "who are you")
    assert len(reply.versions) == shown


# --- sockets -----------------------------------------------------------------------------------------------------


async def test_sockets_that_drop_during_an_answer_and_between_messages_lose_nothing(house: House) -> None:
    slack = house.slack
    house.engine.script(Script((Say("listening"), Wait("dropped"), Say("."))))
    root = house.mention("hear me out")
    await house.growing(root, "listening")
    slack.refuse_sockets = True
    slack.drop_sockets()
    await slack.wait_until(lambda: slack.open_sockets == 0, 10, "the sockets are gone")
    for number in range(5):
        house.say(f"line {number}", root)
    elsewhere = [house.mention(f"while you were deaf {number}") for number in range(5)]
    dialled = slack.count("apps.connections.open")
    await slack.wait_until(lambda: slack.count("apps.connections.open") > dialled + 2, 20, "it dials on")
    slack.refuse_sockets = False
    await slack.wait_for_sockets(2, 30)
    house.engine.open("dropped")
    for asked in (root, *elsewhere):
        await house.answered(asked, "You said: alice: ")
    await house.settled()
    lines = [line for line in _lines(house) if "line" in line]
    assert sorted(lines) == [f"alice: line {number}" for number in range(5)]
    assert [house.texts(other) for other in elsewhere] == [
        [f"You said: alice: while you were deaf {number}"] for number in range(5)
    ]


async def test_sockets_cut_at_any_moment_of_a_conversation_lose_and_double_nothing(house: House) -> None:
    slack = house.slack
    roots = []
    for number in range(12):
        roots.append(house.mention(f"opening {number}"))
        house.say(f"addition {number}", roots[-1])
        slack.drop_sockets(1 + number % 2)
        if number % 3 == 2:
            await slack.wait_for_sockets(1, 20)
        await asyncio.sleep(0)
    said = [f"alice: {what} {number}" for what in ("opening", "addition") for number in range(12)]
    await until(lambda: len(_lines(house)) >= len(said), "everything is heard")
    await house.settled()
    await house.slack.wait_until(
        lambda: sum(len(house.texts(root)) for root in roots) >= len(house.heard()),
        20,
        "every turn is answered",
    )
    for root in roots:
        await house.answered(root)
    assert sorted(_lines(house)) == sorted(said)
    assert sum(len(house.texts(root)) for root in roots) == len(house.heard())


def _lines(house: House) -> list[str]:
    return [line for told in house.heard() for line in told.splitlines()]
