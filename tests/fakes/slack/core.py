"""The heart of the fake: state, switches, events out, and waking whoever waits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from tests.fakes.slack.delivery import Delivery, Envelope
from tests.fakes.slack.faults import Faults
from tests.fakes.slack.limits import Rates
from tests.fakes.slack.model import Call, Channel, Ephemeral, Json, Message, SlackError, Thread
from tests.fakes.slack.workspace import Workspace

SCOPES = frozenset(
    [
        "app_mentions:read",
        "assistant:write",
        "channels:history",
        "channels:read",
        "chat:write",
        "commands",
        "files:read",
        "files:write",
        "groups:history",
        "groups:read",
        "im:history",
        "im:read",
        "im:write",
        "mpim:history",
        "mpim:read",
        "reactions:write",
        "users:read",
    ]
)
SUBSCRIPTIONS = frozenset(
    [
        "agent_session_stopped",
        "agent_session_title_changed",
        "app_context_changed",
        "app_home_opened",
        "app_mention",
        "app_uninstalled",
        "tokens_revoked",
        "file_deleted",
        "file_unshared",
        "member_joined_channel",
        "message.channels",
        "message.groups",
        "message.im",
        "message.mpim",
    ]
)


class SlackCore:
    """One workspace with one app installed in it.

    Every attribute that is not private is a switch a test may turn at any time.
    """

    def __init__(self) -> None:
        self.team_id = "T0000000001"
        self.api_app_id = "A0000000001"
        self.bot_token = "xoxb-fake-bot-token"
        self.app_token = "xapp-fake-app-token"
        self.signing_secret = "fake-signing-secret"
        self.scopes: set[str] = set(SCOPES)
        self.subscriptions: set[str] = set(SUBSCRIPTIONS)

        self.agent_view = True
        """False: the app is no agent, `agents.sessions.*` answer `not_allowed`."""
        self.streaming = True
        """False: the stream calls answer `unknown_method`."""
        self.stream_seconds = 300.0
        """Life of a stream, however busy (https://github.com/slackapi/python-slack-sdk/issues/1859)."""
        self.status_seconds = 120.0
        self.share_seconds = 0.0
        """Uploaded files show up in the channel this long after the call is answered (python-slack-sdk issue 1277)."""
        self.enforce_limits = False
        self.echo_own = True
        """The bot's own posts and edits come back to it as events."""
        self.mention_first = False
        """`app_mention` is delivered before its `message` twin."""
        self.mention_has_files = False
        """`app_mention` carries `files`, like its twin."""
        self.keep_calls = True

        self.workspace = Workspace(self.team_id)
        bot = self.workspace.add_user("threadbot", bot_id="B0000000001")
        self.bot_user_id = bot.id
        self.bot_id = "B0000000001"
        self.faults = Faults()
        self.rates = Rates()
        self.calls: list[Call] = []
        self.ephemerals: list[Ephemeral] = []
        self.home: dict[str, Json] = {}
        self.modals: list[Json] = []
        self.triggers: dict[str, float] = {}
        self.delivery = Delivery(self.changed)
        self.timers: dict[Any, asyncio.TimerHandle] = {}
        self._change: asyncio.Future[None] | None = None
        self._last: deque[Call] = deque(maxlen=20)

    # -- waking ----------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Wakes every waiter; costs nothing while nobody waits."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)
        self._change = None

    async def next_change(self) -> None:
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._change)

    def later(self, key: Any, seconds: float, action: Any, *args: Any) -> None:
        """Runs `action(*args)` after `seconds`, unless `cancel(key)` comes first."""

        def fire() -> None:
            self.timers.pop(key, None)
            action(*args)

        self.cancel(key)
        self.timers[key] = asyncio.get_running_loop().call_later(seconds, fire)

    def cancel(self, key: Any) -> None:
        if (timer := self.timers.pop(key, None)) is not None:
            timer.cancel()

    def record(self, call: Call) -> None:
        self._last.append(call)
        if self.keep_calls:
            self.calls.append(call)
        self.changed()

    # -- what the bot may reach --------------------------------------------------------------------------------

    def reachable(self, channel_id: Any) -> Channel:
        """The channel, if the bot is in it. Private channels it is not in do not exist for it."""
        channel = self.workspace.channel(channel_id)
        if self.bot_user_id not in channel.members:
            raise SlackError("channel_not_found" if channel.is_private else "not_in_channel")
        return channel

    def writable(self, channel_id: Any) -> Channel:
        channel = (
            self.open_dm(str(channel_id))
            if str(channel_id) in self.workspace.users
            else self.reachable(channel_id)
        )
        if channel.archived:
            raise SlackError("is_archived")
        return channel

    def open_dm(self, *users: str) -> Channel:
        members = {self.bot_user_id, *users}
        return self.workspace.find_dm(members) or self.workspace.add_channel(
            "", "im" if len(users) == 1 else "mpim", tuple(members)
        )

    # -- events ------------------------------------------------------------------------------------------------

    def wire(self, message: Message, *, metadata: bool = False) -> Json:
        return self.workspace.wire(message, metadata=metadata, api_app_id=self.api_app_id)

    def emit(self, event: Json, channel: Channel | None = None) -> str | None:
        """Sends an event to the bot if it subscribed to it and is in the channel; the event id."""
        kind = event["type"]
        if kind == "message" and channel is not None:
            kind = f"message.{ {'channel': 'channels', 'group': 'groups'}.get(channel.kind, channel.kind) }"
        if kind not in self.subscriptions or (channel and self.bot_user_id not in channel.members):
            return None
        return self.send(event, shared=channel is not None and channel.shared)

    def send(self, event: Json, *, shared: bool = False) -> str:
        """Sends `event` in an event_callback, unconditionally (https://docs.slack.dev/apis/events-api/)."""
        event_id = self.workspace.new_id("Ev")
        payload = {
            "token": "verification-token",
            "team_id": self.team_id,
            "context_team_id": self.team_id,
            "api_app_id": self.api_app_id,
            "event": {"event_ts": event.get("ts") or self.workspace.new_ts(), **event},
            "type": "event_callback",
            "event_id": event_id,
            "event_time": int(time.time()),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": self.team_id,
                    "user_id": self.bot_user_id,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": shared,
            "event_context": f"4-{event_id}",
        }
        self.delivery.send(Envelope("events_api", payload))
        return event_id

    def posted(self, message: Message) -> None:
        """The bot's own new message: its event, and the thread's status line that it clears."""
        channel = self.workspace.channels[message.channel]
        thread = self.workspace.threads.get((channel.id, message.root))
        if thread is not None and thread.status:
            self.set_status(thread, "")
        if self.echo_own:
            self.emit({**self.wire(message), "channel": channel.id, "channel_type": channel.kind}, channel)
        self.changed()

    def edited(self, message: Message, previous: Json) -> None:
        """After any change of a message: keeps the version, sends message_changed."""
        self.workspace.seen(message)
        channel = self.workspace.channels[message.channel]
        if self.echo_own or message.user != self.bot_user_id:
            self.emit(
                {
                    "type": "message",
                    "subtype": "message_changed",
                    "hidden": True,
                    "channel": channel.id,
                    "channel_type": channel.kind,
                    "ts": self.workspace.new_ts(),
                    "message": self.wire(message),
                    "previous_message": previous,
                },
                channel,
            )
        self.changed()

    def removed(self, message: Message) -> None:
        previous = self.wire(message)
        message.deleted = True
        channel = self.workspace.channels[message.channel]
        self.emit(
            {
                "type": "message",
                "subtype": "message_deleted",
                "hidden": True,
                "channel": channel.id,
                "channel_type": channel.kind,
                "ts": self.workspace.new_ts(),
                "deleted_ts": message.ts,
                "previous_message": previous,
            },
            channel,
        )
        self.changed()

    # -- streams and sessions ------------------------------------------------------------------------------------

    def end_stream(self, message: Message, state: str) -> None:
        """Closes an open stream as "stopped" or "expired" (which also sets the session `active`)."""
        thread = self.workspace.thread(message.channel, message.root)
        thread.open_streams.discard(message.ts)
        self.cancel(("stream", message.channel, message.ts))
        message.stream = "expired" if state == "expired" else "stopped"
        if state == "expired" and thread.session == "processing":
            self.set_session(thread, "active")
        self.changed()

    def set_session(self, thread: Thread, status: str) -> None:
        thread.session = status
        thread.session_log.append((time.monotonic(), status))
        self.changed()

    def set_status(self, thread: Thread, status: str) -> None:
        """The line under the thread; it goes by itself after `status_seconds`."""
        thread.status = status
        thread.status_log.append((time.monotonic(), status))
        key = ("status", thread.channel, thread.root)
        if status:
            self.later(key, self.status_seconds, self.set_status, thread, "")
        else:
            self.cancel(key)
        self.changed()
