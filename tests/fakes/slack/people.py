"""What people (and other bots) do in the workspace."""

from __future__ import annotations

import mimetypes
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence

from tests.fakes.slack.core import SlackCore
from tests.fakes.slack.delivery import Envelope
from tests.fakes.slack.model import Channel, File, Json, Message
from tests.fakes.slack.rendering import rich_text

_SHORT = {"channel": "C", "group": "G", "mpim": "G", "im": "D"}


class People(SlackCore):
    """Adds users' deeds to the core. Every deed changes the state and tells the bot what Slack would."""

    # -- the set ----------------------------------------------------------------------------------------------

    def user(self, name: str, *, team: str | None = None) -> str:
        """A new user's id; another `team` makes a Slack Connect guest."""
        return self.workspace.add_user(name, team=team).id

    def bot(self, name: str) -> str:
        """Another app's bot user."""
        return self.workspace.add_user(name, bot_id=self.workspace.new_id("B")).id

    def channel(
        self,
        name: str,
        members: Iterable[str] = (),
        *,
        private: bool = False,
        bot: bool = True,
        shared: bool = False,
    ) -> str:
        joined = (*members, *([self.bot_user_id] if bot else []))
        channel = self.workspace.add_channel(name, "group" if private else "channel", joined)
        channel.shared = shared
        return channel.id

    def dm(self, *users: str) -> str:
        """The direct conversation of these users and the bot, opened if need be."""
        return self.open_dm(*users).id

    def file(
        self,
        name: str,
        content: bytes,
        mimetype: str | None = None,
        *,
        user: str = "",
        check_info: bool = False,
    ) -> str:
        """A file a user has uploaded, to be shared by `say(files=[id])`."""
        kind = mimetype or mimetypes.guess_type(name)[0] or "application/octet-stream"
        file = File(self.workspace.new_id("F"), name, kind, user, content, check_info=check_info)
        file.uploaded = file.completed = True
        self.workspace.files[file.id] = file
        return file.id

    # -- deeds ------------------------------------------------------------------------------------------------

    def say(
        self,
        channel: str,
        user: str,
        text: str,
        thread_ts: str | None = None,
        files: Sequence[str] = (),
        *,
        broadcast: bool = False,
    ) -> str:
        """Posts a user's message; its ts.

        The bot, if it is a member, gets `message`; in a channel also `app_mention` when it is mentioned:
        same ts, own event id, no channel_type (https://docs.slack.dev/reference/events/app_mention/).
        """
        place = self.workspace.channel(channel)
        if place.kind == "im" and user not in place.members:
            raise LookupError(f"{user} is not in {channel}")
        message = Message(
            self.workspace.new_ts(),
            channel,
            user,
            text=text,
            thread_ts=thread_ts,
            broadcast=broadcast,
            client_msg_id=str(uuid.uuid4()),
            files=list(files),
        )
        message.subtype = "thread_broadcast" if broadcast else "file_share" if files else None
        for file_id in files:
            self.workspace.files[file_id].user = user
        self.workspace.add(message)
        event = {**self.wire(message), "channel": channel, "event_ts": message.ts}
        if (team := self.workspace.users[user].team) != self.team_id:
            event |= {"user_team": team, "source_team": team}
        twins = [({**event, "channel_type": place.kind}, place)]
        if place.kind != "im" and f"<@{self.bot_user_id}" in text:
            twins.append((self._mention(event), place))
        for twin, where in reversed(twins) if self.mention_first else twins:
            self.emit(twin, where)
        self.changed()
        return message.ts

    def bot_says(self, channel: str, bot: str, text: str, thread_ts: str | None = None) -> str:
        """Another app's message (https://docs.slack.dev/reference/events/message/bot_message/)."""
        user = self.workspace.users[bot]
        message = Message(
            self.workspace.new_ts(),
            channel,
            user.id,
            text=text,
            thread_ts=thread_ts,
            bot_id=user.bot_id,
            subtype="bot_message",
            username=user.name,
        )
        self.workspace.add(message)
        place = self.workspace.channel(channel)
        event = {**self.wire(message), "channel": channel, "event_ts": message.ts, "username": user.name}
        self.emit({**event, "channel_type": place.kind}, place)
        if place.kind != "im" and f"<@{self.bot_user_id}" in text:
            self.emit(self._mention(event), place)
        self.changed()
        return message.ts

    def edit(self, channel: str, ts: str, text: str) -> None:
        message = self.workspace.message(channel, ts)
        previous = self.wire(message)
        message.text, message.edited = text, self.workspace.new_ts()
        self.edited(message, previous)

    def delete(self, channel: str, ts: str) -> None:
        self.removed(self.workspace.message(channel, ts))

    def delete_file(self, file_id: str) -> None:
        self.workspace.files[file_id].deleted = True
        self.emit({"type": "file_deleted", "file_id": file_id})

    def join(self, channel: str, user: str) -> None:
        place = self.workspace.channel(channel)
        place.members.add(user)
        facts = {"user": user, "channel": channel, "team": self.team_id}
        self.emit({"type": "member_joined_channel", "channel_type": _SHORT[place.kind], **facts}, place)
        message = Message(self.workspace.new_ts(), channel, user, text=f"<@{user}> has joined the channel")
        message.subtype = "channel_join"
        self.workspace.add(message)
        self.emit({**self.wire(message), "channel": channel, "channel_type": place.kind}, place)
        self.changed()

    def open_home(self, user: str, tab: str = "home") -> None:
        self.emit({"type": "app_home_opened", "user": user, "channel": self.dm(user), "tab": tab})

    def send_event(self, event: Json) -> str:
        """Sends any event as it is; its event id."""
        return self.send(event)

    def native_stop(self, channel: str, thread_ts: str, user: str) -> None:
        """Presses Slack's own Stop, there only while the session is `processing`.

        Slack ends the open streams itself and leaves the session's status to the app
        (https://docs.slack.dev/reference/events/agent_session_stopped/).
        """
        thread = self.workspace.thread(channel, thread_ts)
        if thread.session != "processing" or "agent_session_stopped" not in self.subscriptions:
            raise LookupError(f"no Stop button on {channel}/{thread_ts}: the session is {thread.session}")
        stopped = sorted(thread.open_streams)
        for ts in stopped:
            message = self.workspace.message(channel, ts)
            previous = self.wire(message)
            self.end_stream(message, "stopped")
            self.edited(message, previous)
        event = {"type": "agent_session_stopped", "channel": channel, "thread_ts": thread_ts, "user": user}
        self.emit({**event, "streaming_message_ts": stopped}, self.workspace.channel(channel))

    def press(
        self, channel: str, message_ts: str, action_id: str, value: str | None = None, *, user: str
    ) -> str:
        """Presses a button the message really has; the trigger id.

        `value` chooses among buttons or options of one action_id (feedback: the positive one's value).
        LookupError: there is no such button (https://docs.slack.dev/reference/interaction-payloads/block_actions-payload/).
        """
        message = self.workspace.message(channel, message_ts)
        actions = [
            a
            for a in _actions(message.blocks)
            if a["action_id"] == action_id and value in (None, a.get("value"))
        ]
        if not actions:
            there = [(a["action_id"], a.get("value")) for a in _actions(message.blocks)]
            raise LookupError(f"no button {action_id!r} with value {value!r}; there are {there}")
        place = self.workspace.channel(channel)
        container = {
            "type": "message",
            "message_ts": message_ts,
            "channel_id": channel,
            "is_ephemeral": False,
        }
        if message.thread_ts:
            container["thread_ts"] = message.thread_ts
        payload = self._interaction("block_actions", user, place) | {
            "container": container,
            "message": self.wire(message),
            "state": {"values": {}},
            "response_url": f"{self.workspace.url}/response/{channel}/{message_ts}/{user}",
            "actions": [{**actions[0], "action_ts": self.workspace.new_ts()}],
        }
        self.delivery.send(Envelope("interactive", payload))
        return str(payload["trigger_id"])

    def submit(self, view_id: str, values: Json, *, user: str) -> None:
        """Submits an open modal with `state.values`."""
        view = next(view for view in self.modals if view["id"] == view_id)
        payload = self._interaction("view_submission", user, None) | {
            "view": {**view, "state": {"values": values}}
        }
        self.delivery.send(Envelope("interactive", payload))

    def shortcut(self, callback_id: str, channel: str, message_ts: str, *, user: str) -> str:
        """A message shortcut; the trigger id."""
        message, place = self.workspace.message(channel, message_ts), self.workspace.channel(channel)
        payload = self._interaction("message_action", user, place) | {
            "callback_id": callback_id,
            "message_ts": message_ts,
            "message": self.wire(message),
            "response_url": f"{self.workspace.url}/response/{channel}/{message_ts}/{user}",
        }
        self.delivery.send(Envelope("interactive", payload))
        return str(payload["trigger_id"])

    def command(self, command: str, text: str, *, user: str, channel: str) -> str:
        """A slash command; it never carries a thread (https://docs.slack.dev/interactivity/implementing-slash-commands/)."""
        place, trigger = self.workspace.channel(channel), self._trigger()
        payload = {
            "command": command, "text": text, "user_id": user, "user_name": self.workspace.users[user].name,
            "channel_id": channel, "channel_name": place.name, "team_id": self.team_id, "team_domain": "fake-workspace",
            "api_app_id": self.api_app_id, "is_enterprise_install": "false", "trigger_id": trigger,
            "response_url": f"{self.workspace.url}/response/{channel}/0/{user}",
        }  # fmt: skip
        self.delivery.send(Envelope("slash_commands", payload))
        return trigger

    def _mention(self, event: Json) -> Json:
        mention = {**event, "type": "app_mention"}
        for name in ("subtype", "parent_user_id", *(() if self.mention_has_files else ("files",))):
            mention.pop(name, None)
        return {"blocks": [rich_text(event["text"])], **mention}

    def _trigger(self) -> str:
        trigger = self.workspace.new_id("trigger.")
        self.triggers[trigger] = time.monotonic() + 3.0
        return trigger

    def _interaction(self, kind: str, user: str, place: Channel | None) -> Json:
        who = self.workspace.users[user]
        payload: Json = {
            "type": kind,
            "user": {"id": user, "username": who.name, "name": who.name, "team_id": who.team},
            "team": {"id": self.team_id, "domain": "fake-workspace"},
            "enterprise": None,
            "is_enterprise_install": False,
            "api_app_id": self.api_app_id,
            "token": "verification-token",
            "trigger_id": self._trigger(),
        }
        if place is not None:
            payload["channel"] = {"id": place.id, "name": place.name or "directmessage"}
        return payload


def _actions(blocks: Iterable[Json]) -> Iterator[Json]:
    """What each clickable part of the blocks would send as `actions[0]`."""
    for block in blocks:
        elements = [*(block.get("elements") or []), *([block["accessory"]] if block.get("accessory") else [])]
        for element in elements if block.get("type") in ("actions", "context_actions", "section") else ():
            known = {
                "type": element["type"],
                "action_id": element.get("action_id"),
                "block_id": block.get("block_id"),
            }
            if element["type"] == "feedback_buttons":
                for side in ("positive_button", "negative_button"):
                    yield {**known, "text": element[side]["text"], "value": element[side]["value"]}
            elif "options" in element:
                for option in element["options"]:
                    yield {**known, "selected_option": option, "value": option["value"]}
            else:
                yield {**known, "text": element.get("text"), "value": element.get("value")}
