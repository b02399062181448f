"""The workspace's state and its changes. It knows no HTTP and no events."""

from __future__ import annotations

import itertools
import time
from typing import Any

from tests.fakes.slack.model import (
    Channel,
    ChannelKind,
    File,
    Json,
    Message,
    SlackError,
    Thread,
    User,
    Version,
)
from tests.fakes.slack.rendering import rich_text, visible_text


class Workspace:
    """Users, channels, messages, threads and files, all in dicts by id."""

    def __init__(self, team_id: str, url: str = "") -> None:
        self.team_id = team_id
        self.url = url
        self.keep_versions = True
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}
        self.threads: dict[tuple[str, str], Thread] = {}
        self.files: dict[str, File] = {}
        self._ids = itertools.count(1)
        self._second = 0
        self._micro = 0

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{next(self._ids):010d}"

    def new_ts(self) -> str:
        """Strictly increasing, near the wall clock, as Slack's message ids are."""
        self._micro += 100
        if (now := int(time.time())) > self._second or self._micro >= 1_000_000:
            self._second, self._micro = max(now, self._second + 1), 100
        return f"{self._second}.{self._micro:06d}"

    def add_user(self, name: str, *, team: str | None = None, bot_id: str | None = None) -> User:
        user = User(self.new_id("U"), name, team or self.team_id, bot_id)
        self.users[user.id] = user
        return user

    def add_channel(self, name: str, kind: ChannelKind = "channel", members: tuple[str, ...] = ()) -> Channel:
        prefix = {"channel": "C", "group": "G", "mpim": "G", "im": "D"}[kind]
        channel = Channel(self.new_id(prefix), name, kind, set(members))
        self.channels[channel.id] = channel
        return channel

    def find_dm(self, members: set[str]) -> Channel | None:
        return next(
            (c for c in self.channels.values() if c.kind in ("im", "mpim") and c.members == members), None
        )

    def channel(self, channel_id: Any) -> Channel:
        channel = self.channels.get(str(channel_id))
        if channel is None:
            raise SlackError("channel_not_found")
        return channel

    def message(self, channel_id: str, ts: Any) -> Message:
        message = self.channel(channel_id).messages.get(str(ts))
        if message is None or message.deleted:
            raise SlackError("message_not_found")
        return message

    def thread(self, channel: str, root: str) -> Thread:
        key = (channel, root)
        thread = self.threads.get(key)
        if thread is None:
            thread = self.threads[key] = Thread(channel, root)
        return thread

    def in_thread(self, channel: Channel, root: str) -> list[Message]:
        """The root (if any) and its replies in order, deleted ones too."""
        first = channel.messages.get(root)
        thread = self.threads.get((channel.id, root))
        return ([first] if first else []) + (thread.replies if thread else [])

    def add(self, message: Message) -> Message:
        self.channels[message.channel].messages[message.ts] = message
        if message.thread_ts and message.thread_ts != message.ts:
            self.thread(message.channel, message.thread_ts).replies.append(message)
        for file_id in message.files:
            self.files[file_id].shares.append((message.channel, message.ts, message.thread_ts))
        self.seen(message)
        return message

    def seen(self, message: Message) -> None:
        """Records what the message shows now, if that is new."""
        if not self.keep_versions:
            return
        text = visible_text(message)
        if not message.versions or message.versions[-1].text != text:
            message.versions.append(Version(time.monotonic(), text))

    def name_blocks(self, blocks: list[Json]) -> list[Json]:
        """The blocks with the ids Slack gives to those that have none."""
        return [{"block_id": self.new_id("b"), **block, **self._named_elements(block)} for block in blocks]

    def _named_elements(self, block: Json) -> Json:
        if block["type"] not in ("actions", "context_actions"):
            return {}
        return {"elements": [{"action_id": self.new_id("a"), **element} for element in block["elements"]]}

    def wire(self, message: Message, *, metadata: bool = False, api_app_id: str = "") -> Json:
        """The message as the Web API and events show it (https://docs.slack.dev/reference/events/message/)."""
        user = self.users.get(message.user)
        own = user is not None and message.bot_id is not None and message.bot_id == user.bot_id
        state = {None: None, "open": "in_progress"}.get(message.stream, "completed")
        optional: Json = {
            "thread_ts": message.thread_ts,
            "subtype": message.subtype,
            "bot_id": message.bot_id,
            "app_id": api_app_id if own and api_app_id else None,
            "client_msg_id": message.client_msg_id,
            "blocks": _wire_blocks(message),
            "streaming_state": state,
            "attachments": message.attachments,
            "files": [self.file_wire(self.files[file_id], event=True) for file_id in message.files],
            "edited": {"user": message.user, "ts": message.edited} if message.edited else None,
            "reactions": [
                {"name": n, "users": u, "count": len(u)} for n, u in message.reactions.items() if u
            ],
            "metadata": message.metadata if metadata else None,
        }
        return {
            "type": "message",
            "user": message.user,
            "ts": message.ts,
            "text": message.streamed or message.text,
            "team": user.team if user else self.team_id,
            **{name: value for name, value in optional.items() if value},
            **self._thread_facts(message),
        }

    def _thread_facts(self, message: Message) -> Json:
        if message.thread_ts and message.thread_ts != message.ts:
            root = self.channels[message.channel].messages.get(message.thread_ts)
            return {"parent_user_id": root.user if root else ""}
        thread = self.threads.get((message.channel, message.ts))
        replies = [reply for reply in thread.replies if not reply.deleted] if thread else []
        if not replies:
            return {}
        users = list(dict.fromkeys(reply.user for reply in replies))
        latest = replies[-1].ts
        return {
            "thread_ts": message.ts,
            "reply_count": len(replies),
            "reply_users": users,
            "latest_reply": latest,
        }

    def file_wire(self, file: File, *, event: bool = False) -> Json:
        """https://docs.slack.dev/reference/objects/file-object: in Slack Connect channels an event has only the id."""
        if event and file.check_info:
            return {"id": file.id, "mode": "file_access", "file_access": "check_file_info"}
        if file.deleted:
            return {"id": file.id, "mode": "tombstone"}
        path = f"{self.url}/files-pri/{self.team_id}-{file.id}"
        wire: Json = {
            "id": file.id,
            "name": file.name,
            "title": file.title or file.name,
            "user": file.user,
            "size": len(file.content),
            "mode": "hosted",
            "is_external": False,
            "file_access": "visible",
            "url_private": f"{path}/{file.name}",
            "url_private_download": f"{path}/download/{file.name}",
            "permalink": f"{self.url}/files/{file.user}/{file.id}/{file.name}",
        }
        if file.completed:
            wire["mimetype"] = file.mimetype
            wire["filetype"] = file.name.rpartition(".")[2]
        for channel, ts, thread_ts in file.shares:
            visibility = "private" if self.channels[channel].is_private else "public"
            share = {"ts": ts, **({"thread_ts": thread_ts} if thread_ts else {})}
            wire.setdefault("shares", {}).setdefault(visibility, {}).setdefault(channel, []).append(share)
        return wire


def _wire_blocks(message: Message) -> list[Json]:
    if message.streamed:
        return [rich_text(message.streamed), *message.blocks]
    return message.blocks or ([rich_text(message.text)] if message.text else [])
