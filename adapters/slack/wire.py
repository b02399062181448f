"""Slack payloads to intents. Pure: same payload, same intent; whatever the payload, never an exception.

https://docs.slack.dev/reference/events/message/ , https://docs.slack.dev/reference/events/app_mention/ ,
https://docs.slack.dev/reference/events/agent_session_stopped/ ,
https://docs.slack.dev/reference/interaction-payloads/block_actions-payload/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from adapters.slack import fields, markup
from bot.domain import Author, Message, ThreadKey

STOP_ACTION = "threadbot_stop"
FEEDBACK_ACTION = "threadbot_feedback"
GOOD, BAD = "good", "bad"

SAID = {None, "file_share", "thread_broadcast", "me_message"}


@dataclass(frozen=True, slots=True)
class Installation:
    """Who we are where, as auth.test says it. `team` is the enterprise for an installation without a workspace."""

    team: str
    user: str
    bot: str = ""
    name: str = "threadbot"


@dataclass(frozen=True, slots=True)
class Put:
    message: Message


@dataclass(frozen=True, slots=True)
class Amend:
    thread: ThreadKey
    message: str
    text: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    thread: ThreadKey
    message: str


@dataclass(frozen=True, slots=True)
class Stop:
    """`gesture` names the one deed of a person behind twins and redeliveries."""

    thread: ThreadKey
    gesture: str


@dataclass(frozen=True, slots=True)
class Feedback:
    thread: ThreadKey
    post: str
    author: str
    good: bool


@dataclass(frozen=True, slots=True)
class Ignore:
    """`reason` is for the log."""

    reason: str


Deed = Put | Amend | Withdraw | Stop | Feedback
Intent = Deed | Ignore


def parse(payload: object, us: Installation, *, names: Mapping[str, str] | None = None) -> Intent:
    """What a payload asks for. `names` are known display names by user id.

    People of other workspaces (Slack Connect) are not heard.
    """
    reader = _Reader(us, names or {})
    if not isinstance(payload, dict):
        return Ignore("malformed")
    try:
        match payload:
            case {"type": "event_callback", "event": dict(event)}:
                return reader.event(event, payload)
            case {"type": "block_actions", "actions": [dict(action), *_]}:
                return reader.action(action, payload)
            case {"type": str(kind)} if kind not in {"event_callback", "block_actions"}:
                return Ignore("kind")
            case _:
                return Ignore("malformed")
    except fields.Malformed:
        return Ignore("malformed")


def spoken(
    said: object, thread: ThreadKey, us: Installation, *, names: Mapping[str, str] | None = None
) -> Message | None:
    """A message of a thread's history; None for what other apps and Slack itself said."""
    if not isinstance(said, dict):
        return None
    ours = said.get("user") == us.user
    try:
        if fields.subtype_of(said) not in SAID or (said.get("bot_id") and not ours):
            return None
        message = _Reader(us, names or {}).message(said, thread.channel)
    except fields.Malformed:
        return None
    if not ours:
        return message
    author = Author(us.user, us.name)
    return Message(message.id, thread, author, message.text, addressed=False, opens=message.opens)


