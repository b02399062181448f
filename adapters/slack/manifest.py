"""The Slack app as `threadbot manifest slack` prints it, and what it needs its scopes for.

Schema: https://github.com/slackapi/manifest-schema . The app-level token of Socket Mode is made by hand.
"""

from __future__ import annotations

from typing import Any

SCOPES = {
    # scope: what breaks without it; empty: the bot answers without it
    "app_mentions:read": "hears mentions",
    "assistant:write": "",  # the agent's entry in Slack; mentions and direct messages work without
    "channels:history": "hears follow-ups in channels",
    "channels:read": "",
    "chat:write": "answers",
    "files:read": "reads files people share",
    "files:write": "sends files it made",
    "groups:history": "hears follow-ups in private channels",
    "groups:read": "",
    "im:history": "hears direct messages",
    "im:read": "",
    "im:write": "",
    "mpim:history": "hears group conversations",
    "mpim:read": "",
    "users:read": "",  # names; without it people go by their id
}
EVENTS = (
    "agent_session_stopped",
    "app_mention",
    "message.channels",
    "message.groups",
    "message.im",
    "message.mpim",
)


def manifest(*, name: str = "Threadbot", request_url: str | None = None) -> dict[str, Any]:
    """Socket Mode, or HTTP events at `request_url` (https, the path /slack/events)."""
    events: dict[str, Any] = {"bot_events": list(EVENTS)}
    interactivity: dict[str, Any] = {"is_enabled": True}
    if request_url:
        events["request_url"] = interactivity["request_url"] = request_url
    return {
        "_metadata": {"major_version": 2, "minor_version": 1},
        "display_information": {
            "name": name[:35],
            "description": "Self-hosted AI assistant: mention it, write to it, or share files and ask about them.",
            "background_color": "#1a1d21",
        },
        "features": {
            "agent_view": {
                "agent_description": "Answers questions, runs code and searches the files of this conversation. AI makes"
                " mistakes: check what matters.",
                "suggested_prompts": [
                    {"title": "Summarise a file", "message": "Summarise the file I share next."},
                    {"title": "Analyse data", "message": "Plot the CSV I share next and describe the trend."},
                ],
                "actions": [],
            },
            "app_home": {
                "home_tab_enabled": False,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": False,
            },
            "bot_user": {"display_name": name[:80], "always_online": True},
        },
        "oauth_config": {"scopes": {"bot": list(SCOPES)}},
        "settings": {
            "event_subscriptions": events,
            "interactivity": interactivity,
            "org_deploy_enabled": False,
            "socket_mode_enabled": request_url is None,
            "token_rotation_enabled": False,
        },
    }
