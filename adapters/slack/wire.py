"""Slack payloads to intents. Pure: same payload, same intent; whatever the payload, never an exception.

https://docs.slack.dev/reference/events/message/ , https://docs.slack.dev/reference/events/app_mention/ ,
https://docs.slack.dev/reference/events/agent_session_stopped/ ,
https://docs.slack.dev/reference/interaction-payloads/block_actions-payload/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.slack import markup
from bot.domain import Attachment, Author, Message, ThreadKey

STOP_ACTION = "threadbot_stop"
FEEDBACK_ACTION = "threadbot_feedback"
GOOD, BAD = "good", "bad"

_SAID = {None, "file_share", "thread_broadcast", "me_message"}
_ID = re.compile(r"[A-Z0-9]{1,40}")
_TS = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}")
_MAX_TEXT = (
    100_000  # Slack cuts at 40,000 (https://docs.slack.dev/changelog/2018-truncating-really-long-messages/)
)
_MAX_FILES = 100


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


class _Malformed(Exception):
    pass


def parse(
    payload: object, us: Installation, *, names: Mapping[str, str] | None = None, allow_external: bool = False
) -> Intent:
    """What a payload asks for. `names` are known display names by user id.

    `allow_external` also hears people of other workspaces (Slack Connect).
    """
    reader = _Reader(us, names or {}, allow_external)
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
    except _Malformed:
        return Ignore("malformed")


def spoken(
    said: object, thread: ThreadKey, us: Installation, *, names: Mapping[str, str] | None = None
) -> Message | None:
    """A message of a thread's history; None for what other apps and Slack itself said."""
    if not isinstance(said, dict):
        return None
    ours = said.get("user") == us.user
    try:
        if _subtype(said) not in _SAID or (said.get("bot_id") and not ours):
            return None
        message = _Reader(us, names or {}, allow_external=True).message(said, thread.channel)
    except _Malformed:
        return None
    if not ours:
        return message
    author = Author(us.user, us.name)
    return Message(message.id, thread, author, message.text, addressed=False, opens=message.opens)


def author_of(payload: object) -> str:
    """Whose name would be good to know before parsing; empty when the payload tells it or has none."""
    match payload:
        case {"event": {"type": "message" | "app_mention", "user": str(user), **event}}:
            known = _profile_name(event.get("user_profile")) or event.get("bot_id")
            return user if not known and _ID.fullmatch(user) else ""
    return ""


