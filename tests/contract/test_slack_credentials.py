"""What an operator reads when tokens or scopes are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from bot.errors import Misconfigured, Retryable
from tests.contract.slack_kit import Mailroom, gateway
from tests.fakes.slack import SlackServer


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"bot_token": "xapp-1-A"}, "SLACK_BOT_TOKEN holds an app-level token"),
        ({"bot_token": "xoxp-1-A"}, "SLACK_BOT_TOKEN holds a person's token"),
        ({"bot_token": " "}, "SLACK_BOT_TOKEN is empty"),
        ({"app_token": "xoxb-1"}, "SLACK_APP_TOKEN holds a bot token"),
        ({"app_token": None}, "set SLACK_APP_TOKEN"),
        ({"app_token": None, "signing_secret": "  "}, "must not be empty"),
    ],
)
async def test_tokens_of_the_wrong_kind_are_named_before_anything_is_sent(
    wrong: dict[str, Any], sentence: str
) -> None:
    async with SlackServer() as slack:
        with pytest.raises(Misconfigured) as caught:
            await gateway(slack, **wrong).check()
        assert sentence in str(caught.value)
        assert not slack.calls


async def test_all_problems_come_at_once() -> None:
    async with SlackServer() as slack:
        with pytest.raises(Misconfigured) as caught:
            await gateway(slack, bot_token=slack.app_token, app_token=slack.bot_token).check()
        assert len(caught.value.problems) == 2


async def test_each_missing_scope_is_named_with_its_fix() -> None:
    async with SlackServer() as slack:
        slack.scopes -= {"files:read", "channels:history", "users:read"}
        ears = gateway(slack)
        with pytest.raises(Misconfigured) as caught:
            await ears.check()
        problems = caught.value.problems
        assert [
            name in problem
            for name, problem in zip(("channels:history", "files:read"), problems, strict=True)
        ]
        assert all("reinstall" in problem for problem in problems)
        with pytest.raises(Misconfigured):
            await ears.run(Mailroom())


async def test_a_token_that_slack_refuses_is_never_printed() -> None:
    async with SlackServer() as slack:
        for wrong in ({"bot_token": "xoxb-very-secret"}, {"app_token": "xapp-very-secret"}):
            ears = gateway(slack, **wrong)
            with pytest.raises(Misconfigured, match="does not accept the token") as caught:
                await ears.run(Mailroom())
            assert "secret" not in str(caught.value)


async def test_a_good_set_up_passes_the_check() -> None:
    async with SlackServer() as slack:
        ears = gateway(slack)
        await ears.check()
        assert slack.count("apps.connections.open") == 1
        slack.faults.add("auth.test", "503", times=9)
        fresh = gateway(slack)
        with pytest.raises(Retryable):
            await fresh.check()
