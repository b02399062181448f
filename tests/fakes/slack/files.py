"""files.*: the external upload in three steps (https://docs.slack.dev/messaging/working-with-files/)."""

from __future__ import annotations

import mimetypes

from tests.fakes.slack.core import SlackCore
from tests.fakes.slack.model import File, Json, Message, SlackError
from tests.fakes.slack.registry import method, need


@method("files.getUploadURLExternal", "files:write")
def get_upload_url(slack: SlackCore, params: Json) -> Json:
    need(params, "filename", "length")
    name = str(params["filename"])
    file = File(
        slack.workspace.new_id("F"),
        name,
        mimetypes.guess_type(name)[0] or "application/octet-stream",
        slack.bot_user_id,
        expected=int(params["length"]),
    )
    slack.workspace.files[file.id] = file
    return {"file_id": file.id, "upload_url": f"{slack.workspace.url}/upload/v1/{file.id}"}


@method("files.completeUploadExternal", "files:write")
def complete_upload(slack: SlackCore, params: Json) -> Json:
    """Answers before the files show up in the channel: `slack.share_seconds`."""
    need(params, "files")
    files = []
    for item in params["files"]:
        file = slack.workspace.files.get(str(item.get("id")))
        if file is None or not file.uploaded or file.completed:
            raise SlackError("file_not_found")
        file.title = item.get("title") or file.name
        files.append(file)
    channels = [c for c in (params.get("channel_id") or params.get("channels") or "").split(",") if c]
    thread_ts = params.get("thread_ts")
    if thread_ts and len(channels) != 1:
        raise SlackError("invalid_arguments")
    for channel_id in channels:
        channel = slack.writable(channel_id)
        root = channel.messages.get(thread_ts) if thread_ts else None
        if thread_ts and (root is None or root.root != root.ts):
            raise SlackError("thread_not_found")
    if slack.share_seconds > 0:
        slack.later(("share", files[0].id), slack.share_seconds, _share, slack, files, channels, params)
    else:
        _share(slack, files, channels, params)
    return {"files": [{"id": file.id, "title": file.title} for file in files]}


@method("files.info", "files:read")
def files_info(slack: SlackCore, params: Json) -> Json:
    file = slack.workspace.files.get(str(params.get("file")))
    if file is None:
        raise SlackError("file_not_found")
    if file.deleted:
        raise SlackError("file_deleted")
    return {"file": slack.workspace.file_wire(file)}


@method("files.delete", "files:write")
def files_delete(slack: SlackCore, params: Json) -> Json:
    file = slack.workspace.files.get(str(params.get("file")))
    if file is None or file.deleted:
        raise SlackError("file_not_found")
    if file.user != slack.bot_user_id:
        raise SlackError("cant_delete_file")
    file.deleted = True
    slack.emit({"type": "file_deleted", "file_id": file.id})
    return {}


def _share(slack: SlackCore, files: list[File], channels: list[str], params: Json) -> None:
    for file in files:
        file.completed = True
    for channel_id in channels:
        message = Message(
            slack.workspace.new_ts(),
            channel_id,
            slack.bot_user_id,
            text=params.get("initial_comment") or "",
            thread_ts=params.get("thread_ts"),
            bot_id=slack.bot_id,
            subtype="file_share",
            files=[file.id for file in files],
        )
        slack.workspace.add(message)
        slack.posted(message)
    slack.changed()
