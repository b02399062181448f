"""What a user sees of a message."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.fakes.slack.model import Json, Message

_PING = re.compile(r"<!(?:channel|here|everyone)(?:\|[^>]*)?>|<@[UW][A-Z0-9]+(?:\|[^>]*)?>|<!subteam\^[^>]+>")
_FURNITURE = {"actions", "context_actions", "divider", "task_card", "plan", "input"}


def visible_text(message: Message, *, tasks: bool = False) -> str:
    """The text on the screen: streamed markdown, then blocks; `text` only when there is neither.

    Blocks win over `text`, which then serves notifications only
    (https://docs.slack.dev/reference/methods/chat.postMessage/). Buttons, task cards and plans are
    furniture and left out; `tasks=True` appends the titles of the task cards.
    """
    parts = [message.streamed] if message.streamed else []
    parts += [text for block in message.blocks if (text := block_text(block))]
    if not message.streamed and not message.blocks and message.text:
        parts.append(html.unescape(message.text))
    parts += [
        text for item in message.attachments if (text := str(item.get("text") or item.get("fallback") or ""))
    ]
    if tasks:
        parts += [str(task.get("title", "")) for task in message.tasks.values()]
    return "\n".join(parts)


def pings(message: Message) -> list[str]:
    """Every mention in the message that would notify somebody (`<!channel>`, `<@U…>`, user groups)."""
    source = [message.streamed, *strings(message.blocks)]
    return _PING.findall("\n".join(source if any(source) else [message.text]))


def block_text(block: Json) -> str:
    """A block as lines of text; a table as `a | b` lines."""
    match block.get("type"):
        case "markdown":
            text = str(block.get("text", ""))
        case "table" | "data_table":
            text = "\n".join(" | ".join(_cell(cell) for cell in row) for row in block.get("rows", []))
        case "rich_text":
            text = "".join(_rich(block.get("elements", []))).removesuffix("\n")
        case "image":
            text = str(block.get("alt_text", ""))
        case kind if kind in _FURNITURE:
            text = ""
        case "context":
            text = " ".join(_plain(element) for element in block.get("elements", []))
        case _:
            named = [_plain(block.get(key)) for key in ("title", "subtitle", "text", "body")]
            fields = [_plain(item) for item in block.get("fields") or []]
            nested = [block_text(child) for child in block.get("blocks") or block.get("child_blocks") or []]
            text = "\n".join(part for part in (*named, *fields, *nested) if part)
    return text


def characters(blocks: Iterable[Json]) -> int:
    """Characters of all text in the blocks, as far as the undocumented total limit counts them."""
    return sum(len(text) for text in strings(list(blocks)))


def strings(node: Any) -> Iterator[str]:
    """Every `text` string below `node`."""
    if isinstance(node, list):
        for item in node:
            yield from strings(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "text" and isinstance(value, str):
                yield value
            elif isinstance(value, (dict, list)):
                yield from strings(value)


def rich_text(text: str) -> Json:
    """The block Slack makes of plain text."""
    section = {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}
    return {"type": "rich_text", "block_id": "rt", "elements": [section]}


def _plain(node: Any) -> str:
    if isinstance(node, str):
        return node
    if not isinstance(node, dict):
        return ""
    if node.get("type") == "rich_text":
        return block_text(node)
    text = node.get("text", "")
    if isinstance(text, dict):
        return _plain(text)
    return html.unescape(str(text)) if node.get("type") == "mrkdwn" else str(text)


def _cell(cell: Any) -> str:
    if isinstance(cell, dict) and "value" in cell and "text" not in cell:
        return str(cell["value"])
    return _plain(cell)


def _rich(elements: Iterable[Json]) -> Iterator[str]:
    for element in elements:
        match element.get("type"):
            case "text":
                yield str(element.get("text", ""))
            case "link":
                yield str(element.get("text") or element.get("url", ""))
            case "user":
                yield f"<@{element.get('user_id')}>"
            case "emoji":
                yield f":{element.get('name')}:"
            case _:
                yield from _rich(element.get("elements", []))
                yield "\n"
