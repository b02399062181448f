"""What a user sees of an answer, whatever Slack does meanwhile: the text once, whole, and quiet."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from adapters.slack.outlet import SlackOutlet
from bot.delivery import Delivery, Pace
from bot.domain import Author, Post, Turn
from bot.errors import Ambiguous, Misconfigured, PostGone, Rejected, Retryable
from bot.record import Record
from tests.contract.slack_kit import HandClock, asked, eventually
from tests.fakes.screen import Notebook
from tests.fakes.slack import SlackServer, pings, visible_text


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer() as server:
        yield server


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def outlet(slack: SlackServer, clock: HandClock) -> AsyncIterator[SlackOutlet]:
    mouth = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, clock=clock)
    yield mouth
    await mouth.close()


def shown(slack: SlackServer, turn: Turn) -> list[str]:
    return slack.texts(turn.thread.channel, turn.thread.root)


def buttons(slack: SlackServer, turn: Turn, post: Post) -> set[str]:
    blocks = slack.message(turn.thread.channel, post.id).blocks
    return {element["action_id"] for block in blocks for element in block.get("elements", ())}


def metadata(slack: SlackServer, turn: Turn, post: Post) -> Any:
    return slack.message(turn.thread.channel, post.id).metadata


# -- streams ------------------------------------------------------------------------------------------------------


async def test_an_answer_streams_and_ends_marked_with_feedback(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "Bec", "live")
    assert (shown(slack, turn), post.kind) == (["Bec"], "stream")
    assert await outlet.edit(turn, post, "Because", "live") == post
    assert shown(slack, turn) == ["Because"]
    done = await outlet.edit(turn, post, "Because so.", "last")
    assert (shown(slack, turn), done) == (["Because so."], Post(post.id, "message"))
    assert metadata(slack, turn, post) == {"event_type": "threadbot_turn", "event_payload": {"turn": turn.id}}
    assert buttons(slack, turn, post) == {"threadbot_feedback"}
    assert [call.method for call in slack.calls] == [
        "chat.startStream",
        "chat.appendStream",
        "chat.stopStream",
    ]
    assert len(outlet._streams) == 0


async def test_a_sealed_post_carries_no_buttons(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "one", "live")
    post = await outlet.edit(turn, post, "one", "sealed")
    assert buttons(slack, turn, post) == set()
    second = await outlet.open(turn, "two", "sealed")
    assert (second.kind, buttons(slack, turn, second), shown(slack, turn)) == (
        "message",
        set(),
        ["one", "two"],
    )


async def test_a_changed_text_replaces_the_stream(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "See [1", "live")
    post = await outlet.edit(turn, post, "See ¹", "live")
    assert (shown(slack, turn), post.kind) == (["See ¹"], "message")
    post = await outlet.edit(turn, post, "See ¹.", "last")
    assert shown(slack, turn) == ["See ¹."]


async def test_a_stream_is_left_before_slack_ends_it(
    slack: SlackServer, outlet: SlackOutlet, clock: HandClock
) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "a", "live")
    clock.at += 239
    assert (await outlet.edit(turn, post, "ab", "live")).kind == "stream"
    clock.at += 2
    post = await outlet.edit(turn, post, "abc", "live")
    assert (post.kind, shown(slack, turn)) == ("message", ["abc"])


@pytest.mark.parametrize("stage", ["live", "last"])
async def test_a_stream_that_expired_early_goes_on_as_a_message(
    slack: SlackServer, outlet: SlackOutlet, stage: Any
) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "a", "live")
    slack.expire_stream(turn.thread.channel, post.id)
    post = await outlet.edit(turn, post, "ab", stage)
    assert (post.kind, shown(slack, turn)) == ("message", ["ab"])
    assert slack.message(turn.thread.channel, post.id).stream == "stopped"


async def test_after_slacks_own_stop_the_text_can_still_be_finished(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack)
    await outlet.activity(turn, None, working=True)
    post = await outlet.open(turn, "a long", "live")
    slack.native_stop(turn.thread.channel, turn.thread.root, slack.alice)
    await outlet.edit(turn, post, "a long … _(stopped)_", "last")
    await outlet.activity(turn, None, working=False)
    assert shown(slack, turn) == ["a long … _(stopped)_"]
    assert slack.thread(turn.thread.channel, turn.thread.root).session == "active"


async def test_another_workers_stream_is_taken_over_in_place(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "half", "live")
    other = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url)
    post = await other.edit(turn, post, "half and", "live")
    assert (post.kind, shown(slack, turn)) == ("message", ["half and"])
    await other.edit(turn, post, "half and whole", "last")
    await other.close()
    assert shown(slack, turn) == ["half and whole"]


async def test_a_stream_saved_as_a_message_can_be_edited(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "half", "live")
    other = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url)
    await other.edit(turn, Post(post.id, "message"), "whole", "last")
    await other.close()
    assert shown(slack, turn) == ["whole"]


async def test_a_stream_that_does_not_close_is_tried_again_and_nothing_is_lost(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "half", "sealed")
    for method, act in (
        ("chat.update", lambda: outlet.edit(turn, post, "half and whole", "last")),
        ("chat.delete", lambda: outlet.remove(post, turn.thread)),
    ):
        slack.faults.add(method, "error:streaming_state_conflict", times=2)
        before = shown(slack, turn)
        with pytest.raises(Retryable):
            await act()
        assert shown(slack, turn) == before
        await act()
        assert shown(slack, turn) == (["half and whole"] if method == "chat.update" else [])


@pytest.mark.parametrize(
    "fault", ["drop_after", "reset", "500", "503", "error:internal_error", "error:msg_too_long"]
)
@pytest.mark.parametrize("stage", ["live", "last"])
async def test_an_append_in_doubt_never_doubles_nor_loses_text(
    slack: SlackServer, outlet: SlackOutlet, fault: str, stage: Any
) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "one ", "live")
    slack.faults.add("chat.appendStream" if stage == "live" else "chat.stopStream", fault)
    post = await outlet.edit(turn, post, "one two ", stage)
    assert (shown(slack, turn), post.kind) == (["one two "], "message")
    await outlet.edit(turn, post, "one two three", "last")
    assert shown(slack, turn) == ["one two three"]
    assert metadata(slack, turn, post)["event_payload"] == {"turn": turn.id}


async def test_an_append_that_was_cut_by_cancellation_is_in_doubt_too(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "one ", "live")
    slack.faults.add("chat.appendStream", "delay", seconds=0.2)
    task = asyncio.create_task(outlet.edit(turn, post, "one two ", "live"))
    await asyncio.wait({task}, timeout=0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await slack.wait_until(lambda: shown(slack, turn) == ["one two "])
    await outlet.edit(turn, post, "one two three", "last")
    assert shown(slack, turn) == ["one two three"]


async def test_too_many_appends_are_the_callers_pace_and_nothing_is_forgotten(
    slack: SlackServer, outlet: SlackOutlet, clock: HandClock
) -> None:
    turn, other = asked(slack), asked(slack)
    post, neighbour = await outlet.open(turn, "a", "live"), await outlet.open(other, "x", "live")
    slack.faults.add("chat.appendStream", "429", retry_after=7)
    with pytest.raises(Retryable) as caught:
        await outlet.edit(turn, post, "ab", "live")
    assert caught.value.retry_after == 7
    with pytest.raises(Retryable):  # nobody asks before Slack's time is over
        await outlet.edit(other, neighbour, "xy", "live")
    assert slack.count("chat.appendStream") == 1
    clock.at += 7
    assert (await outlet.edit(turn, post, "abc", "live")).kind == "stream"
    assert shown(slack, turn) == ["abc"]


async def test_the_end_of_an_answer_waits_a_second_for_the_limit(
    slack: SlackServer, outlet: SlackOutlet, clock: HandClock
) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "a", "live")
    slack.faults.add("chat.stopStream", "429", retry_after=1)
    await outlet.edit(turn, post, "ab", "last")
    assert shown(slack, turn) == ["ab"]
    assert sum(clock.slept) == pytest.approx(1, abs=0.1)


async def test_the_budget_of_starts_is_kept_and_then_messages_are_posted(
    slack: SlackServer, outlet: SlackOutlet, clock: HandClock
) -> None:
    slack.enforce_limits = True
    slack.rates.limits.pop("chat.postMessage")
    kinds = [(await outlet.open(asked(slack), "a", "live")).kind for _ in range(25)]
    assert kinds == ["stream"] * 18 + ["message"] * 7
    assert slack.count("chat.startStream", "429") == 0
    clock.at += 61
    slack.enforce_limits = False
    assert (await outlet.open(asked(slack), "a", "live")).kind == "stream"


# -- where streams are not to be had ------------------------------------------------------------------------------


async def test_a_workspace_that_refuses_streams_is_not_asked_each_time(
    slack: SlackServer, outlet: SlackOutlet, clock: HandClock
) -> None:
    slack.streaming = False
    turn = asked(slack)
    post = await outlet.open(turn, "a", "live")
    await outlet.open(asked(slack), "b", "live")
    assert (post.kind, shown(slack, turn), slack.count("chat.startStream")) == ("message", ["a"], 1)
    assert buttons(slack, turn, post) == {"threadbot_stop"}
    await outlet.edit(turn, post, "ab", "live")
    assert buttons(slack, turn, post) == {"threadbot_stop"}
    await outlet.edit(turn, post, "abc", "last")
    assert (shown(slack, turn), buttons(slack, turn, post)) == (["abc"], {"threadbot_feedback"})
    assert metadata(slack, turn, post)["event_payload"] == {"turn": turn.id}
    slack.streaming = True
    clock.at += 601
    assert (await outlet.open(asked(slack), "c", "live")).kind == "stream"


async def test_a_person_slack_cannot_stream_to_does_not_spoil_it_for_the_others(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack)
    stranger = replace(turn.messages[0], author=Author("U0STRANGER1", "", "T0OTHER0001"))
    foreign = replace(turn, messages=(stranger,))
    assert (await outlet.open(foreign, "a", "live")).kind == "message"
    assert (await outlet.open(turn, "b", "live")).kind == "stream"
    assert slack.calls[0].params["recipient_team_id"] == "T0OTHER0001"


async def test_where_slack_shows_its_own_stop_button_ours_stays_away(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack)
    slack.streaming = False
    await outlet.activity(turn, None, working=True)
    post = await outlet.open(turn, "a", "live")
    assert buttons(slack, turn, post) == set()


async def test_an_open_that_may_have_happened_is_ambiguous_and_found(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    for method, streaming in (("chat.startStream", True), ("chat.postMessage", False)):
        slack.streaming = streaming
        turn = asked(slack)
        slack.faults.add(method, "drop_after")
        with pytest.raises(Ambiguous):
            await outlet.open(turn, "once", "live")
        (post,) = await outlet.find(turn)
        await outlet.edit(turn, post, "once and whole", "last")
        assert shown(slack, turn) == ["once and whole"]


@pytest.mark.parametrize("fault", ["500", "503", "reset"])
async def test_a_post_is_never_repeated_by_itself(
    slack: SlackServer, outlet: SlackOutlet, fault: str
) -> None:
    turn = asked(slack)
    slack.faults.add("chat.postMessage", fault, times=9)
    with pytest.raises(Ambiguous):
        await outlet.open(turn, "once", "last")
    assert slack.count("chat.postMessage") == 1


async def test_an_update_is_repeated_once_because_twice_is_as_good(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "a", "sealed")
    slack.faults.add("chat.update", "drop_after")
    await outlet.edit(turn, post, "b", "last")
    assert (shown(slack, turn), slack.count("chat.update")) == (["b"], 2)
    slack.faults.add("chat.update", "503", times=2)
    with pytest.raises(Retryable):
        await outlet.edit(turn, post, "c", "last")


async def test_nobody_listening_is_retryable() -> None:
    outlet = SlackOutlet(bot_token="xoxb-1", api_url="http://127.0.0.1:9/api/")
    async with SlackServer() as slack:
        turn = asked(slack)
    with pytest.raises(Retryable):
        await outlet.open(turn, "a", "last")
    await outlet.close()


async def test_blocks_that_slack_dislikes_are_left_away(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    slack.faults.add("chat.postMessage", "error:invalid_blocks", where=lambda params: "blocks" in params)
    slack.faults.add("chat.update", "error:msg_blocks_too_long", where=lambda params: "blocks" in params)
    post = await outlet.open(turn, "a", "sealed")
    await outlet.edit(turn, post, "a **b**", "last")
    assert (shown(slack, turn), metadata(slack, turn, post)["event_payload"]) == (
        ["a **b**"],
        {"turn": turn.id},
    )


async def test_the_longest_post_fits_every_way(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    text = ("word " * 3000)[: outlet.limits.post_chars]
    post = await outlet.open(turn, text[:50], "live")
    await outlet.edit(turn, post, text, "last")
    post = await outlet.open(turn, text, "sealed")
    await outlet.edit(turn, post, text, "last")
    assert [text == seen for seen in shown(slack, turn)] == [True, True]


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "message"])
async def test_what_the_model_writes_pings_nobody_and_unfurls_nothing(
    slack: SlackServer, outlet: SlackOutlet, clock: HandClock, streaming: bool
) -> None:
    evil = "<!channel> <!here|x> <!everyone> <@U0000000002> <@W1|x> <!subteam^S1|y> https://evil.example/?q=1"
    turn = asked(slack)
    slack.streaming = streaming
    record = Record(turn, Notebook(), clock)

    def read() -> list[str]:
        said = [slack.message(turn.thread.channel, post.id) for post in record.turn.posts]
        assert not any(pings(message) for message in said)
        return [visible_text(message).replace("\u200b", "") for message in said]

    def shows(text: str) -> bool:
        return read() == [text]

    async with Delivery(record, outlet, Pace(outlet.limits, clock), clock) as delivery:
        for cut in range(1, len(evil)):
            delivery.show(evil[:cut])
            await eventually(partial(shows, evil[:cut]))
        # Neutralising never takes back what was appended to a stream.
        assert [post.kind for post in record.turn.posts] == ["stream" if streaming else "message"]
        await delivery.finish(evil)
    assert read() == [evil]
    for call in slack.calls:
        if call.method == "chat.postMessage":
            assert (call.params["unfurl_links"], call.params["unfurl_media"]) == (False, False)
        assert "<" not in call.params.get("text", "")


async def test_a_table_stays_a_table(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    post = await outlet.open(turn, "| a | b |\n|---|---|\n| 1 | 2 |", "sealed")
    (block,) = slack.message(turn.thread.channel, post.id).blocks
    assert (block["type"], block["text"]) == ("markdown", "| a | b |\n|---|---|\n| 1 | 2 |")


# -- posts that go away, places one may not write ------------------------------------------------------------------


async def test_a_post_that_somebody_deleted_is_gone(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    stream, post = await outlet.open(turn, "a", "live"), await outlet.open(turn, "b", "sealed")
    for gone in (stream, post):
        slack.delete(turn.thread.channel, gone.id)
        with pytest.raises(PostGone):
            await outlet.edit(turn, gone, "abc", "last")


async def test_taking_a_post_back_twice_is_fine(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    stream, post = await outlet.open(turn, "a", "live"), await outlet.open(turn, "b", "sealed")
    slack.faults.add("chat.delete", "error:streaming_state_conflict")
    for _ in range(2):
        await outlet.remove(stream, turn.thread)
        await outlet.remove(post, turn.thread)
    assert shown(slack, turn) == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("not_in_channel", Rejected),
        ("is_archived", Rejected),
        ("something_new", Rejected),
        ("invalid_auth", Misconfigured),
        ("missing_scope", Misconfigured),
        ("service_unavailable", Retryable),
        ("fatal_error", Ambiguous),
    ],
)
async def test_each_refusal_says_what_to_do(
    slack: SlackServer, outlet: SlackOutlet, code: str, error: type[Exception]
) -> None:
    turn = asked(slack)
    slack.faults.add("chat.*", f"error:{code}", times=2)
    with pytest.raises(error) as caught:
        await outlet.open(turn, "a", "last")
    assert caught.value.__cause__ is not None


# -- find ----------------------------------------------------------------------------------------------------------


async def test_find_sees_this_turns_posts_and_no_others(slack: SlackServer, outlet: SlackOutlet) -> None:
    first = asked(slack)
    root = first.thread.root
    old = await outlet.open(first, "first answer", "live")
    second = asked(slack, "and?", thread_ts=root)  # while the first is still being answered
    await outlet.edit(first, old, "first answer", "sealed")
    await outlet.open(first, "its second part", "last")
    slack.bot_says(slack.general, slack.bot("other"), "beep", root)
    slack.say(slack.general, slack.bob, "hm", root)
    mine = await outlet.open(second, "one", "sealed")
    stream = await outlet.open(second, "two", "live")
    other = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url)
    await other.upload(second, "chart.png", "image/png", b"png")
    assert await other.find(second) == (Post(mine.id, "message"), Post(stream.id, "stream"))
    known = replace(second, posts=(Post(mine.id, "message"), Post(stream.id, "stream")))
    assert await other.find(known) == known.posts
    await other.close()


async def test_find_reads_on_in_a_long_thread(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    for n in range(450):
        slack.say(slack.general, slack.bob, f"{n}", turn.thread.root)
    post = await outlet.open(turn, "late", "last")
    assert await outlet.find(turn) == (post,)
    assert slack.count("conversations.replies") == 3


# -- history --------------------------------------------------------------------------------------------------------


async def test_history_is_what_was_said_before_with_who_said_it(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack, "root")
    root = turn.thread.root
    await outlet.open(turn, "our answer", "last")
    slack.bot_says(slack.general, slack.bot("other"), "beep", root)
    slack.say(slack.general, slack.bob, f"<@{slack.alice}> look &amp; see", root)
    later = asked(slack, "now", thread_ts=root)
    slack.say(slack.general, slack.bob, "after", root)
    before = await outlet.history(later.messages[0], 15)
    assert [message.author.id for message in before] == [slack.alice, slack.bot_user_id, slack.bob]
    assert before[2].text == f"@{slack.alice} look & see"
    assert [message.text for message in await outlet.history(later.messages[0], 1)] == [before[2].text]
    assert await outlet.history(turn.messages[0], 15) == ()
    assert slack.count("conversations.replies") == 2


async def test_a_thread_whose_first_message_is_gone_has_no_past(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    turn = asked(slack)
    slack.faults.add("conversations.replies", "error:thread_not_found", times=2)
    assert await outlet.find(replace(turn, posts=(Post("1.1", "message"),))) == (Post("1.1", "message"),)
    assert await outlet.history(replace(turn.messages[0], opens=False), 15) == ()


# -- many at once ---------------------------------------------------------------------------------------------------


async def test_two_thousand_open_streams_cost_no_task_and_little_memory(slack: SlackServer) -> None:
    outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, starts_per_minute=10_000)
    turns = [asked(slack) for _ in range(2_000)]
    tasks = len(asyncio.all_tasks())
    tracemalloc.start()
    posts = [await outlet.open(turn, "word " * 2_000, "live") for turn in turns]
    grown = sum(
        stat.size
        for stat in tracemalloc.take_snapshot().statistics("filename")
        if "adapters/slack/streams" in stat.traceback[0].filename
    )
    tracemalloc.stop()
    assert {post.kind for post in posts} == {"stream"}
    assert len(outlet._streams) == 2_000
    assert len(asyncio.all_tasks()) <= tasks + 5  # the fake's connections
    assert grown < 2_000 * 1_000
    await outlet.close()
