"""The fake Slack, driven by the real SDK: a fake nobody tests lies."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import Limit, SlackServer, pings, visible_text

Json = dict[str, Any]


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer() as server:
        yield server


@pytest.fixture
async def client(slack: SlackServer) -> AsyncIterator[AsyncWebClient]:
    async with aiohttp.ClientSession() as session:
        yield AsyncWebClient(slack.bot_token, base_url=slack.api_url, session=session)


class Listener:
    """A bot's ears: remembers every envelope, acknowledges as told."""

    def __init__(self, slack: SlackServer) -> None:
        self.requests: list[SocketModeRequest] = []
        self.answer = True
        self._slack = slack

    async def hear(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        self.requests.append(request)
        if self.answer:
            await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        self._slack.changed()

    @property
    def events(self) -> list[Json]:
        return [request.payload["event"] for request in self.requests if request.type == "events_api"]

    def kinds(self) -> list[tuple[str, str | None]]:
        return [(event["type"], event.get("subtype")) for event in self.events]


Listen = Callable[[], AbstractAsyncContextManager[Listener]]


@pytest.fixture
def listen(slack: SlackServer) -> Listen:
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)

    @asynccontextmanager
    async def connect() -> AsyncIterator[Listener]:
        listener = Listener(slack)
        web_client = AsyncWebClient(slack.bot_token, base_url=slack.api_url)
        socket = SocketModeClient(slack.app_token, web_client=web_client, logger=quiet, ping_interval=0.1)
        hear: Callable[[AsyncBaseSocketModeClient, SocketModeRequest], Awaitable[None]] = listener.hear
        socket.socket_mode_request_listeners.append(hear)
        before = slack.open_sockets
        await socket.connect()  # type: ignore[no-untyped-call]
        await slack.wait_for_sockets(before + 1)
        try:
            yield listener
        finally:
            await socket.close()  # type: ignore[no-untyped-call]

    return connect


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises(SlackApiError) as caught:
        await call
    return str(caught.value.response["error"])


def ask(slack: SlackServer, text: str = "hello") -> str:
    return slack.say(slack.general, slack.alice, f"<@{slack.bot_user_id}> {text}")


def recipient(slack: SlackServer) -> Json:
    return {"recipient_user_id": slack.alice, "recipient_team_id": slack.team_id}


# -- posting ---------------------------------------------------------------------------------------------------


async def test_a_posted_message_is_seen_updated_and_deleted(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    root = ask(slack)
    posted = await client.chat_postMessage(channel=slack.general, thread_ts=root, text="one &amp; only")
    ts = str(posted["ts"])
    assert ts > root
    await client.chat_update(channel=slack.general, ts=ts, text="two")
    assert slack.texts(slack.general, root) == ["two"]
    await client.chat_delete(channel=slack.general, ts=ts)
    assert slack.texts(slack.general, root) == []
    message = slack.message(slack.general, ts)
    assert message.deleted
    assert [version.text for version in message.versions] == ["one & only", "two"]
    assert await refusal(client.chat_update(channel=slack.general, ts=ts, text="x")) == "message_not_found"


async def test_blocks_hide_text_and_text_alone_removes_blocks(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "shown"}}]
    posted = await client.chat_postMessage(channel=slack.general, text="fallback", blocks=blocks)
    message = slack.message(slack.general, str(posted["ts"]))
    assert visible_text(message) == "shown"
    await client.chat_update(channel=slack.general, ts=message.ts, text="plain")
    assert visible_text(message) == "plain"
    await client.chat_update(channel=slack.general, ts=message.ts, markdown_text="**bold** <!here>")
    assert visible_text(message) == "**bold** <!here>"
    assert pings(message) == ["<!here>"]


