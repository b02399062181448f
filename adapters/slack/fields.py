"""Reading single fields of Slack's payloads: a value of the right shape, or Malformed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bot.domain import Attachment

_ID = re.compile(r"[A-Z0-9]{1,40}")
_HALF = re.compile("[\ud800-\udfff]")
_TS = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}")
# Slack cuts at 40,000 (https://docs.slack.dev/changelog/2018-truncating-really-long-messages/).
_MAX_TEXT = 100_000
_MAX_FILES = 100


class Malformed(Exception):
    pass


def is_id(value: str) -> bool:
    return _ID.fullmatch(value) is not None


def whole(text: str) -> str:
    """JSON may hold lone surrogates, which are no Unicode: nothing could store or send them."""
    return _HALF.sub("\ufffd", text)


def attachments(files: object) -> Iterator[Attachment]:
    """Slack Connect gives an id without an address; `fetch` asks files.info then."""
    for file in files[:_MAX_FILES] if isinstance(files, list) else ():
        if not isinstance(file, dict) or file.get("mode") in ("tombstone", "hidden_by_limit"):
            continue
        match file:
            case {"id": str(file_id)} if is_id(file_id):
                yield attachment(file_id, file)


def attachment(file_id: str, file: Mapping[str, Any]) -> Attachment:
    """https://docs.slack.dev/reference/objects/file-object/"""

    def string(*keys: str) -> str:
        return whole(next((file[key] for key in keys if isinstance(file.get(key), str) and file[key]), ""))

    size = file.get("size")
    return Attachment(
        id=file_id,
        name=string("name", "title")[:255] or file_id,
        media_type=string("mimetype")[:255] or "application/octet-stream",
        size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else 0,
        url=string("url_private_download", "url_private"),
    )


def home(said: Mapping[str, Any]) -> str:
    """The author's workspace. `team` of a shared channel's message may be the channel's host, `user_team` is theirs."""
    team = said.get("user_team") or said.get("team") or ""
    return team if isinstance(team, str) and is_id(team) else ""


def name_of(person: object) -> str:
    """As others see it, of a user (https://docs.slack.dev/reference/objects/user-object/) or of an event's profile."""
    if not isinstance(person, dict):
        return ""
    profile = person.get("profile")
    shown = profile if isinstance(profile, dict) else person
    names = (shown.get("display_name"), person.get("real_name"), person.get("name"))
    return next((whole(name[:80]) for name in names if isinstance(name, str) and name), "")


def subtype_of(data: Mapping[str, Any]) -> str | None:
    value = data.get("subtype")
    if value is not None and not isinstance(value, str):
        raise Malformed
    return value


def mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        raise Malformed
    return value


def identifier(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not is_id(value):
        raise Malformed
    return value


def stamp(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not _TS.fullmatch(value):
        raise Malformed
    return value


def text_of(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key, "")
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise Malformed
    return whole(value)


def root_of(data: Mapping[str, Any], ts: str) -> str:
    """The first message of the thread: a message of its own is its own root."""
    return stamp(data, "thread_ts") if data.get("thread_ts") else ts