class _Reader:
    def __init__(self, us: Installation, names: Mapping[str, str], allow_external: bool) -> None:
        self._us = us
        self._names = names
        self._allow_external = allow_external

    def event(self, event: dict[str, Any], payload: dict[str, Any]) -> Intent:
        match event.get("type"):
            case "message" | "app_mention":
                return self._message_event(event)
            case "agent_session_stopped":
                # Slack has closed the streams itself and waits for us to set the session `active`.
                thread = self._thread(_id(event, "channel"), _ts(event, "thread_ts"))
                return Stop(thread, str(payload.get("event_id", "")) or _ts(event, "event_ts"))
            case str():
                return Ignore("kind")
            case _:
                raise _Malformed

    def _message_event(self, event: dict[str, Any]) -> Intent:
        match _subtype(event):
            case "message_changed":
                return self._changed(event)
            case "message_deleted":
                return self._deleted(event)
            case subtype if subtype not in _SAID:
                return Ignore("subtype")
        if event.get("edited"):  # an edit that adds a mention sends app_mention for a message that we know
            return Ignore("edit")
        if reason := self._unheard(event):
            return Ignore(reason)
        return self._said(event)

    def _said(self, event: dict[str, Any]) -> Intent:
        message = self.message(event, _id(event, "channel"), event.get("channel_type"))
        if (
            markup.is_stop(message.text)
            and not message.attachments
            and (message.addressed or not message.opens)
        ):
            return Stop(message.thread, message.id)
        if not message.text and not message.attachments and not message.addressed:
            return Ignore("empty")
        return Put(message)

    def message(self, said: dict[str, Any], channel: str, channel_type: object = None) -> Message:
        ts, user, raw = _ts(said, "ts"), _id(said, "user"), _text(said, "text")
        root = _ts(said, "thread_ts") if said.get("thread_ts") else ts
        private = channel_type == "im" or (channel_type is None and channel.startswith("D"))
        name = _profile_name(said.get("user_profile")) or self._names.get(user, "")
        return Message(
            id=ts,
            thread=self._thread(channel, root),
            author=Author(user, name, _home(said)),
            text=self._readable(raw),
            attachments=tuple(_attachments(said.get("files"))),
            addressed=private or markup.mentions(raw, self._us.user),
            private=private,
            opens=root == ts,
        )

    def _changed(self, event: dict[str, Any]) -> Intent:
        """Link previews and our own streams change messages too; only a person's edit carries `edited`."""
        message, before = _dict(event, "message"), event.get("previous_message")
        ts = _ts(message, "ts")
        thread = self._thread(
            _id(event, "channel"), _ts(message, "thread_ts") if message.get("thread_ts") else ts
        )
        subtype = _subtype(message)
        if subtype == "tombstone":  # what remains of a deleted message that has replies
            return Withdraw(thread, ts)
        if reason := ("subtype" if subtype not in _SAID else self._unheard(message)):
            return Ignore(reason)
        text = _text(message, "text")
        if not message.get("edited") or (isinstance(before, dict) and before.get("text") == text):
            return Ignore("unchanged")
        return Amend(thread, ts, self._readable(text))

    def _deleted(self, event: dict[str, Any]) -> Intent:
        ts = _ts(event, "deleted_ts")
        before = event.get("previous_message")
        before = before if isinstance(before, dict) else {}
        if before.get("user") == self._us.user or before.get("bot_id"):
            return Ignore("bot")
        root = _ts(before, "thread_ts") if before.get("thread_ts") else ts
        return Withdraw(self._thread(_id(event, "channel"), root), ts)

    def action(self, action: dict[str, Any], payload: dict[str, Any]) -> Intent:
        name = action.get("action_id")
        if name not in (STOP_ACTION, FEEDBACK_ACTION):
            return Ignore("kind")
        container, user = _dict(payload, "container"), _dict(payload, "user")
        if self._is_external(user.get("team_id")):
            return Ignore("external")
        channel = (
            _id(container, "channel_id")
            if "channel_id" in container
            else _id(_dict(payload, "channel"), "id")
        )
        post = _ts(container, "message_ts")
        thread = self._thread(channel, _ts(container, "thread_ts") if container.get("thread_ts") else post)
        if name == STOP_ACTION:
            return Stop(thread, str(payload.get("trigger_id", "")) or _ts(action, "action_ts"))
        if action.get("value") not in (GOOD, BAD):
            raise _Malformed
        return Feedback(thread, post, _id(user, "id"), good=action["value"] == GOOD)

    def _unheard(self, said: dict[str, Any]) -> str | None:
        """Why this author is not listened to."""
        if said.get("user") == self._us.user:
            return "self"
        if said.get("bot_id") or said.get("user") == "USLACKBOT":
            return "bot"
        return "external" if self._is_external(_home(said)) else None

    def _is_external(self, team: object) -> bool:
        return bool(team) and team != self._us.team and not self._allow_external

    def _thread(self, channel: str, root: str) -> ThreadKey:
        return ThreadKey("slack", self._us.team, channel, root)

    def _readable(self, raw: str) -> str:
        return markup.readable(raw, bot=self._us.user, names={self._us.user: self._us.name, **self._names})


def _attachments(files: object) -> Iterator[Attachment]:
    """Slack Connect gives an id without an address; `fetch` asks files.info then."""
    for file in files[:_MAX_FILES] if isinstance(files, list) else ():
        if not isinstance(file, dict) or file.get("mode") in ("tombstone", "hidden_by_limit"):
            continue
        match file:
            case {"id": str(file_id)} if _ID.fullmatch(file_id):
                yield attachment(file_id, file)


def attachment(file_id: str, file: Mapping[str, Any]) -> Attachment:
    """https://docs.slack.dev/reference/objects/file-object/"""

    def string(*keys: str) -> str:
        return next((file[key] for key in keys if isinstance(file.get(key), str) and file[key]), "")

    size = file.get("size")
    return Attachment(
        id=file_id,
        name=string("name", "title")[:255] or file_id,
        media_type=string("mimetype")[:255] or "application/octet-stream",
        size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else 0,
        url=string("url_private_download", "url_private"),
    )


def _home(said: Mapping[str, Any]) -> str:
    """The author's workspace. `team` of a shared channel's message may be the channel's host, `user_team` is theirs."""
    team = said.get("user_team") or said.get("team") or ""
    return team if isinstance(team, str) and _ID.fullmatch(team) else ""


def _profile_name(profile: object) -> str:
    match profile:
        case {"display_name": str(name)} if name:
            return name[:80]
        case {"real_name": str(name)} if name:
            return name[:80]
        case {"name": str(name)}:
            return name[:80]
    return ""


def _subtype(data: Mapping[str, Any]) -> str | None:
    value = data.get("subtype")
    if value is not None and not isinstance(value, str):
        raise _Malformed
    return value


def _dict(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        raise _Malformed
    return value


def _id(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _Malformed
    return value


def _ts(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not _TS.fullmatch(value):
        raise _Malformed
    return value


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key, "")
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise _Malformed
    return value
