"""What is said to the engine, as Assistants v2 messages, within the vendor's limits.

Limits: 32 messages a call (threads.create and additional_messages), 256,000 characters a message, 10 content parts
and 10 attachments a message; which tool reads which file: OpenAI's tool-file-search and tool-code-interpreter pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from bot.domain import EngineFile, Exchange, Input

Body = dict[str, Any]

MESSAGES = 32
CHARS = 256_000
PARTS = 10

_CUT = "\n[… cut: this was too long …]\n"
_EARLIER = "Earlier in this conversation (shortened):\n\n"
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_SEARCHABLE = frozenset(
    {
        "c",
        "cpp",
        "cs",
        "css",
        "doc",
        "docx",
        "go",
        "html",
        "java",
        "js",
        "json",
        "md",
        "pdf",
        "php",
        "pptx",
        "py",
    }
    | {"rb", "sh", "tex", "ts", "txt"}
)
_RUNNABLE = _SEARCHABLE | {"csv", "tsv", "xlsx", "xml", "zip", "tar", "jpg", "jpeg", "gif", "png"}


def is_image(media_type: str) -> bool:
    return media_type in _IMAGES


def shortened(text: str, limit: int = CHARS) -> str:
    """Head and tail of a text that is too long: a question stands at either end."""
    if len(text) <= limit:
        return text
    half = (limit - len(_CUT)) // 2
    return text[:half] + _CUT + text[-half:]


def said(inputs: Sequence[Input], tools: Sequence[str]) -> list[Body]:
    """One user message an input; more than a call takes are put together, in order."""
    if len(inputs) > MESSAGES:
        size = -(-len(inputs) // MESSAGES)
        inputs = [_joined(inputs[start : start + size]) for start in range(0, len(inputs), size)]
    messages = [_message(one, tools) for one in inputs]
    return messages[-MESSAGES:]


def remembered(transcript: Sequence[Exchange]) -> list[Body]:
    """The newest exchanges word for word; older ones, when a call cannot take them all, as one shortened message."""
    whole = [exchange for exchange in transcript if exchange.asked or exchange.answered]
    kept = whole if len(whole) <= MESSAGES // 2 else whole[-(MESSAGES // 2 - 1) :]
    older = "\n\n".join(f"They: {e.asked}\nYou: {e.answered}" for e in whole[: len(whole) - len(kept)])
    messages: list[Body] = []
    if older:
        # The end of what is older matters most.
        room = CHARS - len(_EARLIER)
        messages.append({"role": "user", "content": _EARLIER + older[-room:]})
    for exchange in kept:
        if exchange.asked:
            messages.append({"role": "user", "content": shortened(exchange.asked)})
        if exchange.answered:
            messages.append({"role": "assistant", "content": shortened(exchange.answered)})
    return messages


def _joined(inputs: Sequence[Input]) -> Input:
    return Input(
        "\n\n".join(one.text for one in inputs if one.text), tuple(f for one in inputs for f in one.files)
    )


def _message(one: Input, tools: Sequence[str]) -> Body:
    images = [file for file in one.files if is_image(file.media_type)][: PARTS - 1]
    attachments: list[Body] = []
    unread: list[str] = []
    for file in one.files:
        if file in images:
            continue
        able = _tools_for(file, tools)
        if able and len(attachments) < PARTS:
            attachments.append({"file_id": file.id, "tools": [{"type": tool} for tool in able]})
        else:
            unread.append(file.name)
    text = one.text
    if unread:
        # The model must not pretend to have read what no tool of its can open.
        text += f"\n\n[Files that came along but cannot be opened: {', '.join(unread)}]"
    text = shortened(text) or "(no text)"
    message: Body = {"role": "user", "content": text}
    if images:
        parts: list[Body] = [{"type": "text", "text": text}]
        parts += [{"type": "image_file", "image_file": {"file_id": file.id}} for file in images]
        message["content"] = parts
    if attachments:
        message["attachments"] = attachments
    return message


def _tools_for(file: EngineFile, tools: Sequence[str]) -> list[str]:
    kind = PurePosixPath(file.name).suffix.lower().removeprefix(".")
    able = []
    if "file_search" in tools and kind in _SEARCHABLE:
        able.append("file_search")
    if "code_interpreter" in tools and (kind in _RUNNABLE or file.media_type.startswith("text/")):
        able.append("code_interpreter")
    return able
