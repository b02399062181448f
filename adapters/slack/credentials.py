"""What is wrong with tokens and scopes, in sentences with their fix. Never a token's value."""

from __future__ import annotations

from collections.abc import Iterator

from adapters.slack.manifest import SCOPES

_KINDS = {
    "xapp-": "an app-level token",
    "xoxb-": "a bot token",
    "xoxe.": "a rotating token",
    "xoxp-": "a person's token",
}


def credential_problems(bot_token: str, app_token: str | None, signing_secret: str | None) -> tuple[str, ...]:
    return tuple(_problems(bot_token, app_token, signing_secret))


def scope_problems(granted: frozenset[str] | None) -> tuple[str, ...]:
    """None: Slack did not say, so nothing is known to be missing."""
    if granted is None:
        return ()
    return tuple(
        f"The Slack app lacks the scope {scope} ({purpose}): add it under OAuth & Permissions, or paste"
        " `threadbot manifest slack` into App Manifest, then reinstall the app to the workspace."
        for scope, purpose in SCOPES.items()
        if purpose and scope not in granted
    )


def _problems(bot_token: str, app_token: str | None, signing_secret: str | None) -> Iterator[str]:
    if not bot_token.strip():
        yield "SLACK_BOT_TOKEN is empty: copy the Bot User OAuth Token (xoxb-…) from OAuth & Permissions."
    elif not bot_token.startswith(("xoxb-", "xoxe.xoxb-")):
        yield (
            f"SLACK_BOT_TOKEN holds {_kind(bot_token)}: it needs the Bot User OAuth Token (xoxb-…) from OAuth &"
            " Permissions."
        )
    if app_token and not app_token.startswith("xapp-"):
        yield (
            f"SLACK_APP_TOKEN holds {_kind(app_token)}: it needs an app-level token (xapp-…) with the scope"
            " connections:write, from Basic Information."
        )
    if not app_token and not (signing_secret or "").strip():
        yield (
            "Slack can reach the bot neither way: set SLACK_APP_TOKEN (Socket Mode), or SLACK_SIGNING_SECRET (HTTP; it"
            " must not be empty)."
        )


def _kind(token: str) -> str:
    return next((kind for prefix, kind in _KINDS.items() if token.startswith(prefix)), "something else")
