"""Socket Mode: stored, then acknowledged; and no network weather loses a message."""

from __future__ import annotations

import asyncio

import pytest

from bot.errors import Misconfigured
from tests.contract.slack_kit import Mailroom, eventually, gateway, hearing, running
from tests.fakes.slack import SlackServer


async def test_a_mention_is_stored_once_per_message_and_acknowledged() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with hearing(slack, mailroom):
            ts = slack.say(slack.general, slack.alice, f"<@{slack.bot_user_id}> hello")
            await slack.wait_for_delivery()
            (message,) = mailroom.messages
            assert (message.id, message.text, message.author.name) == (ts, "hello", "alice")
            assert [entry.outcome for entry in slack.delivery.log] == ["acked", "acked"]
            assert slack.count("auth.test") == 1
            assert slack.count("users.info") == 1


async def test_the_environment_does_not_configure_bolt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET", "SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET"):
        monkeypatch.setenv(name, "from-the-environment")
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with hearing(slack, mailroom):
            slack.say(slack.general, slack.alice, f"<@{slack.bot_user_id}> hello")
            await slack.wait_for_delivery()
            assert len(mailroom.messages) == 1


async def test_every_kind_of_deed_reaches_the_mailroom() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with hearing(slack, mailroom):
            root = slack.say(slack.general, slack.alice, f"<@{slack.bot_user_id}> hello")
            slack.edit(slack.general, root, f"<@{slack.bot_user_id}> hello!")
            slack.say(slack.general, slack.bob, "stop", root)
            slack.delete(slack.general, root)
            await slack.wait_for_delivery()
            kinds = [fact[0] for fact in mailroom.log]
            assert {kind: kinds.count(kind) for kind in kinds} == {
                "put": 2,
                "amend": 1,
                "stop": 1,
                "withdraw": 1,
            }


async def test_nobody_is_acknowledged_before_the_message_is_stored() -> None:
    async with SlackServer() as slack:
        slack.delivery.ack_seconds = 0.3
        mailroom = Mailroom(hang=True)
        async with hearing(slack, mailroom):
            slack.say(slack.general, slack.alice, "hello")
            await slack.wait_for_delivery()
            assert {entry.outcome for entry in slack.delivery.log} == {"timeout"}


async def test_an_outage_of_the_store_that_outlasts_redelivery_loses_nothing_and_keeps_order() -> None:
    async with SlackServer() as slack:
        slack.delivery.ack_seconds, slack.delivery.retries = 0.05, 1
        mailroom = Mailroom(away=True)
        async with hearing(slack, mailroom, connections=1):
            said = [slack.say(slack.general, slack.alice, "one")]
            said += [slack.say(slack.general, slack.alice, f"line {n}", said[0]) for n in range(5)]
            await slack.wait_for_delivery()
            assert len(slack.delivery.undelivered) == len(said)
            mailroom.away = False
            said.append(slack.say(slack.general, slack.alice, "last", said[0]))
            await mailroom.until(lambda: len(mailroom.messages) == len(said))
            assert [message.id for message in mailroom.messages] == said


async def test_a_redelivered_stop_does_not_end_the_next_answer() -> None:
    async with SlackServer() as slack:
        slack.duplicates = 2
        mailroom = Mailroom()
        async with hearing(slack, mailroom):
            root = slack.say(slack.general, slack.alice, f"<@{slack.bot_user_id}> hello")
            slack.say(slack.general, slack.alice, f"<@{slack.bot_user_id}> stop", root)
            await slack.wait_for_delivery()
            assert mailroom.count("stop") == 1


async def test_lines_of_one_thread_are_stored_in_order_however_slowly_names_are_found() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        slack.faults.add("users.info", "delay", seconds=0.2)
        async with hearing(slack, mailroom, connections=1):
            root = slack.say(slack.general, slack.alice, "one")
            said = [
                root,
                slack.say(slack.general, slack.bob, "two", root),
                slack.say(slack.general, slack.alice, "3", root),
            ]
            await slack.wait_for_delivery()
            assert [fact[1].id for fact in mailroom.log] == said
            assert [fact[1].author.name for fact in mailroom.log] == ["alice", "bob", "alice"]


async def test_a_name_that_slack_does_not_tell_delays_nobody_for_long() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        slack.faults.add("users.info", "hang")
        async with hearing(slack, mailroom):
            slack.say(slack.general, slack.alice, "hello")
            await slack.wait_for_delivery()
            assert slack.delivery.log[0].outcome == "acked"
            assert mailroom.messages[0].author.name == ""


async def test_dropped_sockets_are_replaced_and_nothing_is_lost() -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with hearing(slack, mailroom) as ears:
            for n in range(3):
                slack.drop_sockets()
                slack.say(slack.general, slack.alice, f"line {n}")
                await slack.wait_for_delivery()
            await mailroom.until(lambda: len(mailroom.messages) == 3)
            await slack.wait_for_sockets(2)
            assert ears.healthy()


async def test_sockets_that_went_deaf_are_replaced() -> None:
    async with SlackServer() as slack:
        slack.delivery.ack_seconds = 0.2
        mailroom = Mailroom()
        async with hearing(slack, mailroom):
            deaf = list(slack.delivery.sockets)
            slack.silence_sockets()
            await slack.wait_until(lambda: not set(deaf) & set(slack.delivery.sockets))
            slack.say(slack.general, slack.alice, "hello")
            await slack.wait_for_delivery()
            assert len(mailroom.messages) == 1


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_a_socket_that_slack_takes_back_is_replaced_before_it_is_gone(reason: str) -> None:
    async with SlackServer() as slack:
        mailroom = Mailroom()
        async with hearing(slack, mailroom) as ears:
            retired = list(slack.delivery.sockets)
            slack.disconnect_sockets(reason)
            await slack.wait_for_sockets(4)
            assert set(retired) < set(slack.delivery.sockets)
            slack.say(slack.general, slack.alice, "hello")
            await slack.wait_for_delivery()
            assert len(mailroom.messages) == 1
            assert ears.healthy()


async def test_each_attempt_to_connect_asks_for_a_fresh_url() -> None:
    async with SlackServer() as slack:
        slack.refuse_sockets = True
        ears = gateway(slack)
        async with running(ears.run(Mailroom())):
            await slack.wait_until(lambda: slack.count("apps.connections.open") >= 5)
            assert not ears.healthy()
            slack.refuse_sockets = False
            await slack.wait_for_sockets(2)
            await eventually(ears.healthy)


async def test_slack_being_away_at_the_start_is_waited_for() -> None:
    async with SlackServer() as slack:
        slack.faults.add("auth.test", "503", times=2)
        slack.faults.add("apps.connections.open", "429", times=1, retry_after=1)
        ears = gateway(slack)
        async with running(ears.run(Mailroom())):
            await slack.wait_for_sockets(2)
            await eventually(ears.healthy)


async def test_socket_mode_that_is_switched_off_ends_the_gateway_with_the_fix() -> None:
    async with SlackServer() as slack:
        task = asyncio.create_task(gateway(slack).run(Mailroom()))
        await slack.wait_for_sockets(2)
        slack.disconnect_sockets("link_disabled")
        with pytest.raises(Misconfigured, match="Socket Mode is switched off"):
            await asyncio.wait_for(task, 5)


async def test_a_gateway_that_is_cancelled_leaves_nothing_open() -> None:
    async with SlackServer() as slack:
        before = len(asyncio.all_tasks())
        ears = gateway(slack)
        async with running(ears.run(Mailroom())):
            await slack.wait_for_sockets(2)
        assert not ears.healthy()
        await slack.wait_until(lambda: slack.open_sockets == 0)
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
