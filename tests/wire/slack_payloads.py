"""Payloads as Slack sends them, whole; ids made up. Shapes from the pages cited in adapters/slack/wire.py."""

from __future__ import annotations

from typing import Any

from adapters.slack.wire import Installation

Json = dict[str, Any]
US = Installation(team="T0AAAAAAA01", user="U0BOT000001", bot="B0BOT000001", name="threadbot")
ALICE = "U0ALICE0001"


def envelope(event: Json, **more: Any) -> Json:
    return {
        "token": "XXYYZZ",
        "team_id": US.team,
        "context_team_id": US.team,
        "context_enterprise_id": None,
        "api_app_id": "A0APP000001",
        "event": event,
        "type": "event_callback",
        "event_id": "Ev0PV52K21",
        "event_time": 1732346000,
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": US.team,
                "user_id": US.user,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "is_ext_shared_channel": False,
        "event_context": "4-eyJldCI6Im1lc3NhZ2UifQ",
        **more,
    }


def message(text: str, **more: Any) -> Json:
    return {
        "user": ALICE,
        "type": "message",
        "ts": "1732346000.000200",
        "client_msg_id": "0d5f1c1e-5d0e-4a38-9ba2-1b1c8a7a7f10",
        "text": text,
        "team": US.team,
        "blocks": [
            {
                "type": "rich_text",
                "block_id": "Xa1b2",
                "elements": [
                    {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]},
                ],
            }
        ],
        "channel": "C0GENERAL01",
        "event_ts": "1732346000.000200",
        "channel_type": "channel",
        **more,
    }


def mention(text: str, **more: Any) -> Json:
    """The twin of `message`: no channel_type (https://docs.slack.dev/reference/events/app_mention/)."""
    twin = message(text, **more)
    del twin["channel_type"]
    return {**twin, "type": "app_mention"}


def changed(new: Json, before: Json) -> Json:
    return {
        "type": "message",
        "subtype": "message_changed",
        "hidden": True,
        "message": new,
        "previous_message": before,
        "channel": "C0GENERAL01",
        "ts": "1732346099.000300",
        "event_ts": "1732346099.000300",
        "channel_type": "channel",
    }


def deleted(before: Json) -> Json:
    return {
        "type": "message",
        "subtype": "message_deleted",
        "hidden": True,
        "previous_message": before,
        "channel": "C0GENERAL01",
        "deleted_ts": before["ts"],
        "ts": "1732346099.000400",
        "event_ts": "1732346099.000400",
        "channel_type": "channel",
    }


FILE: Json = {
    "id": "F0FILE00001",
    "created": 1732345990,
    "timestamp": 1732345990,
    "name": "sales.csv",
    "title": "sales",
    "mimetype": "text/csv",
    "filetype": "csv",
    "pretty_type": "CSV",
    "user": ALICE,
    "user_team": US.team,
    "editable": True,
    "size": 2048,
    "mode": "snippet",
    "is_external": False,
    "external_type": "",
    "is_public": True,
    "public_url_shared": False,
    "display_as_bot": False,
    "username": "",
    "url_private": "https://files.slack.com/files-pri/T0AAAAAAA01-F0FILE00001/sales.csv",
    "url_private_download": "https://files.slack.com/files-pri/T0AAAAAAA01-F0FILE00001/download/sales.csv",
    "permalink": "https://acme.slack.com/files/U0ALICE0001/F0FILE00001/sales.csv",
    "has_rich_preview": False,
    "file_access": "visible",
}


def pressed(action: Json, **more: Any) -> Json:
    return {
        "type": "block_actions",
        "user": {"id": ALICE, "username": "alice", "name": "alice", "team_id": US.team},
        "api_app_id": "A0APP000001",
        "token": "XXYYZZ",
        "container": {
            "type": "message",
            "message_ts": "1732346010.000100",
            "channel_id": "C0GENERAL01",
            "is_ephemeral": False,
            "thread_ts": "1732346000.000200",
        },
        "trigger_id": "12466734323.1395872398.abcdef",
        "team": {"id": US.team, "domain": "acme"},
        "enterprise": None,
        "is_enterprise_install": False,
        "channel": {"id": "C0GENERAL01", "name": "general"},
        "message": {
            "user": US.user,
            "type": "message",
            "ts": "1732346010.000100",
            "bot_id": US.bot,
            "text": "…",
        },
        "state": {"values": {}},
        "response_url": "https://hooks.slack.com/actions/T0AAAAAAA01/1/x",
        "actions": [action],
        **more,
    }