async def test_tables_are_text(slack: SlackServer, client: AsyncWebClient) -> None:
    rows = [[{"type": "raw_text", "text": text} for text in row] for row in (("a", "b"), ("1", "2"))]
    posted = await client.chat_postMessage(
        channel=slack.general, text="t", blocks=[{"type": "table", "rows": rows}]
    )
    assert visible_text(slack.message(slack.general, str(posted["ts"]))) == "a | b\n1 | 2"


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"markdown_text": "x" * 12_001}, "msg_too_long"),
        ({"markdown_text": "x", "text": "y"}, "markdown_text_conflict"),
        (
            {"blocks": [{"type": "section", "text": {"type": "plain_text", "text": "x" * 3000}}] * 5},
            "msg_blocks_too_long",
        ),
        ({"blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        (
            {"blocks": [{"type": "table", "rows": [[{"type": "raw_text", "text": "x"}]]}] * 2},
            "invalid_attachments",
        ),
        ({"text": ""}, "no_text"),
        ({"text": "x", "thread_ts": "1.000100"}, "thread_not_found"),
        ({"text": "x", "metadata": {"event_type": "x"}}, "invalid_metadata_format"),
    ],
)
async def test_what_slack_refuses_to_post(
    slack: SlackServer, client: AsyncWebClient, params: Json, error: str
) -> None:
    assert (
        await refusal(client.api_call("chat.postMessage", json={"channel": slack.general, **params})) == error
    )


