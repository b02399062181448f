"""The manifest is one Slack takes, asks for what the code uses, and for nothing else.

The schema is written by hand from Slack's facts (names, bounds and patterns of
https://github.com/slackapi/manifest-schema, schemas/manifest.schema.2.0.0.json), for the parts we use, closed everywhere.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from adapters.slack.manifest import EVENTS, SCOPES, manifest


def record(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def text(longest: int, shortest: int = 1, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": shortest, "maxLength": longest, **more}


def names(most: int) -> dict[str, Any]:
    return {"type": "array", "uniqueItems": True, "maxItems": most, "items": text(50)}


BOOLEAN, NUMBER = {"type": "boolean"}, {"type": "integer"}
URL = text(3500, pattern=r"^https?://")
SCHEMA = record(
    ("display_information",),
    _metadata=record(major_version=NUMBER, minor_version=NUMBER),
    display_information=record(
        ("name",),
        name=text(35),
        description=text(140),
        background_color=text(7, 4, pattern="^#[0-9a-fA-F]{3,6}$"),
    ),
    features=record(
        agent_view=record(
            agent_description=text(300),
            suggested_prompts={
                "type": "array",
                "maxItems": 4,
                "items": record(("title", "message"), title=text(300), message=text(3000)),
            },
            actions={
                "type": "array",
                "items": record(("name", "description"), name=text(99), description=text(300)),
            },
        ),
        app_home=record(
            home_tab_enabled=BOOLEAN, messages_tab_enabled=BOOLEAN, messages_tab_read_only_enabled=BOOLEAN
        ),
        bot_user=record(("display_name",), display_name=text(80), always_online=BOOLEAN),
    ),
    oauth_config=record(scopes=record(bot=names(255))),
    settings=record(
        event_subscriptions=record(request_url=URL, bot_events=names(100)),
        interactivity=record(("is_enabled",), is_enabled=BOOLEAN, request_url=URL),
        org_deploy_enabled=BOOLEAN,
        socket_mode_enabled=BOOLEAN,
        token_rotation_enabled=BOOLEAN,
    ),
)


@pytest.mark.parametrize("url", [None, "https://bot.example.com/slack/events"])
def test_the_manifest_is_valid(url: str | None) -> None:
    made = manifest(request_url=url)
    jsonschema.Draft7Validator(SCHEMA).validate(made)
    assert json.loads(json.dumps(made)) == made


def test_a_long_name_is_cut_to_what_slack_takes() -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(manifest(name="Threadbot " * 20))


def test_the_schema_bites() -> None:
    made = manifest()
    made["settings"]["redirect_urls"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate(made)


def test_socket_mode_and_http_exclude_each_other() -> None:
    assert manifest()["settings"]["socket_mode_enabled"] is True
    assert "request_url" not in manifest()["settings"]["event_subscriptions"]
    over_http = manifest(request_url="https://bot.example.com/slack/events")["settings"]
    assert over_http["socket_mode_enabled"] is False
    assert over_http["event_subscriptions"]["request_url"] == over_http["interactivity"]["request_url"]


def test_each_event_has_the_scope_slack_asks_for() -> None:
    # https://docs.slack.dev/reference/events : each event's page names its scope
    needs = {
        "agent_session_stopped": "chat:write",
        "app_mention": "app_mentions:read",
        "message.channels": "channels:history",
        "message.groups": "groups:history",
        "message.im": "im:history",
        "message.mpim": "mpim:history",
    }
    assert set(needs) == set(EVENTS)
    assert set(needs.values()) <= set(SCOPES)
    made = manifest()
    assert made["oauth_config"]["scopes"]["bot"] == list(SCOPES)
    assert not any(
        "assistant_thread" in event for event in made["settings"]["event_subscriptions"]["bot_events"]
    )
