"""What Slack refuses: sizes, shapes and rates."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.fakes.slack.model import Json, SlackError
from tests.fakes.slack.rendering import characters

MARKDOWN = 12_000
"""Of `markdown_text`, and of all markdown blocks of one message together
(https://docs.slack.dev/reference/block-kit/blocks/markdown-block/)."""
BLOCKS = 13_200
"""Of all blocks together: undocumented, seen in https://github.com/slackapi/bolt-js/issues/2509."""
TEXT = 40_000
"""`text` is cut here, silently (https://docs.slack.dev/changelog/2018-truncating-really-long-messages/)."""
UPDATED_TEXT = 4_000
"""chat.update refuses more (https://docs.slack.dev/reference/methods/chat.update/)."""

_BLOCK_TYPES = frozenset(
    [
        "actions",
        "alert",
        "auth_provider",
        "card",
        "carousel",
        "container",
        "context",
        "context_actions",
        "data_table",
        "data_visualization",
        "divider",
        "file",
        "header",
        "image",
        "input",
        "markdown",
        "plan",
        "rich_text",
        "section",
        "table",
        "task_card",
        "video",
    ]
)
_ELEMENTS = {"actions": 25, "context": 10, "context_actions": 5}


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` calls in any window of `seconds`, per workspace or per channel."""

    count: int
    seconds: float = 60.0
    per_channel: bool = False


_TIER_3 = "chat.update chat.delete conversations.replies conversations.history conversations.info conversations.open"
TIERS: dict[str, Limit] = {
    **dict.fromkeys(_TIER_3.split(), Limit(50)),
    **dict.fromkeys(("reactions.add", "team.info", "apps.connections.open"), Limit(50)),
    **dict.fromkeys(("agents.sessions.setStatus", "agents.sessions.rename"), Limit(50)),
    **dict.fromkeys(("chat.startStream", "chat.stopStream"), Limit(20)),
    **dict.fromkeys(("chat.appendStream", "chat.postEphemeral", "users.info", "views.publish"), Limit(100)),
    **dict.fromkeys(("files.getUploadURLExternal", "files.completeUploadExternal", "files.info"), Limit(100)),
    "chat.postMessage": Limit(1, 1.0, per_channel=True),
}
"""https://docs.slack.dev/apis/web-api/rate-limits"""


class Rates:
    """Counts calls in sliding windows; `limits` may be changed at any time."""

    def __init__(self) -> None:
        self.limits = dict(TIERS)
        self._seen: dict[tuple[str, str], deque[float]] = {}

    def refuse(self, method: str, channel: str, now: float) -> int | None:
        """Whole seconds until the next call may come, or None: this one may (and is counted)."""
        limit = self.limits.get(method)
        if limit is None:
            return None
        seen = self._seen.setdefault((method, channel if limit.per_channel else ""), deque())
        while seen and seen[0] <= now - limit.seconds:
            seen.popleft()
        if len(seen) >= limit.count:
            return max(1, math.ceil(seen[0] + limit.seconds - now))
        seen.append(now)
        return None


def check_markdown(text: str) -> None:
    if len(text) > MARKDOWN:
        raise SlackError("msg_too_long")


def check_blocks(blocks: Any, *, besides: int = 0) -> list[Json]:
    """The blocks, if Slack would take them; `besides` are characters the message holds already."""
    if not isinstance(blocks, list):
        raise SlackError("invalid_blocks_format")
    problems = list(_problems(blocks))
    if problems:
        raise SlackError("invalid_blocks", errors=problems, response_metadata={"messages": problems})
    if sum(block["type"] == "table" for block in blocks) > 1:
        # https://docs.slack.dev/reference/block-kit/blocks/table-block/
        raise SlackError("invalid_attachments", response_metadata={"messages": ["only_one_table_allowed"]})
    if besides + characters(blocks) > BLOCKS:
        raise SlackError("msg_blocks_too_long")
    return blocks


def check_metadata(metadata: Any) -> Json:
    """https://docs.slack.dev/messaging/message-metadata/"""
    match metadata:
        case {"event_type": str(), "event_payload": dict()}:
            return dict(metadata)
        case _:
            raise SlackError("invalid_metadata_format")


def _problems(blocks: list[Any]) -> Iterable[str]:
    if len(blocks) > 50:
        yield "[ERROR] no more than 50 items allowed [json-pointer:/blocks]"
    markdown = 0
    ids: set[str] = set()
    for index, block in enumerate(blocks):
        at = f"[json-pointer:/blocks/{index}]"
        if not isinstance(block, dict) or block.get("type") not in _BLOCK_TYPES:
            yield f"[ERROR] unsupported type {at}"
            continue
        block_id = block.get("block_id")
        if block_id in ids:
            yield f"[ERROR] block_id already exists {at}"
        ids |= {block_id} if block_id else set()
        markdown += len(block.get("text", "")) if block["type"] == "markdown" else 0
        yield from (f"[ERROR] {problem} {at}" for problem in _block_problems(block))
    if markdown > MARKDOWN:
        yield "[ERROR] markdown blocks exceed 12000 characters together [json-pointer:/blocks]"


def _block_problems(block: Json) -> Iterable[str]:
    kind = block["type"]
    if kind == "section":
        if not block.get("text") and not block.get("fields"):
            yield "section needs text or fields"
        if len((block.get("text") or {}).get("text", "")) > 3000:
            yield "must be less than 3001 characters"
    if kind == "header" and len(block["text"]["text"]) > 150:
        yield "must be less than 151 characters"
    if kind == "markdown" and not block.get("text"):
        yield "missing text"
    if kind == "table":
        yield from _table_problems(block.get("rows"))
    elements = block.get("elements") or []
    if kind in _ELEMENTS and not 0 < len(elements) <= _ELEMENTS[kind]:
        yield f"{kind} takes 1 to {_ELEMENTS[kind]} elements"
    if kind in ("actions", "context_actions"):
        yield from _button_problems(elements)


def _table_problems(rows: Any) -> Iterable[str]:
    if not rows or len(rows) > 100:
        yield "a table takes 1 to 100 rows"
    elif any(not 0 < len(row) <= 20 for row in rows):
        yield "a row takes 1 to 20 cells"


def _button_problems(elements: list[Json]) -> Iterable[str]:
    ids = [element["action_id"] for element in elements if element.get("action_id")]
    if len(ids) != len(set(ids)):
        yield "action_id already exists"
    for element in elements:
        text = element.get("text")
        if isinstance(text, dict) and len(text.get("text", "")) > 75:
            yield "must be less than 76 characters"
        if len(element.get("value") or "") > 2000 or len(element.get("action_id") or "") > 255:
            yield "value or action_id is too long"