async def test_long_text_is_cut_silently_and_long_updates_are_refused(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    posted = await client.chat_postMessage(channel=slack.general, text="x" * 50_000)
    ts = str(posted["ts"])
    assert len(visible_text(slack.message(slack.general, ts))) == 40_000
    assert await refusal(client.chat_update(channel=slack.general, ts=ts, text="x" * 4_001)) == "msg_too_long"


async def test_channels_the_bot_is_not_in(slack: SlackServer, client: AsyncWebClient) -> None:
    public = slack.channel("public", (slack.alice,), bot=False)
    secret = slack.channel("secret", (slack.alice,), private=True, bot=False)
    assert await refusal(client.chat_postMessage(channel=public, text="x")) == "not_in_channel"
    assert await refusal(client.chat_postMessage(channel=secret, text="x")) == "channel_not_found"
    assert await refusal(client.chat_postMessage(channel="C404", text="x")) == "channel_not_found"
    others = ask(slack)
    assert (
        await refusal(client.chat_update(channel=slack.general, ts=others, text="x")) == "cant_update_message"
    )


async def test_metadata_comes_back_only_on_request(slack: SlackServer, client: AsyncWebClient) -> None:
    root, metadata = ask(slack), {"event_type": "turn", "event_payload": {"id": "7"}}
    await client.chat_postMessage(channel=slack.general, thread_ts=root, text="x", metadata=metadata)
    plain = await client.conversations_replies(channel=slack.general, ts=root)
    assert [message.get("metadata") for message in plain["messages"]] == [None, None]
    full = await client.conversations_replies(channel=slack.general, ts=root, include_all_metadata=True)
    assert full["messages"][1]["metadata"] == metadata
    assert full["messages"][0]["reply_count"] == 1
    assert (
        await refusal(client.conversations_replies(channel=slack.general, ts="1.0001")) == "thread_not_found"
    )


async def test_replies_are_paged(slack: SlackServer, client: AsyncWebClient) -> None:
    root = ask(slack)
    for n in range(4):
        slack.say(slack.general, slack.bob, str(n), root)
    first = await client.conversations_replies(channel=slack.general, ts=root, limit=3)
    assert first["has_more"]
    cursor = first["response_metadata"]["next_cursor"]
    rest = await client.conversations_replies(channel=slack.general, ts=root, limit=3, cursor=cursor)
    assert [message["text"] for message in rest["messages"]] == ["2", "3"]
    history = await client.conversations_history(channel=slack.general)
    assert [message["ts"] for message in history["messages"]] == [root]


# -- tokens ----------------------------------------------------------------------------------------------------


async def test_tokens_and_scopes(slack: SlackServer, client: AsyncWebClient) -> None:
    assert await refusal(client.auth_test(token="xoxb-wrong")) == "invalid_auth"
    assert await refusal(AsyncWebClient(base_url=slack.api_url).auth_test()) == "not_authed"
    assert await refusal(client.apps_connections_open(app_token=slack.bot_token)) == "not_allowed_token_type"
    assert await refusal(client.api_call("chat.nonsense")) == "unknown_method"
    answer = await client.auth_test()
    assert answer["user_id"] == slack.bot_user_id
    assert "chat:write" in answer.headers["x-oauth-scopes"].split(",")
    slack.scopes.discard("chat:write")
    assert await refusal(client.chat_postMessage(channel=slack.general, text="x")) == "missing_scope"
    assert slack.count("chat.postMessage", "missing_scope") == 1


# -- streaming -------------------------------------------------------------------------------------------------


async def test_a_stream_is_seen_as_it_grows(slack: SlackServer, client: AsyncWebClient) -> None:
    root = ask(slack)
    stream = await client.chat_stream(
        channel=slack.general, thread_ts=root, buffer_size=1, **recipient(slack)
    )
    await stream.append(markdown_text="Hello ")
    assert slack.thread(slack.general, root).session == "processing"
    assert await refusal(client.chat_update(channel=slack.general, ts=stream.ts or "", text="x")) == (
        "streaming_state_conflict"
    )
    await stream.append(markdown_text="world")
    buttons = {"type": "actions", "elements": [{"type": "button", "action_id": "again", "value": "1",
               "text": {"type": "plain_text", "text": "Again"}}]}  # fmt: skip
    await stream.stop(blocks=[buttons])
    reply = await slack.wait_for_reply(slack.general, root, "world")
    assert [version.text for version in reply.versions] == ["Hello ", "Hello world"]
    assert slack.thread(slack.general, root).session == "active"
    ended = client.chat_appendStream(channel=slack.general, ts=reply.ts, markdown_text="x")
    assert await refusal(ended) == "message_not_in_streaming_state"


async def test_a_stream_expires_and_is_repaired_by_an_update(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    root, slack.stream_seconds = ask(slack), 0.01
    started = await client.chat_startStream(
        channel=slack.general, thread_ts=root, markdown_text="half", **recipient(slack)
    )
    message = slack.message(slack.general, str(started["ts"]))
    await slack.wait_until(lambda: message.stream == "expired")
    stopped = client.chat_stopStream(channel=slack.general, ts=message.ts)
    assert await refusal(stopped) == "message_not_in_streaming_state"
    with pytest.raises(AssertionError, match="not within"):
        await slack.wait_for_reply(slack.general, root, "half", timeout=0.01)
    await client.chat_update(channel=slack.general, ts=message.ts, markdown_text="half and half")
    assert await slack.wait_for_reply(slack.general, root) is message


async def test_streams_need_a_recipient_in_channels_only(slack: SlackServer, client: AsyncWebClient) -> None:
    root, dm = ask(slack), slack.dm(slack.alice)
    start = client.chat_startStream
    assert await refusal(start(channel=slack.general, thread_ts=root)) == "missing_recipient_user_id"
    missing_team = start(channel=slack.general, thread_ts=root, recipient_user_id=slack.alice)
    assert await refusal(missing_team) == "missing_recipient_team_id"
    assert (await start(channel=dm, thread_ts=slack.say(dm, slack.alice, "hi")))["ok"]
    slack.streaming = False
    assert await refusal(start(channel=dm, thread_ts=root)) == "unknown_method"


async def test_stream_limits_and_chunks(slack: SlackServer, client: AsyncWebClient) -> None:
    root = ask(slack)
    started = await client.chat_startStream(channel=slack.general, thread_ts=root, **recipient(slack))
    at: Json = {"channel": slack.general, "ts": str(started["ts"])}
    assert await refusal(client.chat_appendStream(**at, markdown_text="x" * 12_001)) == "msg_too_long"
    await client.chat_appendStream(**at, markdown_text="x" * 12_000)
    assert await refusal(client.chat_appendStream(**at, markdown_text="x" * 1_201)) == "msg_blocks_too_long"
    task = {"type": "task_update", "id": "1", "title": "Searching", "status": "in_progress"}
    await client.chat_appendStream(**at, markdown_text="", chunks=[task])
    assert (
        await refusal(client.chat_appendStream(**at, markdown_text="", chunks=[{"type": "?"}]))
        == "invalid_chunks"
    )
    message = slack.message(slack.general, at["ts"])
    assert visible_text(message) == "x" * 12_000
    assert visible_text(message, tasks=True).endswith("\nSearching")


# -- agents and assistants -------------------------------------------------------------------------------------


async def test_session_status_and_the_native_stop(
    slack: SlackServer, client: AsyncWebClient, listen: Listen
) -> None:
    root = ask(slack)
    with pytest.raises(LookupError):
        slack.native_stop(slack.general, root, slack.alice)
    started = await client.chat_startStream(channel=slack.general, thread_ts=root, **recipient(slack))
    async with listen() as bot:
        slack.native_stop(slack.general, root, slack.alice)
        await slack.wait_until(lambda: ("agent_session_stopped", None) in bot.kinds())
    stop = next(event for event in bot.events if event["type"] == "agent_session_stopped")
    assert stop["streaming_message_ts"] == [started["ts"]]
    appended = client.chat_appendStream(channel=slack.general, ts=str(started["ts"]), markdown_text="x")
    assert await refusal(appended) == "message_not_in_streaming_state"
    assert slack.thread(slack.general, root).session == "processing"
    await client.agents_sessions_setStatus(channel_id=slack.general, thread_ts=root, status="active")
    assert slack.thread(slack.general, root).session == "active"


async def test_without_the_agent_view_only_the_old_status_works(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    root, slack.agent_view = ask(slack), False
    refused = client.agents_sessions_setStatus(channel_id=slack.general, thread_ts=root, status="processing")
    assert await refusal(refused) == "not_allowed"
    await client.assistant_threads_setStatus(channel_id=slack.general, thread_ts=root, status="is thinking…")
    assert slack.thread(slack.general, root).status == "is thinking…"
    await client.chat_postMessage(channel=slack.general, thread_ts=root, text="done")
    assert slack.thread(slack.general, root).status == ""


async def test_suggested_prompts_with_a_thread_fail_silently_for_agents(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    dm = slack.dm(slack.alice)
    root, prompts = slack.say(dm, slack.alice, "hi"), [{"title": "t", "message": "m"}]
    await client.assistant_threads_setSuggestedPrompts(channel_id=dm, thread_ts=root, prompts=prompts)
    assert slack.thread(dm, root).prompts == []
    await client.assistant_threads_setSuggestedPrompts(channel_id=dm, prompts=prompts)
    assert slack.thread(dm, "").prompts == prompts


# -- events over sockets ---------------------------------------------------------------------------------------


async def test_a_mention_arrives_twice_with_one_ts(slack: SlackServer, listen: Listen) -> None:
    async with listen() as bot:
        ts = ask(slack)
        await slack.wait_until(lambda: len(bot.events) == 2)
        message, mention = bot.events
        assert (message["type"], mention["type"]) == ("message", "app_mention")
        assert message["ts"] == mention["ts"] == ts
        assert message["channel_type"] == "channel"
        assert "channel_type" not in mention
        first, second = (request.payload["event_id"] for request in bot.requests)
        assert first != second
        slack.mention_first = True
        ask(slack)
        await slack.wait_until(lambda: len(bot.events) == 4)
        assert [event["type"] for event in bot.events[2:]] == ["app_mention", "message"]


async def test_direct_messages_have_no_mention_and_strangers_channels_no_event(
    slack: SlackServer, listen: Listen
) -> None:
    elsewhere = slack.channel("elsewhere", (slack.alice,), bot=False)
    async with listen() as bot:
        slack.say(elsewhere, slack.alice, f"<@{slack.bot_user_id}> psst")
        dm = slack.dm(slack.alice)
        slack.say(dm, slack.alice, f"<@{slack.bot_user_id}> hi")
        await slack.wait_for_delivery()
        assert [(event["channel"], event["channel_type"]) for event in bot.events] == [(dm, "im")]


async def test_edits_deletions_joins_and_other_bots(slack: SlackServer, listen: Listen) -> None:
    async with listen() as bot:
        ts = slack.say(slack.general, slack.alice, "helo")
        slack.edit(slack.general, ts, "hello")
        slack.delete(slack.general, ts)
        slack.join(slack.general, slack.user("carol"))
        slack.bot_says(slack.general, slack.bot("deploybot"), "deployed")
        await slack.wait_for_delivery()
    assert bot.kinds() == [
        ("message", None),
        ("message", "message_changed"),
        ("message", "message_deleted"),
        ("member_joined_channel", None),
        ("message", "channel_join"),
        ("message", "bot_message"),
    ]
    changed = bot.events[1]
    assert (changed["previous_message"]["text"], changed["message"]["text"]) == ("helo", "hello")
    assert bot.events[2]["deleted_ts"] == ts


async def test_the_bot_hears_itself(slack: SlackServer, client: AsyncWebClient, listen: Listen) -> None:
    async with listen() as bot:
        posted = await client.chat_postMessage(channel=slack.general, text="one")
        await client.chat_update(channel=slack.general, ts=str(posted["ts"]), text="two")
        await slack.wait_for_delivery()
    assert bot.kinds() == [("message", None), ("message", "message_changed")]
    assert bot.events[0]["bot_id"] == slack.bot_id


async def test_events_wait_for_a_socket_and_come_to_one_of_several(
    slack: SlackServer, listen: Listen
) -> None:
    slack.say(slack.general, slack.alice, "0")
    async with listen() as first, listen() as second:
        for n in range(1, 6):
            slack.say(slack.general, slack.alice, str(n))
        await slack.wait_for_delivery()
        assert sorted(event["text"] for event in first.events + second.events) == list("012345")
        assert first.events
        assert second.events


async def test_what_is_not_acknowledged_is_redelivered(slack: SlackServer, listen: Listen) -> None:
    slack.delivery.ack_seconds = 0.02
    async with listen() as bot:
        bot.answer = False
        slack.say(slack.general, slack.alice, "hello")
        await slack.wait_for_delivery()
        await slack.wait_until(lambda: len(bot.requests) == 4)
    assert [(request.retry_attempt, request.retry_reason) for request in bot.requests] == [
        (0, ""),
        (1, "timeout"),
        (2, "timeout"),
        (3, "timeout"),
    ]
    assert len({request.payload["event_id"] for request in bot.requests}) == 1
    assert len(slack.delivery.undelivered) == 1


async def test_a_dropped_socket_loses_nothing(slack: SlackServer, listen: Listen) -> None:
    async with listen() as bot:
        bot.answer = False
        slack.say(slack.general, slack.alice, "hello")
        await slack.wait_until(lambda: len(bot.requests) == 1)
        bot.answer = True
        slack.drop_sockets()
        await slack.wait_for_delivery()
        assert [request.retry_attempt for request in bot.requests] == [0, 1]
        assert slack.open_sockets == 1


async def test_duplicates_share_the_event_id(slack: SlackServer, listen: Listen) -> None:
    slack.duplicates = 2
    async with listen() as bot:
        slack.say(slack.general, slack.alice, "hello")
        await slack.wait_for_delivery()
    assert len(bot.requests) == 3
    assert len({request.payload["event_id"] for request in bot.requests}) == 1


async def test_slack_asks_to_reconnect(slack: SlackServer, listen: Listen) -> None:
    async with listen() as bot:
        slack.disconnect_sockets()
        await slack.wait_until(lambda: slack.count("apps.connections.open") == 2 and slack.open_sockets == 1)
        slack.say(slack.general, slack.alice, "still there?")
        await slack.wait_until(lambda: len(bot.events) == 1)


async def test_a_silent_socket_is_noticed_by_its_missing_pongs(slack: SlackServer, listen: Listen) -> None:
    async with listen():
        slack.silence_sockets()
        await slack.wait_until(lambda: slack.count("apps.connections.open") == 2)
        await slack.wait_until(lambda: any(not socket.deaf for socket in slack.delivery.sockets))


async def test_tickets_are_good_once_and_refusals_use_them_up(
    slack: SlackServer, client: AsyncWebClient
) -> None:
    opened = await client.apps_connections_open(app_token=slack.app_token)
    async with aiohttp.ClientSession() as session:
        slack.refuse_sockets = True
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            await session.ws_connect(str(opened["url"]))
        slack.refuse_sockets = False
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect(str(opened["url"]))


# -- events over HTTP ------------------------------------------------------------------------------------------


@asynccontextmanager
async def endpoint(slack: SlackServer, *statuses: int) -> AsyncIterator[list[tuple[web.Request, str]]]:
    """An HTTP bot that answers with these statuses, then 200."""
    heard: list[tuple[web.Request, str]] = []
    planned = list(statuses)

    async def take(request: web.Request) -> web.Response:
        heard.append((request, await request.text()))
        slack.changed()
        return web.Response(status=planned.pop(0) if planned else 200)

    app = web.Application()
    app.router.add_post("/slack/events", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slack.deliver_to(f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events", "shh")
    try:
        yield heard
    finally:
        await runner.cleanup()


async def test_http_events_are_signed_and_retried(slack: SlackServer) -> None:
    async with endpoint(slack, 500) as heard:
        slack.say(slack.general, slack.alice, "hello")
        await slack.wait_for_delivery()
    assert [request.headers.get("X-Slack-Retry-Num") for request, _ in heard] == [None, "1"]
    assert heard[1][0].headers["X-Slack-Retry-Reason"] == "http_error"
    verifier = SignatureVerifier("shh")
    for request, body in heard:
        assert verifier.is_valid_request(body, dict(request.headers))
        assert json.loads(body)["event"]["text"] == "hello"
    assert not verifier.is_valid_request("{}", slack.sign("{}", ts=1))


async def test_http_gives_up_after_three_retries(slack: SlackServer) -> None:
    slack.delivery.retry_delays = (0.0,)
    async with endpoint(slack, 500, 500, 500, 500) as heard:
        slack.say(slack.general, slack.alice, "hello")
        await slack.wait_for_delivery()
    assert len(heard) == 4
    assert len(slack.delivery.undelivered) == 1


# -- buttons, commands, views ----------------------------------------------------------------------------------

BUTTONS: list[Json] = [
    {"type": "section", "text": {"type": "mrkdwn", "text": "Sure?"}},
    {"type": "actions", "elements": [{"type": "button", "action_id": "stop", "value": "t1",
                                      "text": {"type": "plain_text", "text": "Stop"}}]},
    {"type": "context_actions", "elements": [{"type": "feedback_buttons", "action_id": "feedback",
        "positive_button": {"text": {"type": "plain_text", "text": "Good"}, "value": "good"},
        "negative_button": {"text": {"type": "plain_text", "text": "Bad"}, "value": "bad"}}]},
]  # fmt: skip


async def test_pressing_a_button(slack: SlackServer, client: AsyncWebClient, listen: Listen) -> None:
    root = ask(slack)
    posted = await client.chat_postMessage(
        channel=slack.general, thread_ts=root, text="Sure?", blocks=BUTTONS
    )
    ts = str(posted["ts"])
    with pytest.raises(LookupError, match="no button 'go'"):
        slack.press(slack.general, ts, "go", user=slack.alice)
    async with listen() as bot:
        await slack.wait_for_delivery()
        slack.press(slack.general, ts, "stop", user=slack.alice)
        trigger = slack.press(slack.general, ts, "feedback", "bad", user=slack.bob)
        await slack.wait_for_delivery()
    stop, feedback = (request.payload for request in bot.requests if request.type == "interactive")
    assert (stop["actions"][0]["value"], stop["container"]["thread_ts"], stop["user"]["id"]) == (
        "t1",
        root,
        slack.alice,
    )
    assert feedback["actions"][0]["value"] == "bad"
    view = {"type": "modal", "title": {"type": "plain_text", "text": "Why?"}, "blocks": []}
    await client.views_open(trigger_id=trigger, view=view)
    assert await refusal(client.views_open(trigger_id=trigger, view=view)) == "invalid_trigger_id"
    async with (
        aiohttp.ClientSession() as session,
        session.post(stop["response_url"], json={"text": "noted"}) as answer,
    ):
        assert answer.status == 200
    assert [(note.user, note.text) for note in slack.ephemerals] == [(slack.alice, "noted")]


async def test_interactions_are_form_posts_over_http(slack: SlackServer, client: AsyncWebClient) -> None:
    posted = await client.chat_postMessage(channel=slack.general, text="Sure?", blocks=BUTTONS)
    async with endpoint(slack) as heard:
        slack.press(slack.general, str(posted["ts"]), "stop", user=slack.alice)
        slack.command("/assistant", "help", user=slack.alice, channel=slack.general)
        await slack.wait_for_delivery()
    bodies = [parse_qs(body) for _, body in heard]
    pressed = next(json.loads(body["payload"][0]) for body in bodies if "payload" in body)
    assert pressed["type"] == "block_actions"
    assert next(body["command"] for body in bodies if "command" in body) == ["/assistant"]


async def test_a_press_nobody_hears_fails_at_once(slack: SlackServer, client: AsyncWebClient) -> None:
    posted = await client.chat_postMessage(channel=slack.general, text="Sure?", blocks=BUTTONS)
    slack.press(slack.general, str(posted["ts"]), "stop", user=slack.alice)
    assert [envelope.kind for envelope in slack.delivery.undelivered] == ["interactive"]


# -- files -----------------------------------------------------------------------------------------------------


async def test_files_in(slack: SlackServer, client: AsyncWebClient, listen: Listen) -> None:
    async with listen() as bot:
        slack.say(slack.general, slack.alice, "look", files=[slack.file("a.csv", b"1,2")])
        hidden = slack.file("b.txt", b"hi", check_info=True)
        slack.say(slack.general, slack.alice, "and this", files=[hidden])
        await slack.wait_for_delivery()
    assert [event["subtype"] for event in bot.events] == ["file_share", "file_share"]
    assert bot.events[1]["files"] == [{"id": hidden, "mode": "file_access", "file_access": "check_file_info"}]
    assert (await client.files_info(file=hidden))["file"]["mimetype"] == "text/plain"
    url = bot.events[0]["files"][0]["url_private_download"]
    async with aiohttp.ClientSession() as session:
        async with session.get(url, headers={"Authorization": f"Bearer {slack.bot_token}"}) as answer:
            assert (answer.content_type, await answer.read()) == ("text/csv", b"1,2")
        async with session.get(url) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")


async def test_files_out(slack: SlackServer, client: AsyncWebClient) -> None:
    root, slack.share_seconds = ask(slack), 0.01
    answer = await client.files_upload_v2(
        filename="plot.png", content=b"png", channel=slack.general, thread_ts=root, initial_comment="the plot"
    )
    file_id = answer["files"][0]["id"]
    assert "mimetype" not in (await client.files_info(file=file_id))["file"] or slack.replies(
        slack.general, root
    )
    reply = await slack.wait_for_reply(slack.general, root, "the plot")
    assert reply.files == [file_id]
    info = (await client.files_info(file=file_id))["file"]
    assert info["shares"]["public"][slack.general] == [{"ts": reply.ts, "thread_ts": root}]


# -- faults and limits -----------------------------------------------------------------------------------------


async def test_faults(slack: SlackServer, client: AsyncWebClient) -> None:
    client.retry_handlers = []

    async def post() -> Any:
        return await client.chat_postMessage(channel=slack.general, text="x")

    slack.faults.add("chat.*", "429", retry_after=7, after=1)
    slack.faults.add("chat.postMessage", "reset")
    slack.faults.add("chat.postMessage", "drop_after")
    slack.faults.add("chat.postMessage", "error:fatal_error")
    slack.faults.add("chat.postMessage", "500")
    with pytest.raises(aiohttp.ClientError):
        await post()  # reset
    with pytest.raises(SlackApiError) as limited:
        await post()
    assert limited.value.response.headers["Retry-After"] == "7"
    with pytest.raises(aiohttp.ClientError):
        await post()  # drop_after
    assert await refusal(post()) == "fatal_error"
    with pytest.raises(SlackApiError):
        await post()  # 500
    await post()
    assert [call.outcome for call in slack.calls] == [
        "reset",
        "429",
        "drop_after",
        "fatal_error",
        "500",
        "ok",
    ]
    assert len(slack.workspace.channel(slack.general).messages) == 2


async def test_hanging_calls_end_with_the_server(slack: SlackServer, client: AsyncWebClient) -> None:
    slack.faults.add("auth.test", "hang")
    call = asyncio.create_task(client.auth_test())
    await slack.wait_until(lambda: slack.count("auth.test") == 1)
    await slack.stop()
    with pytest.raises(aiohttp.ClientError):
        await call


async def test_random_faults_repeat_with_their_seed(slack: SlackServer) -> None:
    def strikes() -> list[bool]:
        slack.faults.clear()
        slack.faults.add("*", "500", probability=0.5, seed=3)
        return [slack.faults.strike("auth.test", {}) is not None for _ in range(20)]

    assert strikes() == strikes()
    assert len(set(strikes())) == 2


async def test_rate_limits_when_enforced(slack: SlackServer, client: AsyncWebClient) -> None:
    slack.enforce_limits = True
    slack.rates.limits["chat.postMessage"] = Limit(1, 60.0, per_channel=True)
    await client.chat_postMessage(channel=slack.general, text="x")
    await client.chat_postMessage(channel=slack.private, text="x")
    with pytest.raises(SlackApiError) as limited:
        await client.chat_postMessage(channel=slack.general, text="x")
    assert limited.value.response.status_code == 429
    assert limited.value.response.headers["Retry-After"] == "60"


async def test_reactions_users_and_home(slack: SlackServer, client: AsyncWebClient) -> None:
    ts = ask(slack)
    await client.reactions_add(channel=slack.general, timestamp=ts, name="eyes")
    assert slack.message(slack.general, ts).reactions == {"eyes": [slack.bot_user_id]}
    assert (
        await refusal(client.reactions_add(channel=slack.general, timestamp=ts, name="eyes"))
        == "already_reacted"
    )
    await client.reactions_remove(channel=slack.general, timestamp=ts, name="eyes")
    assert (await client.users_info(user=slack.alice))["user"]["name"] == "alice"
    assert (await client.conversations_open(users=slack.alice))["channel"]["id"] == slack.dm(slack.alice)
    assert slack.bob in (await client.conversations_members(channel=slack.general))["members"]
    await client.views_publish(user_id=slack.alice, view={"type": "home", "blocks": []})
    assert slack.home[slack.alice]["type"] == "home"
    await client.chat_postEphemeral(channel=slack.general, user=slack.alice, text="psst")
    assert slack.ephemerals[0].text == "psst"


async def test_external_guests_are_recognisable(slack: SlackServer, listen: Listen) -> None:
    eve, shared = slack.user("eve", team="T0000000002"), slack.channel("shared", (slack.alice,), shared=True)
    async with listen() as bot:
        slack.say(shared, eve, "hello from outside")
        await slack.wait_until(lambda: len(bot.events) == 1)
    assert bot.events[0]["user_team"] == "T0000000002"
    assert bot.requests[0].payload["is_ext_shared_channel"]


async def test_the_server_comes_back_on_its_port(slack: SlackServer, client: AsyncWebClient) -> None:
    root, url = ask(slack), slack.api_url
    await slack.stop()
    await slack.start()
    assert slack.api_url == url
    await client.chat_postMessage(channel=slack.general, thread_ts=root, text="back")
    assert slack.texts(slack.general, root) == ["back"]
