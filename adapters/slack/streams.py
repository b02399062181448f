"""Native streams: text that Slack shows growing. Each lives about five minutes on Slack's side.

https://docs.slack.dev/reference/methods/chat.startStream/ ; life: https://github.com/slackapi/python-slack-sdk/issues/1859
The SDK's AsyncChatStream is not used: it holds back 256 characters, doubles text when two appends race, and repeats text
after a lost answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import structlog

from adapters.slack.api import Api
from adapters.slack.blocks import Body, ending
from bot.domain import Post, Stage, ThreadKey, Turn
from bot.errors import Ambiguous, Rejected, Retryable

_log = structlog.get_logger()
LIFE_SECONDS = 240.0  # of Slack's 300
STARTS_A_MINUTE = 18  # of Slack's 20, tier 2 (https://docs.slack.dev/reference/methods/chat.startStream/)
_REMEMBER_SECONDS = 600.0
_ROOM = 5_000
_WORKSPACE_REFUSES = frozenset(
    {"unknown_method", "feature_disabled", "feature_not_enabled", "not_allowed", "not_supported", "not_an_agent",
     "deprecated_endpoint", "method_deprecated"}
)  # fmt: skip
_PERSON_REFUSED = frozenset(
    {
        "missing_recipient_user_id",
        "missing_recipient_team_id",
        "user_not_found",
        "team_not_found",
        "invalid_recipient",
    }
)
_NOT_HERE = frozenset(
    {
        "thread_not_found",
        "channel_not_found",
        "not_in_channel",
        "is_archived",
        "msg_too_long",
        "msg_blocks_too_long",
    }
)
_CLOSED = frozenset({"message_not_in_streaming_state", "streaming_state_conflict"})


@dataclass(slots=True)
class _Stream:
    """What is surely shown, without keeping it: thousands of these may live at once."""

    opened_at: float
    length: int
    digest: int

    def suffix(self, text: str) -> str | None:
        """What is missing of `text`; None when the text is not a continuation of what is shown."""
        if len(text) < self.length or hash(text[: self.length]) != self.digest:
            return None
        return text[self.length :]


class Streams:
    """The streams this process has open. A stream is forgotten while a call on it is under way: should the call be cut,
    nobody knows what Slack shows, and only an update with the whole text is safe.
    """

    def __init__(self, api: Api, *, starts_per_minute: int = STARTS_A_MINUTE) -> None:
        self._api = api
        self._open: dict[tuple[str, str], _Stream] = {}
        self._starts: deque[float] = deque(maxlen=max(starts_per_minute, 1))
        self._refused: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def start(self, turn: Turn, text: str) -> Post | None:
        """None: no stream to be had now; nothing was said. Ambiguous: it may have been."""
        author = turn.messages[-1].author
        thread, now = turn.thread, self._api.clock.now()
        if self._is_refused("*", author.id, thread.channel) or not self._has_budget(now):
            return None
        self._starts.append(now)
        shown = text or "…"
        try:
            answer = await self._api.call(
                "chat.startStream",
                expect=_WORKSPACE_REFUSES | _PERSON_REFUSED | _NOT_HERE,
                channel=thread.channel,
                thread_ts=thread.root,
                markdown_text=shown,
                recipient_user_id=author.id,
                recipient_team_id=author.workspace or thread.workspace,
            )
        except Retryable:
            return None  # the budget is shared with other processes; a message has one of its own
        except Rejected:
            self._refuse(thread.channel)
            return None
        if not answer.get("ok"):
            code = str(answer.get("error"))
            _log.info("slack.no_stream", error=code)
            if code not in _NOT_HERE:
                self._refuse(author.id if code in _PERSON_REFUSED else "*")
            return None
        post = Post(str(answer["ts"]), "stream")
        self._forget_old(now)
        self._open[thread.channel, post.id] = _Stream(now, len(shown), hash(shown))
        return post

    async def extend(self, turn: Turn, post: Post, text: str, stage: Stage) -> bool:
        """Make the stream show `text`, and end it unless live. False: it cannot, `close` it and update the message.

        Raises Retryable when nothing happened.
        """
        key = (turn.thread.channel, post.id)
        stream = self._open.pop(key, None)
        if stream is None or self._api.clock.now() - stream.opened_at >= LIFE_SECONDS:
            return False
        suffix = stream.suffix(text)
        if suffix is None:
            return False
        if not suffix and stage == "live":
            self._open[key] = stream
            return True
        try:
            answer = await self._say(turn, post, suffix, stage)
        except Retryable:
            self._open[key] = stream
            raise
        except (Ambiguous, Rejected) as error:
            _log.info("slack.stream_in_doubt", thread=str(turn.thread), error=type(error).__name__)
            return False
        if answer and stage == "live":
            self._open[key] = _Stream(stream.opened_at, len(text), hash(text))
        return answer

    async def close(self, thread: ThreadKey, post: Post, *, working: bool = False) -> None:
        """End the stream if it still runs, adding nothing. `working`: the session goes on (for agents only)."""
        self._open.pop((thread.channel, post.id), None)
        more: Body = {"session_status": "processing"} if working else {}
        await self._api.call(
            "chat.stopStream", repeatable=True, expect=_CLOSED | _WORKSPACE_REFUSES, patience=1.0,
            channel=thread.channel, ts=post.id, **more,
        )  # fmt: skip

    async def _say(self, turn: Turn, post: Post, suffix: str, stage: Stage) -> bool:
        addition: Body = {"markdown_text": suffix} if suffix else {}
        end: Body = {} if stage == "live" else ending(turn, stage)
        answer = await self._api.call(
            "chat.appendStream" if stage == "live" else "chat.stopStream", expect=_CLOSED,
            patience=0.0 if stage == "live" else 1.0, channel=turn.thread.channel, ts=post.id, **addition, **end,
        )  # fmt: skip
        return bool(answer.get("ok"))

    def _has_budget(self, now: float) -> bool:
        return len(self._starts) < (self._starts.maxlen or 0) or now - self._starts[0] >= 60.0

    def _is_refused(self, *keys: str) -> bool:
        return any(self._refused.get(key, 0.0) > self._api.clock.now() for key in keys)

    def _refuse(self, key: str) -> None:
        if len(self._refused) >= _ROOM:
            self._refused.clear()
        self._refused[key] = self._api.clock.now() + _REMEMBER_SECONDS

    def _forget_old(self, now: float) -> None:
        """Streams nobody ended, of turns another worker took over; oldest first in the dict, give or take an append."""
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if now - oldest.opened_at < 2 * LIFE_SECONDS:
                return
            del self._open[key]
