"""chat.*: posting, editing and streaming (https://docs.slack.dev/reference/methods/)."""

from __future__ import annotations

from typing import Any

from tests.fakes.slack.core import SlackCore
from tests.fakes.slack.limits import BLOCKS, TEXT, UPDATED_TEXT, check_blocks, check_markdown, check_metadata
from tests.fakes.slack.model import Channel, Ephemeral, Json, Message, SlackError
from tests.fakes.slack.registry import method, need, truth
from tests.fakes.slack.rendering import characters


@method("chat.postMessage", "chat:write")
def post_message(slack: SlackCore, params: Json) -> Json:
    need(params, "channel")
    channel = slack.writable(params["channel"])
    text, blocks = _content(slack, params)
    message = Message(
        slack.workspace.new_ts(),
        channel.id,
        slack.bot_user_id,
        text=text[:TEXT],
        blocks=blocks,
        attachments=params.get("attachments") or [],
        thread_ts=_thread(channel, params.get("thread_ts")),
        broadcast=truth(params.get("reply_broadcast")),
        bot_id=slack.bot_id,
        username=params.get("username"),
        metadata=check_metadata(params["metadata"]) if params.get("metadata") else None,
    )
    message.subtype = "thread_broadcast" if message.broadcast else None
    slack.workspace.add(message)
    slack.posted(message)
    return {"channel": channel.id, "ts": message.ts, "message": slack.wire(message)}


@method("chat.update", "chat:write")
def update(slack: SlackCore, params: Json) -> Json:
    """Giving `text` without `blocks` removes the blocks; giving `blocks` keeps them on top of any text
    (https://docs.slack.dev/reference/methods/chat.update/).
    """
    message = _own(slack, params)
    if message.stream == "open":
        raise SlackError("streaming_state_conflict")
    given = {
        name for name in ("text", "blocks", "attachments", "markdown_text") if params.get(name) is not None
    }
    if not given and not params.get("metadata"):
        raise SlackError("no_text")
    if given and len(params.get("text") or "") > UPDATED_TEXT:
        raise SlackError("msg_too_long")
    previous = slack.wire(message)
    if given:
        text, blocks = _content(slack, params, attachments=message.attachments)
        message.streamed = ""
        message.tasks = {}
        message.stream = "stopped" if message.stream else None
        message.text, message.blocks = text, blocks
        if params.get("attachments") is not None:
            message.attachments = params["attachments"]
        message.edited = slack.workspace.new_ts() if "blocks" not in given else message.edited
    if params.get("metadata"):
        message.metadata = check_metadata(params["metadata"])
    slack.edited(message, previous)
    return {
        "channel": message.channel,
        "ts": message.ts,
        "text": message.text,
        "message": slack.wire(message),
    }


@method("chat.delete", "chat:write")
def delete(slack: SlackCore, params: Json) -> Json:
    message = _own(slack, params, refusal="cant_delete_message")
    if message.stream == "open":
        slack.end_stream(message, "stopped")
    slack.removed(message)
    return {"channel": message.channel, "ts": message.ts}


@method("chat.postEphemeral", "chat:write")
def post_ephemeral(slack: SlackCore, params: Json) -> Json:
    need(params, "channel", "user")
    channel = slack.writable(params["channel"])
    if params["user"] not in channel.members:
        raise SlackError("user_not_in_channel")
    text, blocks = _content(slack, params)
    slack.ephemerals.append(Ephemeral(channel.id, params["user"], text, blocks, params.get("thread_ts")))
    slack.changed()
    return {"message_ts": slack.workspace.new_ts()}


@method("chat.getPermalink")
def get_permalink(slack: SlackCore, params: Json) -> Json:
    channel = slack.reachable(params.get("channel"))
    message = slack.workspace.message(channel.id, params.get("message_ts"))
    link = f"{slack.workspace.url}/archives/{channel.id}/p{message.ts.replace('.', '')}"
    return {"channel": channel.id, "permalink": link}


@method("chat.startStream", "chat:write")
def start_stream(slack: SlackCore, params: Json) -> Json:
    """https://docs.slack.dev/reference/methods/chat.startStream/ ; starting sets the session `processing`."""
    _streaming(slack)
    need(params, "channel")
    channel = slack.writable(params["channel"])
    if channel.kind != "im":
        for name in ("recipient_user_id", "recipient_team_id"):
            if not params.get(name):
                raise SlackError(f"missing_{name}")
        if params["recipient_user_id"] not in slack.workspace.users:
            raise SlackError("user_not_found")
    if not params.get("thread_ts"):
        raise SlackError("missing_thread_ts")
    message = Message(
        slack.workspace.new_ts(),
        channel.id,
        slack.bot_user_id,
        thread_ts=_thread(channel, params["thread_ts"]),
        bot_id=slack.bot_id,
        username=params.get("username"),
        stream="open",
    )
    _append(slack, message, params)
    slack.workspace.add(message)
    thread = slack.workspace.thread(channel.id, message.root)
    thread.open_streams.add(message.ts)
    if slack.agent_view:
        slack.set_session(thread, "processing")
    slack.later(
        ("stream", channel.id, message.ts), slack.stream_seconds, slack.end_stream, message, "expired"
    )
    slack.posted(message)
    return {"channel": channel.id, "ts": message.ts}


