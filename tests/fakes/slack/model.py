"""What a Slack workspace consists of: plain state, no behaviour beyond asking it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
ChannelKind = Literal["channel", "group", "mpim", "im"]
StreamState = Literal["open", "stopped", "expired"]


class SlackError(Exception):
    """An `{"ok": false, "error": code}` answer; `extra` joins the body."""

    def __init__(self, code: str, **extra: Any) -> None:
        super().__init__(code)
        self.code = code
        self.extra = extra


@dataclass(frozen=True, slots=True)
class Version:
    """What a message showed from `at` (monotonic seconds) on."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """One Web API request. `outcome`: "ok", an error code, or the injected fault's kind; `at` is monotonic."""

    method: str
    params: Json
    at: float
    outcome: str


@dataclass(slots=True)
class User:
    id: str
    name: str
    team: str
    bot_id: str | None = None


@dataclass(slots=True)
class File:
    """A file. `check_info`: events carry only its id, as in Slack Connect channels."""

    id: str
    name: str
    mimetype: str
    user: str
    content: bytes = b""
    title: str = ""
    expected: int = 0
    shares: list[tuple[str, str, str | None]] = field(default_factory=list)  # channel, ts, thread_ts
    uploaded: bool = False
    completed: bool = False
    deleted: bool = False
    check_info: bool = False


@dataclass(slots=True)
class Message:
    """A message and everything a user ever saw of it.

    `text` is what the API was given as text, `blocks` what renders instead of it, `streamed` the markdown
    that came through a stream (rendered before `blocks`).
    """

    ts: str
    channel: str
    user: str
    text: str = ""
    blocks: list[Json] = field(default_factory=list)
    attachments: list[Json] = field(default_factory=list)
    streamed: str = ""
    stream: StreamState | None = None
    tasks: dict[str, Json] = field(default_factory=dict)
    thread_ts: str | None = None
    broadcast: bool = False
    bot_id: str | None = None
    subtype: str | None = None
    client_msg_id: str | None = None
    username: str | None = None
    files: list[str] = field(default_factory=list)
    metadata: Json | None = None
    edited: str | None = None
    deleted: bool = False
    reactions: dict[str, list[str]] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)

    @property
    def root(self) -> str:
        return self.thread_ts or self.ts


@dataclass(frozen=True, slots=True)
class Ephemeral:
    channel: str
    user: str
    text: str
    blocks: list[Json]
    thread_ts: str | None


@dataclass(slots=True)
class Thread:
    """One thread: its replies and what its header shows.

    `session` is the agent session's status (https://docs.slack.dev/ai/agent-sessions/), `status` the line
    set by assistant.threads.setStatus; both logs are kept in order of (monotonic time, value).
    """

    channel: str
    root: str
    replies: list[Message] = field(default_factory=list)
    open_streams: set[str] = field(default_factory=set)
    session: str | None = None
    session_log: list[tuple[float, str]] = field(default_factory=list)
    status: str = ""
    status_log: list[tuple[float, str]] = field(default_factory=list)
    title: str = ""
    prompts: list[Json] = field(default_factory=list)


@dataclass(slots=True)
class Channel:
    id: str
    name: str
    kind: ChannelKind
    members: set[str] = field(default_factory=set)
    messages: dict[str, Message] = field(default_factory=dict)
    archived: bool = False
    shared: bool = False

    @property
    def is_private(self) -> bool:
        return self.kind != "channel"

    def newest_first(self) -> Iterator[Message]:
        return reversed(self.messages.values())
