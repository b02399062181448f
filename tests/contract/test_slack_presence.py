"""Showing work: cheaply, with what the workspace has, and without ever failing a turn."""

from __future__ import annotations

import pytest

from adapters.slack.outlet import SlackOutlet
from bot.domain import ToolKind, Turn
from tests.contract.slack_kit import HandClock, asked
from tests.fakes.slack import SlackServer


def log(slack: SlackServer, turn: Turn) -> list[str]:
    return [status for _, status in slack.thread(turn.thread.channel, turn.thread.root).session_log]


async def test_a_session_works_and_rests_with_one_call() -> None:
    async with SlackServer() as slack:
        outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url)
        turn = asked(slack)
        for tool in (None, ToolKind.CODE, ToolKind.SEARCH):
            await outlet.activity(turn, tool, working=True)
        post = await outlet.open(turn, "a", "live")
        await outlet.edit(turn, post, "ab", "last")
        await outlet.activity(turn, None, working=False)
        assert (log(slack, turn)[0], log(slack, turn)[-1]) == ("processing", "active")
        assert slack.count("agents.sessions.setStatus") == 1  # stopping the stream ended it
        await outlet.close()


async def test_a_message_without_a_stream_ends_the_session_by_a_call() -> None:
    async with SlackServer() as slack:
        outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, starts_per_minute=1)
        await outlet.open(asked(slack), "x", "live")
        turn = asked(slack)
        await outlet.activity(turn, None, working=True)
        post = await outlet.open(turn, "a", "live")
        await outlet.edit(turn, post, "ab", "last")
        await outlet.activity(turn, None, working=False)
        assert log(slack, turn) == ["processing", "active"]
        await outlet.close()


async def test_a_stream_that_becomes_a_message_keeps_the_session_working() -> None:
    async with SlackServer() as slack:
        outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url)
        turn = asked(slack)
        await outlet.activity(turn, None, working=True)
        post = await outlet.open(turn, "a [1", "live")
        await outlet.edit(turn, post, "a ¹", "live")
        assert set(log(slack, turn)) == {"processing"}
        await outlet.close()


async def test_the_end_of_work_is_shown_even_when_slack_fails_for_a_moment() -> None:
    async with SlackServer() as slack:
        outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, clock=HandClock())
        turn = asked(slack)
        await outlet.activity(turn, None, working=True)
        slack.faults.add("agents.sessions.setStatus", "500", times=5)
        await outlet.activity(turn, None, working=False)
        assert log(slack, turn)[-1] == "active"
        await outlet.close()


async def test_a_status_that_was_cut_short_is_not_taken_for_shown() -> None:
    async with SlackServer() as slack:
        outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url)
        turn = asked(slack)
        await outlet.activity(turn, None, working=False)
        slack.faults.add("agents.sessions.setStatus", "drop_after", times=99)
        await outlet.activity(turn, None, working=True)
        slack.faults.clear()
        await outlet.activity(turn, None, working=False)
        assert log(slack, turn)[-1] == "active"
        await outlet.close()


async def test_without_agent_sessions_there_is_a_status_line_that_says_what_is_done() -> None:
    async with SlackServer() as slack:
        slack.agent_view = False
        clock = HandClock()
        outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, clock=clock)
        turn = asked(slack)
        for tool in (None, None, ToolKind.CODE, ToolKind.SEARCH):
            await outlet.activity(turn, tool, working=True)
        clock.at += 100  # it would fade after two minutes
        await outlet.activity(turn, ToolKind.SEARCH, working=True)
        await outlet.activity(turn, None, working=False)
        assert [status for _, status in slack.thread(turn.thread.channel, turn.thread.root).status_log] == [
            "is thinking…", "is running code…", "is searching files…", "is searching files…", "",
        ]  # fmt: skip
        assert slack.count("agents.sessions.setStatus") == 1  # remembered
        await outlet.close()


@pytest.mark.parametrize(
    "fault", ["429", "500", "reset", "error:thread_not_found", "error:invalid_auth", "error:odd"]
)
async def test_nothing_that_slack_does_makes_it_raise(fault: str) -> None:
    async with SlackServer() as slack:
        outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, clock=HandClock())
        slack.faults.add("*.setStatus", fault, times=99)
        for working in (True, False):
            await outlet.activity(asked(slack), None, working=working)
        await outlet.close()


async def test_a_thread_without_a_session_does_not_take_them_from_the_others() -> None:
    async with SlackServer() as slack:
        outlet = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url)
        slack.faults.add("agents.sessions.setStatus", "error:thread_not_found")
        await outlet.activity(asked(slack), None, working=True)
        turn = asked(slack)
        await outlet.activity(turn, None, working=True)
        assert log(slack, turn) == ["processing"]
        await outlet.close()