@method("chat.appendStream", "chat:write")
def append_stream(slack: SlackCore, params: Json) -> Json:
    _streaming(slack)
    message = _open_stream(slack, params)
    if not params.get("markdown_text") and not params.get("chunks"):
        raise SlackError("no_text")
    previous = slack.wire(message) if slack.echo_own else {}
    _append(slack, message, params)
    slack.edited(message, previous)
    return {"channel": message.channel, "ts": message.ts}


@method("chat.stopStream", "chat:write")
def stop_stream(slack: SlackCore, params: Json) -> Json:
    """https://docs.slack.dev/reference/methods/chat.stopStream/ ; `blocks` follow the streamed text."""
    _streaming(slack)
    message = _open_stream(slack, params)
    status = params.get("session_status") or "active"
    if status not in ("active", "processing", "suspended", "closed"):
        raise SlackError("invalid_arguments")
    metadata = check_metadata(params["metadata"]) if params.get("metadata") else message.metadata
    blocks = check_blocks(
        params.get("blocks") or [], besides=len(message.streamed) + characters(message.blocks)
    )
    previous = slack.wire(message)
    _append(slack, message, params, besides=characters(blocks))
    message.blocks = [*message.blocks, *slack.workspace.name_blocks(blocks)]
    message.metadata = metadata
    slack.end_stream(message, "stopped")
    if slack.agent_view:
        slack.set_session(slack.workspace.thread(message.channel, message.root), status)
    slack.edited(message, previous)
    return {"channel": message.channel, "ts": message.ts, "message": slack.wire(message)}


def _content(slack: SlackCore, params: Json, *, attachments: Any = None) -> tuple[str, list[Json]]:
    """Text and blocks of a message; markdown_text becomes one markdown block."""
    text, markdown = params.get("text") or "", params.get("markdown_text")
    if markdown:
        if text or params.get("blocks"):
            raise SlackError("markdown_text_conflict")
        check_markdown(markdown)
        return markdown, slack.workspace.name_blocks([{"type": "markdown", "text": markdown}])
    blocks = check_blocks(params.get("blocks") or [])
    if not text and not blocks and not params.get("attachments") and not attachments:
        raise SlackError("no_text")
    return text, slack.workspace.name_blocks(blocks)


def _thread(channel: Channel, thread_ts: str | None) -> str | None:
    """A thread is named by its root; a reply's ts names no thread."""
    if not thread_ts:
        return None
    root = channel.messages.get(thread_ts)
    if root is None or root.deleted or root.root != thread_ts:
        raise SlackError("thread_not_found")
    return thread_ts


def _own(slack: SlackCore, params: Json, refusal: str = "cant_update_message") -> Message:
    need(params, "channel", "ts")
    channel = slack.workspace.channel(params["channel"])
    message = slack.workspace.message(channel.id, params["ts"])
    if message.user != slack.bot_user_id:
        raise SlackError(refusal)
    return message


def _streaming(slack: SlackCore) -> None:
    if not slack.streaming:
        raise SlackError("unknown_method")


def _open_stream(slack: SlackCore, params: Json) -> Message:
    message = _own(slack, params, refusal="message_not_owned_by_app")
    if message.stream != "open":
        raise SlackError("message_not_in_streaming_state")
    return message


def _append(slack: SlackCore, message: Message, params: Json, *, besides: int = 0) -> None:
    """Adds markdown_text and chunks, all or nothing.

    Chunks: https://docs.slack.dev/reference/methods/chat.appendStream/
    """
    markdown, chunks = params.get("markdown_text") or "", params.get("chunks") or []
    if markdown and chunks:
        raise SlackError("markdown_text_conflict")
    text, blocks, tasks = [markdown], list[Json](), dict[str, Json]()
    for chunk in chunks:
        match chunk:
            case {"type": "markdown_text", "text": str(piece)}:
                text.append(piece)
            case {"type": "task_update", "id": str(task_id), "title": str()}:
                tasks[task_id] = {**message.tasks.get(task_id, {}), **chunk}
            case {"type": "plan_update", "title": str()}:
                tasks["plan"] = chunk
            case {"type": "blocks", "blocks": list(more)}:
                blocks += check_blocks(more)
            case _:
                raise SlackError("invalid_chunks")
    for piece in text:
        check_markdown(piece)
    added = "".join(text)
    if (
        len(message.streamed) + len(added) + characters(message.blocks) + characters(blocks) + besides
        > BLOCKS
    ):
        raise SlackError("msg_blocks_too_long")
    message.streamed += added
    message.blocks += slack.workspace.name_blocks(blocks)
    message.tasks |= tasks