class _Reader:
    def __init__(self, us: Installation, names: Mapping[str, str]) -> None:
        self._us = us
        self._names = names

    def event(self, event: dict[str, Any], payload: dict[str, Any]) -> Intent:
        match event.get("type"):
            case "message" | "app_mention":
                return self._message_event(event)
            case "agent_session_stopped":
                # Slack has closed the streams itself and waits for us to set the session `active`.
                thread = self._thread(fields.identifier(event, "channel"), fields.stamp(event, "thread_ts"))
                return Stop(thread, str(payload.get("event_id", "")) or fields.stamp(event, "event_ts"))
            case str():
                return Ignore("kind")
            case _:
                raise fields.Malformed

    def _message_event(self, event: dict[str, Any]) -> Intent:
        match fields.subtype_of(event):
            case "message_changed":
                return self._changed(event)
            case "message_deleted":
                return self._deleted(event)
            case subtype if subtype not in SAID:
                return Ignore("subtype")
        if event.get("edited"):  # an edit that adds a mention sends app_mention for a message that we know
            return Ignore("edit")
        if reason := self._unheard(event):
            return Ignore(reason)
        return self._said(event)

    def _said(self, event: dict[str, Any]) -> Intent:
        message = self.message(event, fields.identifier(event, "channel"), event.get("channel_type"))
        if (
            markup.is_stop(message.text)
            and not message.attachments
            and (message.addressed or not message.opens)
        ):
            # Said at the top of a direct conversation it can only mean what is being answered there.
            whole = message.private and message.opens
            return Stop(replace(message.thread, root="") if whole else message.thread, message.id)
        if not message.text and not message.attachments and not message.addressed:
            return Ignore("empty")
        return Put(message)

    def message(self, said: dict[str, Any], channel: str, channel_type: object = None) -> Message:
        ts, user = fields.stamp(said, "ts"), fields.identifier(said, "user")
        raw = fields.text_of(said, "text")
        root = fields.root_of(said, ts)
        private = channel_type == "im" or (channel_type is None and channel.startswith("D"))
        name = fields.name_of(said.get("user_profile")) or self._names.get(user, "")
        return Message(
            id=ts,
            thread=self._thread(channel, root),
            author=Author(user, name, fields.home(said)),
            text=self._readable(raw),
            attachments=tuple(fields.attachments(said.get("files"))),
            addressed=private or markup.mentions(raw, self._us.user),
            private=private,
            opens=root == ts,
        )

    def _changed(self, event: dict[str, Any]) -> Intent:
        """Link previews and our own streams change messages too; only a person's edit carries `edited`."""
        message, before = fields.mapping(event, "message"), event.get("previous_message")
        ts = fields.stamp(message, "ts")
        thread = self._thread(fields.identifier(event, "channel"), fields.root_of(message, ts))
        subtype = fields.subtype_of(message)
        if subtype == "tombstone":  # what remains of a deleted message that has replies
            return Withdraw(thread, ts)
        if reason := ("subtype" if subtype not in SAID else self._unheard(message)):
            return Ignore(reason)
        text = fields.text_of(message, "text")
        if not message.get("edited") or (isinstance(before, dict) and before.get("text") == text):
            return Ignore("unchanged")
        return Amend(thread, ts, self._readable(text))

    def _deleted(self, event: dict[str, Any]) -> Intent:
        ts = fields.stamp(event, "deleted_ts")
        before = event.get("previous_message")
        before = before if isinstance(before, dict) else {}
        if before.get("user") == self._us.user or before.get("bot_id"):
            return Ignore("bot")
        root = fields.root_of(before, ts)
        return Withdraw(self._thread(fields.identifier(event, "channel"), root), ts)

    def action(self, action: dict[str, Any], payload: dict[str, Any]) -> Intent:
        name = action.get("action_id")
        if name not in (STOP_ACTION, FEEDBACK_ACTION):
            return Ignore("kind")
        container, user = fields.mapping(payload, "container"), fields.mapping(payload, "user")
        if self._is_external(user.get("team_id")):
            return Ignore("external")
        channel = (
            fields.identifier(container, "channel_id")
            if "channel_id" in container
            else fields.identifier(fields.mapping(payload, "channel"), "id")
        )
        post = fields.stamp(container, "message_ts")
        thread = self._thread(channel, fields.root_of(container, post))
        if name == STOP_ACTION:
            return Stop(thread, str(payload.get("trigger_id", "")) or fields.stamp(action, "action_ts"))
        if action.get("value") not in (GOOD, BAD):
            raise fields.Malformed
        return Feedback(thread, post, fields.identifier(user, "id"), good=action["value"] == GOOD)

    def _unheard(self, said: dict[str, Any]) -> str | None:
        """Why this author is not listened to."""
        if said.get("user") == self._us.user:
            return "self"
        if said.get("bot_id") or said.get("user") == "USLACKBOT":
            return "bot"
        return "external" if self._is_external(fields.home(said)) else None

    def _is_external(self, team: object) -> bool:
        return bool(team) and team != self._us.team

    def _thread(self, channel: str, root: str) -> ThreadKey:
        return ThreadKey("slack", self._us.team, channel, root)

    def _readable(self, raw: str) -> str:
        return markup.readable(raw, bot=self._us.user, bot_name=self._us.name, names=self._names)
