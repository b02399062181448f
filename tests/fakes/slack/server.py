"""The running fake: its life, its network tricks, and what tests ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self, TypeVar

import aiohttp
from aiohttp import web

from tests.fakes.slack.delivery import sign
from tests.fakes.slack.model import Message, Thread
from tests.fakes.slack.people import People
from tests.fakes.slack.rendering import visible_text
from tests.fakes.slack.webapi import WebApi

T = TypeVar("T")


class SlackServer(People):
    """A Slack on a loopback port, in the caller's event loop.

    It starts with users `alice` and `bob`, the channel `general` and the private channel `private`; both
    people and the bot are in both.

    >>> async with SlackServer() as slack:
    ...     root = slack.say(slack.general, slack.alice, f"<@{slack.bot_user_id}> hello")
    ...     answer = await slack.wait_for_reply(slack.general, root)
    """

    def __init__(
        self, port: int = 0, host: str = "127.0.0.1", *, keep_versions: bool = True, keep_calls: bool = True
    ) -> None:
        super().__init__()
        self.keep_calls = keep_calls
        self.workspace.keep_versions = keep_versions
        self.delivery.keep_log = keep_calls
        self.alice = self.user("alice")
        self.bob = self.user("bob")
        self.general = self.channel("general", (self.alice, self.bob))
        self.private = self.channel("private", (self.alice, self.bob), private=True)
        self.control: list[web.RouteDef] = []
        """Further routes to serve beside Slack's; set before `start`."""
        self._address = (host, port)
        self._web: WebApi | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._web = WebApi(self)
        self._runner = web.AppRunner(
            self._web.application(self.control), access_log=None, shutdown_timeout=0.2
        )
        await self._runner.setup()
        host, port = self._address
        await web.TCPSite(self._runner, host, port, backlog=4096).start()
        port = self._runner.addresses[0][1]
        self._address = (host, port)
        self.workspace.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stops listening; the state stays, `start` opens the same port again."""
        for key in list(self.timers):
            self.cancel(key)
        await self.delivery.close()
        self.drop_sockets()
        if self._web is not None:
            self._web.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def api_url(self) -> str:
        return f"{self.workspace.url}/api/"

    @property
    def env(self) -> dict[str, str]:
        """What a bot process needs to live here, in Socket Mode."""
        return {
            "SLACK_API_URL": self.api_url,
            "SLACK_BOT_TOKEN": self.bot_token,
            "SLACK_APP_TOKEN": self.app_token,
        }

    # -- the network -------------------------------------------------------------------------------------------

    @property
    def open_sockets(self) -> int:
        return len(self.delivery.sockets)

    @property
    def refuse_sockets(self) -> bool:
        """While True, sockets are refused with 503; their tickets are used up all the same."""
        return self.delivery.refuse_sockets

    @refuse_sockets.setter
    def refuse_sockets(self, refuse: bool) -> None:
        self.delivery.refuse_sockets = refuse

    @property
    def duplicates(self) -> int:
        """How many extra times each envelope is delivered."""
        return self.delivery.duplicates

    @duplicates.setter
    def duplicates(self, extra: int) -> None:
        self.delivery.duplicates = extra

    def drop_sockets(self, count: int | None = None) -> None:
        """Cuts open sockets without a close frame; unacknowledged envelopes are redelivered elsewhere."""
        for socket in self.delivery.sockets[:count]:
            socket.drop()

    def silence_sockets(self, count: int | None = None) -> None:
        """The sockets open now stay open but hear and say nothing, not even pongs. New ones are well."""
        for socket in self.delivery.sockets[:count]:
            socket.deaf = True

    def disconnect_sockets(self, reason: str = "refresh_requested") -> None:
        """https://docs.slack.dev/apis/events-api/using-socket-mode/#disconnect"""
        self.delivery.disconnect(reason)

    def deliver_to(self, url: str | None, signing_secret: str | None = None) -> None:
        """From now on events are POSTed, signed, to `url`; None: back to Socket Mode."""
        self.signing_secret = signing_secret or self.signing_secret
        self.delivery.switch(url, self.signing_secret)

    def sign(self, body: str, ts: int | None = None) -> dict[str, str]:
        """Signature headers for `body` at `ts` (epoch seconds, now by default)."""
        return sign(self.signing_secret, body, ts)

    async def verify_url(self, url: str) -> bool:
        """Slack's url_verification handshake (https://docs.slack.dev/reference/events/url_verification/)."""
        raw = '{"token":"verification-token","challenge":"3eZbrw1aB","type":"url_verification"}'
        headers = {"Content-Type": "application/json", **self.sign(raw)}
        async with aiohttp.ClientSession() as session, session.post(url, data=raw, headers=headers) as answer:
            return answer.status == 200 and "3eZbrw1aB" in await answer.text()

    def expire_stream(self, channel: str, ts: str) -> None:
        """The stream's time is up now."""
        self.end_stream(self.workspace.message(channel, ts), "expired")

    # -- what a user sees --------------------------------------------------------------------------------------

    def message(self, channel: str, ts: str) -> Message:
        """The message, deleted or not."""
        return self.workspace.channel(channel).messages[ts]

    def thread(self, channel: str, root_ts: str) -> Thread:
        """Session, status line, title and prompts of a thread."""
        return self.workspace.thread(channel, root_ts)

    def conversation(self, channel: str, root_ts: str) -> list[Message]:
        """Root and replies, whoever wrote them, not deleted."""
        place = self.workspace.channel(channel)
        return [message for message in self.workspace.in_thread(place, root_ts) if not message.deleted]

    def replies(self, channel: str, root_ts: str) -> list[Message]:
        """The bot's visible messages in the thread, in order."""
        return [
            message for message in self.conversation(channel, root_ts) if message.user == self.bot_user_id
        ]

    def texts(self, channel: str, root_ts: str) -> list[str]:
        return [visible_text(message) for message in self.replies(channel, root_ts)]

    def count(self, method: str, outcome: str | None = None) -> int:
        """Calls of a method so far."""
        return sum(call.method == method and outcome in (None, call.outcome) for call in self.calls)

    # -- waiting -----------------------------------------------------------------------------------------------

    async def wait_until(self, predicate: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:  # noqa: ASYNC109 - a test's patience
        """The predicate's first true value; it is asked again after every change of state.

        AssertionError after `timeout` seconds, with what the workspace looked like.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (value := predicate()):
                    await self.next_change()
                return value
        except TimeoutError:
            raise AssertionError(f"not within {timeout} s: {what or predicate}\n{self.describe()}") from None

    async def wait_for_reply(
        self,
        channel: str,
        root_ts: str,
        containing: str = "",
        *,
        final: bool = True,
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> Message:
        """The bot's first reply with this text in it.

        `final`: also wait until nothing in the thread streams (or lies about, expired), no session is
        `processing` and no status line shows.
        """
        what = f"a reply in {root_ts} containing {containing!r}"
        reply = await self.wait_until(
            lambda: self._reply(channel, root_ts, containing, final=final), timeout, what
        )
        assert reply is not None
        return reply

    async def wait_for_delivery(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109
        """Until every envelope is acknowledged or given up."""
        await self.wait_until(lambda: self.delivery.pending == 0, timeout, "every envelope acknowledged")

    async def wait_for_sockets(self, count: int = 1, timeout: float = 10.0) -> None:  # noqa: ASYNC109
        await self.wait_until(lambda: self.open_sockets >= count, timeout, f"{count} open sockets")

    def describe(self) -> str:
        """The last calls and threads, for the reader of a failed test."""
        lines = [f"sockets open: {self.open_sockets}, envelopes pending: {self.delivery.pending}"]
        lines += [f"  {call.method} -> {call.outcome}" for call in self._last]
        for channel in self.workspace.channels.values():
            for message in list(channel.messages.values())[-10:]:
                state = "deleted " if message.deleted else f"{message.stream} " if message.stream else ""
                lines.append(
                    f"  {channel.id} {message.root} {message.user} {state}{visible_text(message)[:120]!r}"
                )
        return "\n".join(lines)

    def _reply(self, channel: str, root_ts: str, containing: str, *, final: bool) -> Message | None:
        replies = self.replies(channel, root_ts)
        thread = self.workspace.threads.get((channel, root_ts))
        busy = any(reply.stream in ("open", "expired") for reply in replies)
        busy = busy or (thread is not None and (thread.session == "processing" or bool(thread.status)))
        if final and busy:
            return None
        return next((reply for reply in replies if containing in visible_text(reply)), None)
