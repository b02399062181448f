"""Threads, messages and runs as they are created: inside one transaction, or not at all."""

from collections.abc import Sequence

from bot.local import objects
from bot.local.errors import bad_request
from bot.local.requests import NewMessage, RunFields, ThreadFields, ToolOutputs
from bot.local.tx import ActiveRun, Tx
from bot.local.wire import Body


def insert_thread(tx: Tx, wanted: ThreadFields, *, now: int, tool_resources: Body | None = None) -> Body:
    own = wanted.tool_resources.model_dump(exclude_none=True) if wanted.tool_resources else None
    body = objects.thread(metadata=wanted.metadata, tool_resources=own or tool_resources, now=now)
    tx.insert("thread", body)
    insert_messages(tx, body["id"], wanted.messages or (), now=now)
    return body


def insert_messages(tx: Tx, thread_id: str, wanted: Sequence[NewMessage], *, now: int) -> list[Body]:
    """Raises the API's 404 for a file that does not exist."""
    bodies: list[Body] = []
    for message in wanted:
        for file_id in message.files():
            tx.need("file", file_id)
        body = objects.message(
            thread_id,
            role=message.role,
            content=message.parts(),
            attachments=message.attached(),
            metadata=message.metadata,
            now=now,
        )
        tx.insert("message", body, parent=thread_id)
        bodies.append(body)
    return bodies


def claim_run(
    tx: Tx, thread_id: str, wanted: RunFields, *, now: int, deadline: tuple[float, int], default_model: str
) -> Body:
    """Locks the thread and adds the run's additional messages, or does neither."""
    exact, expires_at = deadline
    tx.need("thread", thread_id)
    assistant = tx.need("assistant", wanted.assistant_id)
    body = objects.run(thread_id, assistant, wanted.body(), now=now, expires_at=expires_at)
    body["model"] = body["model"] or default_model
    tx.claim(thread_id, body, deadline=exact)
    insert_messages(tx, thread_id, wanted.additional_messages or (), now=now)
    tx.insert("run", body, parent=thread_id)
    return body


def take_outputs(
    tx: Tx, thread_id: str, run_id: str, wanted: ToolOutputs, *, now: int, clock: float
) -> tuple[Body, Body, ActiveRun]:
    """The run, queued again, its finished tool step, and its claim. All calls of the step must be answered."""
    run = tx.need("run", run_id, parent=thread_id)
    active = tx.active(thread_id)
    if run["status"] != "requires_action" or active is None:
        raise bad_request(f'Runs in status "{run["status"]}" do not accept tool outputs.')
    if active.deadline <= clock:
        raise bad_request('Runs in status "expired" do not accept tool outputs.')
    step = next(
        step
        for step in reversed(tx.all("step", parent=run_id))
        if step["type"] == "tool_calls" and step["status"] == "in_progress"
    )
    outputs = {output.tool_call_id: output.output for output in wanted.tool_outputs}
    calls = step["step_details"]["tool_calls"]
    expected = [call["id"] for call in calls]
    if set(outputs) != set(expected):
        raise bad_request(
            f"Expected tool outputs for call_ids {expected}, got {list(outputs)}", param="tool_outputs"
        )
    for call in calls:
        call["function"]["output"] = outputs[call["id"]]
    step |= {"status": "completed", "completed_at": now}
    run |= {"status": "queued", "required_action": None, "started_at": None}
    tx.save(step)
    tx.mark(run)
    return run, step, active
