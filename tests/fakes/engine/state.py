"""Objects of the scripted server: plain dictionaries as they go over the wire."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.engine.script import Script

Body = dict[str, Any]

TERMINAL = frozenset({"completed", "failed", "incomplete", "expired", "cancelled"})


class Ids:
    """Unique across restarts of the server, ordered within one."""

    def __init__(self) -> None:
        self._salt = secrets.token_hex(4)
        self._count = itertools.count(1)

    def __call__(self, prefix: str) -> str:
        return f"{prefix}{self._salt}{next(self._count):06d}"


@dataclass(slots=True)
class RunState:
    """One run: its wire object, what it produced, and the connection it streams to, if any."""

    body: Body
    script: Script
    steps: list[Body] = field(default_factory=list)
    sink: Callable[[bytes], None] | None = None
    hang_up: Callable[[bool], None] | None = None
    player: asyncio.Task[None] | None = None
    outputs: asyncio.Event = field(default_factory=asyncio.Event)
    given: dict[str, str] = field(default_factory=dict)
    muted: bool = False  # the connection is kept open, silent
    streamed: asyncio.Event = field(default_factory=asyncio.Event)  # the current stream is over

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def over(self) -> bool:
        return self.body["status"] in TERMINAL

    def emit(self, event: str, data: Body) -> None:
        if self.sink is not None:
            self.sink(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())


@dataclass(slots=True)
class ThreadState:
    body: Body
    messages: list[Body] = field(default_factory=list)
    runs: list[RunState] = field(default_factory=list)

    @property
    def active(self) -> RunState | None:
        return next((run for run in reversed(self.runs) if not run.over), None)


def now() -> int:
    return int(time.time())


def message(ids: Ids, thread: str, *, role: str, content: list[Body], **more: Any) -> Body:
    status = more.pop("status", "completed")
    return {
        "id": ids("msg_"),
        "object": "thread.message",
        "created_at": now(),
        "thread_id": thread,
        "status": status,
        "incomplete_details": None,
        "completed_at": now() if status == "completed" else None,
        "incomplete_at": None,
        "role": role,
        "content": content,
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    } | more


def heard(ids: Ids, thread: str, asked: Body) -> Body:
    """A message as a client sends it, as the server keeps it."""
    raw = asked["content"]
    parts = [{"type": "text", "text": raw}] if isinstance(raw, str) else raw
    content = [
        {"type": "text", "text": {"value": part["text"], "annotations": []}}
        if part["type"] == "text"
        else part
        for part in parts
    ]
    return message(
        ids,
        thread,
        role=asked["role"],
        content=content,
        attachments=asked.get("attachments") or [],
        metadata=asked.get("metadata") or {},
    )


def run(ids: Ids, thread: str, assistant: Body, asked: Body) -> Body:
    return {
        "id": ids("run_"),
        "object": "thread.run",
        "created_at": now(),
        "thread_id": thread,
        "assistant_id": assistant["id"],
        "status": "queued",
        "required_action": None,
        "last_error": None,
        "expires_at": now() + 600,
        "started_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "incomplete_details": None,
        "model": asked.get("model") or assistant["model"],
        "instructions": asked.get("instructions") or assistant["instructions"] or "",
        "tools": assistant["tools"],
        "metadata": asked.get("metadata") or {},
        "usage": None,
        "temperature": None,
        "top_p": None,
        "max_prompt_tokens": None,
        "max_completion_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }


def step(ids: Ids, run: Body, details: Body) -> Body:
    return {
        "id": ids("step_"),
        "object": "thread.run.step",
        "created_at": now(),
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": details["type"],
        "status": "in_progress",
        "step_details": details,
        "last_error": None,
        "expired_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "metadata": {},
        "usage": None,
    }


def text_of(body: Body) -> str:
    return "".join(part["text"]["value"] for part in body["content"] if part["type"] == "text")


def page(items: list[Body], query: Any) -> Body:
    """One page of a list, newest first unless asked otherwise; `items` are oldest first."""
    ordered = items if query.get("order") == "asc" else items[::-1]
    after = query.get("after")
    if after:
        ids = [item["id"] for item in ordered]
        ordered = ordered[ids.index(after) + 1 :] if after in ids else []
    limit = int(query.get("limit", 20))
    data = ordered[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(ordered) > limit,
    }
