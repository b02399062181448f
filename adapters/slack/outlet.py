"""The half of Slack that speaks: native streams where they are to be had, else messages that are edited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from adapters.slack import wire
from adapters.slack.api import API_URL, Answer, Api
from adapters.slack.blocks import body, marked, plain_body
from adapters.slack.credentials import scope_problems
from adapters.slack.files import MEBIBYTE, SHARING_SECONDS, Files
from adapters.slack.presence import Presence
from adapters.slack.streams import STARTS_A_MINUTE, Streams
from bot.domain import Attachment, Limits, Message, Post, Stage, ThreadKey, ToolKind, Turn
from bot.errors import Misconfigured, Rejected, Retryable
from bot.ports import Clock

LIMITS = Limits(
    # 12,000 is Slack's limit for markdown, about 13,200 for all blocks
    # (https://github.com/slackapi/bolt-js/issues/2509); the rest is spare: what it counts as a character is unsaid.
    post_chars=11_000,
    edit_seconds=0.8,
    edits_per_minute=100,  # chat.appendStream is tier 4 (https://docs.slack.dev/apis/web-api/rate-limits)
    upload_bytes=100 * MEBIBYTE,
)
_BLOCKS_REFUSED = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"}
)
_STREAMS = frozenset({"streaming_state_conflict"})
_NO_THREAD = frozenset({"thread_not_found"})  # its first message was deleted: there is nothing to see
_PAGES = 10
_PAGE = 200


class SlackOutlet:
    """Implements `bot.ports.Outlet`. A post is a "stream" while Slack streams it, a "message" after that.

    chat.startStream takes no metadata, so an open stream is known by being our only unmarked message: a thread has one
    turn at a time, and everything that ends is marked.
    """

    def __init__(
        self,
        *,
        bot_token: str,
        api_url: str = API_URL,
        clock: Clock | None = None,
        starts_per_minute: int = STARTS_A_MINUTE,
        max_download: int = 100 * MEBIBYTE,
    ) -> None:
        self._api = Api(token=bot_token, api_url=api_url, clock=clock)
        self._streams = Streams(self._api, starts_per_minute=starts_per_minute)
        self._presence = Presence(self._api)
        self._files = Files(self._api, max_download=max_download)

    @property
    def limits(self) -> Limits:
        return LIMITS

    async def check(self) -> None:
        """Raise Misconfigured for a token or scopes that will not do, Retryable when Slack is away."""
        await self._api.us()
        if problems := scope_problems(self._api.scopes):
            raise Misconfigured(*problems)

    async def open(self, turn: Turn, text: str, stage: Stage) -> Post:
        if stage == "live" and (post := await self._streams.start(turn, text)) is not None:
            return post
        answer = await self._publish(
            "chat.postMessage",
            turn,
            text,
            stage,
            thread_ts=turn.thread.root,
            unfurl_links=False,
            unfurl_media=False,
        )
        return Post(str(answer["ts"]), "message")

    async def edit(self, turn: Turn, post: Post, text: str, stage: Stage) -> Post:
        if post.kind == "stream":
            if await self._streams.extend(turn, post, text, stage):
                if stage == "live":
                    return post
                self._presence.ended(turn.thread)
                return Post(post.id, "message")
            await self._streams.close(turn.thread, post, working=stage == "live" and self._presence.sessions)
        for _ in range(2):
            answer = await self._publish("chat.update", turn, text, stage, ts=post.id)
            if answer.get("ok"):
                return Post(post.id, "message")
            # It streams after all: another worker's.
            await self._streams.close(turn.thread, post, working=stage == "live" and self._presence.sessions)
        raise Retryable("chat.update: the stream does not close")

    async def remove(self, post: Post, thread: ThreadKey) -> None:
        for _ in range(2):
            answer = await self._api.call(
                "chat.delete", repeatable=True, expect=_STREAMS | {"message_not_found"}, patience=1.0,
                channel=thread.channel, ts=post.id,
            )  # fmt: skip
            if answer.get("error") not in _STREAMS:
                return
            await self._streams.close(thread, post)
        raise Retryable("chat.delete: the stream does not close")

    async def find(self, turn: Turn) -> tuple[Post, ...]:
        found = {post.id: post for post in turn.posts}
        async for ts, said in self._ours(turn.thread, since=turn.messages[0].id):
            if said.get("files"):
                continue
            match marked(said):
                case turn.id:
                    found.setdefault(ts, Post(ts, "message"))
                case None:
                    found.setdefault(ts, Post(ts, "stream"))
        return tuple(sorted(found.values(), key=lambda post: _order(post.id)))

    async def activity(self, turn: Turn, tool: ToolKind | None, *, working: bool) -> None:
        await self._presence.show(turn.thread, tool, working=working)

    async def upload(self, turn: Turn, name: str, media_type: str, content: bytes) -> str:  # noqa: ARG002 - Slack looks itself
        if len(content) > LIMITS.upload_bytes:
            size, most = (-(-count // MEBIBYTE) for count in (len(content), LIMITS.upload_bytes))
            raise Rejected(f"“{name}” is too large to send: it has {size} MB, and I send up to {most} MB.")
        if turn.resumed and (sent := await self._sent(turn, name)):
            return sent
        return await self._files.upload(turn, name, content)

    def fetch(self, attachment: Attachment) -> AsyncGenerator[bytes, None]:
        return self._files.fetch(attachment)

    async def history(self, message: Message, limit: int) -> tuple[Message, ...]:
        """One call: apps that are distributed commercially get one a minute, of 15 messages at most
        (https://docs.slack.dev/changelog/2025-05-terms-rate-limit-update-and-faq/).
        """
        if message.opens or limit <= 0:
            return ()
        us = await self._api.us()
        answer = await self._api.call(
            "conversations.replies", repeatable=True, expect=_NO_THREAD, patience=1.0, channel=message.thread.channel,
            ts=message.thread.root, latest=message.id, limit=_PAGE,
        )  # fmt: skip
        said = (wire.spoken(item, message.thread, us) for item in answer.get("messages") or ())
        before = [item for item in said if item is not None and _newer(message.id, item.id)]
        return tuple(before[-limit:])

    async def close(self) -> None:
        await self._api.close()

    async def _publish(self, method: str, turn: Turn, text: str, stage: Stage, **where: Any) -> Answer:
        """Post or update with all furniture, without it if Slack refuses that. Not `ok`: the message streams."""
        updates = method == "chat.update"
        conflict = _STREAMS if updates else frozenset()
        patience = 0.0 if stage == "live" else 1.0
        full = body(turn, text, stage, stoppable=not self._presence.sessions)
        answer = await self._api.call(
            method, repeatable=updates, expect=_BLOCKS_REFUSED | conflict, patience=patience,
            channel=turn.thread.channel, **where, **full,
        )  # fmt: skip
        if answer.get("error") in _BLOCKS_REFUSED:
            answer = await self._api.call(
                method, repeatable=updates, expect=conflict, patience=patience,
                channel=turn.thread.channel, **where, **plain_body(turn, text),
            )  # fmt: skip
        return answer

    async def _sent(self, turn: Turn, name: str) -> str | None:
        """The file that the worker before us sent and did not get to write down.

        Files take no metadata, and a mark in a name would be seen. But they follow the turn's text one by one, each
        written down before the next: at most one of ours in that place is not, and that is it.
        """
        written = {upload.id for upload in turn.uploads}
        since = (turn.posts or turn.messages)[0].id
        looked = False
        for wait in SHARING_SECONDS:
            await self._api.clock.sleep(wait)
            try:
                async for _, said in self._ours(turn.thread, since=since):
                    for file in said.get("files") or ():
                        # In channels shared with others a file may be nothing but its id.
                        file_id = str(file.get("id", ""))
                        if file_id not in written and name in (file.get("title", name), file.get("name")):
                            return file_id
            except Retryable:
                if not looked:
                    raise
                return None  # some apps may look once a minute only: one look has to do
            looked = True
        return None

    async def _ours(self, thread: ThreadKey, *, since: str) -> AsyncIterator[tuple[str, Answer]]:
        """What we said in the thread after `since`, each with its ts."""
        us = await self._api.us()
        async for said in self._replies(thread, oldest=since):
            ts = said.get("ts")
            ours = said.get("user") == us.user or (us.bot and said.get("bot_id") == us.bot)
            if ours and isinstance(ts, str) and _newer(ts, since):
                yield ts, said

    async def _replies(self, thread: ThreadKey, *, oldest: str) -> AsyncIterator[Answer]:
        page: Answer = {}
        for _ in range(_PAGES):
            answer = await self._api.call(
                "conversations.replies", repeatable=True, expect=_NO_THREAD, patience=1.0, channel=thread.channel, ts=thread.root,
                oldest=oldest, inclusive="true", include_all_metadata="true", limit=_PAGE,
                **page,
            )  # fmt: skip
            for said in answer.get("messages") or ():
                yield said
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return
            page = {"cursor": cursor}


def _order(ts: str) -> tuple[int, int]:
    seconds, _, micros = ts.partition(".")
    return int(seconds), int(micros or 0)


def _newer(ts: str, than: str) -> bool:
    return _order(ts) > _order(than)
