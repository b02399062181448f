"""Delivery: what a person sees while an answer grows, whatever the platform does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bot.delivery import Delivery, Pace
from bot.domain import Author, Limits, Message, Post, ThreadKey, Turn
from bot.errors import Ambiguous, LeaseLost, PostGone, Rejected, Retryable
from bot.record import Record
from tests.fakes.screen import FakeClock, Notebook, Processed, Screen

THREAD = ThreadKey("screen", "W", "C", "1")
TURN = Turn("1", THREAD, (Message("1", THREAD, Author("U1"), "hello"),))


class Rig:
    def __init__(self, turn: Turn = TURN, screen: Screen | None = None) -> None:
        self.clock = FakeClock()
        self.screen = screen or Screen()
        self.desk = Notebook()
        self.record = Record(turn, self.desk, self.clock)
        self.pace = Pace(self.screen.limits, self.clock)
        self.delivery = Delivery(self.record, self.screen, self.pace, self.clock)

    async def until(self, text: str) -> None:
        async with asyncio.timeout(5):
            while text not in "".join(self.screen.texts()):
                await asyncio.sleep(0)


async def test_the_first_text_is_shown_at_once() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        delivery.show("H")
        await rig.until("H")
        assert rig.clock.slept == []
        assert delivery.first_shown_at == rig.clock.time


async def test_the_latest_text_wins_and_edits_keep_the_pace() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        for number in range(1, 91):
            delivery.show("x" * number)
            if number % 30 == 0:
                await rig.until("x" * number)
        await delivery.finish("x" * 90 + "!")
    assert rig.screen.texts() == ["x" * 90 + "!"]
    assert len(rig.screen.calls) <= 5
    assert all(wait == pytest.approx(1.0) for wait in rig.clock.slept)
    assert next(iter(rig.screen.posts.values())).stage == "last"


async def test_a_long_answer_arrives_whole_in_several_posts() -> None:
    rig = Rig()
    text = "\n\n".join(f"Paragraph {number} says what it says." for number in range(40))
    async with rig.delivery as delivery:
        for end in range(0, len(text), 50):
            delivery.show(text[:end])
            await asyncio.sleep(0)
        await delivery.finish(text)
    assert "\n\n".join(rig.screen.texts()) == text
    assert [shown.stage for shown in rig.screen.posts.values()] == ["sealed"] * (
        len(rig.screen.posts) - 1
    ) + ["last"]


async def test_every_post_is_saved_before_the_next_is_made() -> None:
    rig = Rig()
    unsaved: list[set[str]] = []

    def look(_: str) -> None:
        saved = {post.id for post in rig.desk.saved[-1].posts} if rig.desk.saved else set()
        unsaved.append(set(rig.screen.posts) - saved)

    rig.screen.before_call = look
    async with rig.delivery as delivery:
        await delivery.finish("word " * 200)
    assert len(rig.screen.posts) > 5
    assert not any(unsaved)


async def test_a_wait_the_platform_names_is_obeyed_by_all_threads() -> None:
    rig = Rig()
    rig.screen.faults.extend([None, Retryable("429", retry_after=30)])
    async with rig.delivery as delivery:
        delivery.show("one")
        await rig.until("one")
        delivery.show("one two")
        await rig.until("two")
    assert rig.clock.time >= 1030
    assert rig.pace.interval > rig.screen.limits.edit_seconds


async def test_the_end_outlasts_a_storm_of_refusals() -> None:
    rig = Rig()
    rig.screen.faults.extend([Retryable("429", retry_after=7)] * 20 + [Retryable("500")] * 3)
    async with rig.delivery as delivery:
        await delivery.finish("done")
    assert rig.screen.texts() == ["done"]
    assert rig.clock.time >= 1000 + 20 * 7


async def test_the_pace_is_shared_by_the_live_threads() -> None:
    pace = Pace(Limits(post_chars=1, edit_seconds=0.8, edits_per_minute=60, upload_bytes=1), FakeClock())
    pace.live = 1
    assert pace.interval == pytest.approx(1.0)
    pace.live = 50
    assert pace.interval == pytest.approx(50.0)


async def test_a_cut_open_that_happened_is_found_and_edited() -> None:
    rig = Rig()
    rig.screen.faults.append(Processed("reset"))
    async with rig.delivery as delivery:
        delivery.show("one")
        await rig.until("one")
        await delivery.finish("one two")
    assert rig.screen.texts() == ["one two"]
    assert [post.id for post in rig.record.turn.posts] == ["p1"]


async def test_a_cut_open_that_did_not_happen_is_done_again() -> None:
    rig = Rig()
    rig.screen.faults.append(Ambiguous("reset"))
    async with rig.delivery as delivery:
        await delivery.finish("one")
    assert rig.screen.texts() == ["one"]


async def test_a_cut_in_every_call_still_says_everything_once() -> None:
    rig = Rig()
    text = "\n\n".join(f"Paragraph {number} says what it says." for number in range(20))
    rig.screen.faults.extend([Processed("a"), None, Ambiguous("b"), None, Processed("c"), Retryable("d")] * 5)
    async with rig.delivery as delivery:
        await delivery.finish(text)
    assert "\n\n".join(rig.screen.texts()) == text


async def test_a_post_that_cannot_be_edited_any_more_is_replaced() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        delivery.show("one")
        await rig.until("one")
        rig.screen.faults.append(PostGone("archived"))
        await delivery.finish("one two")
    assert rig.screen.texts() == ["one", "one two"]
    assert [post.id for post in rig.record.turn.posts] == ["p2"]


async def test_a_taken_over_turn_goes_on_in_its_posts() -> None:
    screen = Screen()
    rig = Rig(screen=screen)
    async with rig.delivery as delivery:
        delivery.show("word " * 30)
        await rig.until("word")
    taken_over = replace(rig.desk.saved[-1], resumed=True)
    second = Rig(taken_over, screen)
    async with second.delivery as delivery:
        await delivery.finish("word " * 30 + "end")
    assert " ".join(" ".join(screen.texts()).split()) == " ".join(["word"] * 30 + ["end"])


async def test_a_taken_over_turn_finds_the_post_nobody_wrote_down() -> None:
    screen = Screen()
    await screen.open(TURN, "half an ans", "live")
    rig = Rig(replace(TURN, resumed=True), screen)
    async with rig.delivery as delivery:
        await delivery.finish("whole answer")
    assert screen.texts() == ["whole answer"]


async def test_what_an_earlier_longer_try_left_is_taken_back() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        delivery.show("word " * 100)
        await rig.until("word")
        await delivery.finish("short")
    assert rig.screen.texts() == ["short"]
    assert len(rig.record.turn.posts) == 1


async def test_a_lost_lease_says_nothing_more() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        delivery.show("one")
        await rig.until("one")
        rig.desk.lost = LeaseLost("gone")
        with pytest.raises(LeaseLost):
            await delivery.finish("one two")
    assert rig.screen.texts() == ["one"]


async def test_a_refused_live_edit_does_not_cost_the_answer() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        delivery.show("one")
        await rig.until("one")
        rig.screen.faults.append(Rejected("Slack refused this (odd_code)."))
        delivery.show("one two")
        while rig.screen.faults:
            await asyncio.sleep(0)
        delivery.show("one two three")
        await delivery.finish("one two three.")
    assert rig.screen.texts() == ["one two three."]


async def test_a_final_refusal_reaches_the_teller() -> None:
    rig = Rig()
    rig.screen.faults.append(Rejected("The channel is archived."))
    async with rig.delivery as delivery:
        with pytest.raises(Rejected):
            await delivery.finish("one")


async def test_a_bug_in_a_live_edit_does_not_cost_the_answer() -> None:
    rig = Rig()

    def broken(call: str) -> None:
        rig.screen.before_call = lambda _: None
        raise KeyError(call)

    rig.screen.before_call = broken
    async with rig.delivery as delivery:
        delivery.show("one")
        while rig.screen.before_call is broken:
            await asyncio.sleep(0)
        delivery.show("one two")
        await delivery.finish("one two three.")
    assert rig.screen.texts() == ["one two three."]


async def cut(rig: Rig, delivery: Delivery, text: str) -> None:
    """Say it, and be cut when people see it and nobody here knows."""
    rig.screen.lingers = True
    task = asyncio.create_task(delivery.finish(text))
    await rig.until(text)
    task.cancel()
    await asyncio.wait({task})
    rig.screen.lingers = False


async def test_a_post_whose_call_was_cut_is_found_and_edited() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        await cut(rig, delivery, "one")
        await delivery.finish("one two")
    assert rig.screen.texts() == ["one two"]


async def test_an_edit_whose_call_was_cut_is_not_taken_for_what_was_shown_before() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        await delivery.finish("one")
        await cut(rig, delivery, "one two")
        await delivery.finish("one")
    assert rig.screen.texts() == ["one"]


async def test_an_end_that_was_cut_says_nothing_twice_when_it_is_said_again() -> None:
    rig = Rig()
    text = "\n\n".join(f"Paragraph {number} says what it says." for number in range(20))
    async with rig.delivery as delivery:
        for cut_after in range(1, 40):
            task = asyncio.create_task(delivery.finish(text))
            for _ in range(cut_after):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        await delivery.finish(text)
    assert "\n\n".join(rig.screen.texts()) == text


async def test_an_hour_of_refusals_is_the_end() -> None:
    rig = Rig()
    rig.screen.faults.extend([Retryable("503")] * 1000)
    async with rig.delivery as delivery:
        with pytest.raises(Retryable):
            await delivery.finish("done")
    assert rig.clock.time > 1000 + 3600


async def test_posts_ping_nobody() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        await delivery.finish("hi <!channel> and @everyone")
    assert "<!channel>" not in rig.screen.texts()[0]
    assert "@everyone" not in rig.screen.texts()[0]


async def test_leaving_early_leaves_no_task() -> None:
    rig = Rig()
    async with rig.delivery as delivery:
        delivery.show("one")
    assert all("delivery" not in task.get_name() for task in asyncio.all_tasks())
    assert rig.pace.live == 0
    assert Post not in map(type, rig.screen.posts)
