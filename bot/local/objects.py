"""The objects of the protocol with every field present, null where empty.

Shapes are those of the openai SDK's `openai.types.beta` (the contract tests validate against them strictly).
Times are whole unix seconds.
"""

from collections.abc import Iterable
from typing import Any

from bot.local.wire import Body, new_id


def assistant(fields: Body, *, now: int) -> Body:
    return {
        "id": new_id("asst_"),
        "object": "assistant",
        "created_at": now,
        "name": None,
        "description": None,
        "instructions": None,
        "tools": [],
        "tool_resources": None,
        "metadata": {},
        "temperature": None,
        "top_p": None,
        "reasoning_effort": None,
        "response_format": "auto",
    } | fields


def thread(*, metadata: Body | None, tool_resources: Body | None, now: int) -> Body:
    return {
        "id": new_id("thread_"),
        "object": "thread",
        "created_at": now,
        "metadata": metadata or {},
        "tool_resources": tool_resources or {},
    }


def message(
    thread_id: str,
    *,
    role: str,
    content: list[Body],
    attachments: list[Body] | None = None,
    metadata: Body | None = None,
    now: int,
) -> Body:
    return {
        "id": new_id("msg_"),
        "object": "thread.message",
        "created_at": now,
        "thread_id": thread_id,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": now,
        "incomplete_at": None,
        "role": role,
        "content": content,
        "assistant_id": None,
        "run_id": None,
        "attachments": attachments or [],
        "metadata": metadata or {},
    }


def answer(run: Body, *, now: int) -> Body:
    """The assistant's message of a run, still empty."""
    body = message(run["thread_id"], role="assistant", content=[], now=now)
    return body | {
        "status": "in_progress",
        "completed_at": None,
        "assistant_id": run["assistant_id"],
        "run_id": run["id"],
    }


def text(value: str) -> Body:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def run(thread_id: str, assistant: Body, fields: Body, *, now: int, expires_at: int) -> Body:
    """`fields` (set by the caller) win over what the assistant says."""

    def chosen(name: str, default: Any) -> Any:
        own = fields.get(name)
        return own if own is not None else assistant.get(name) if assistant.get(name) is not None else default

    more = fields.get("additional_instructions")
    instructions: Iterable[str] = (part for part in (chosen("instructions", ""), more) if part)
    return {
        "id": new_id("run_"),
        "object": "thread.run",
        "created_at": now,
        "thread_id": thread_id,
        "assistant_id": assistant["id"],
        "status": "queued",
        "required_action": None,
        "last_error": None,
        "expires_at": expires_at,
        "started_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "incomplete_details": None,
        "model": chosen("model", ""),
        "instructions": "\n\n".join(instructions),
        "tools": chosen("tools", []),
        "metadata": fields.get("metadata") or {},
        "usage": None,
        "temperature": chosen("temperature", None),
        "top_p": chosen("top_p", None),
        "reasoning_effort": chosen("reasoning_effort", None),
        "max_prompt_tokens": fields.get("max_prompt_tokens"),
        "max_completion_tokens": fields.get("max_completion_tokens"),
        "truncation_strategy": fields.get("truncation_strategy") or {"type": "auto", "last_messages": None},
        "response_format": chosen("response_format", "auto"),
        "tool_choice": fields.get("tool_choice") or "auto",
        "parallel_tool_calls": fields.get("parallel_tool_calls", True),
    }


def step(run: Body, details: Body, *, now: int) -> Body:
    """`details` is `step_details`: `message_creation` or `tool_calls`."""
    return {
        "id": new_id("step_"),
        "object": "thread.run.step",
        "created_at": now,
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


def file(file_id: str, *, filename: str, purpose: str, size: int, now: int) -> Body:
    return {
        "id": file_id,
        "object": "file",
        "bytes": size,
        "created_at": now,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
        "expires_at": None,
    }


def deleted(kind: str, object_id: str) -> Body:
    """`kind` is the protocol's word: `assistant.deleted`, `thread.deleted`, `thread.message.deleted`, `file`."""
    return {"id": object_id, "object": kind, "deleted": True}
