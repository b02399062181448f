"""Slack's refusals, sorted by what the caller should do. The one table; everything else asks it.

Codes: https://docs.slack.dev/reference/methods/chat.postMessage/#errors and the pages of the other methods.
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from bot.errors import Ambiguous, Misconfigured, PostGone, Rejected, Retryable, ThreadbotError

NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
"""No connection, or none free in time: Slack saw nothing. (A subclass of the next, so look here first.)"""
MAYBE_DONE = (aiohttp.ClientError, TimeoutError, OSError)

_BUSY = {"ratelimited", "rate_limited", "message_limit_exceeded", "service_unavailable", "team_added_to_org"}
_UNSURE = {
    "internal_error",
    "fatal_error",
    "request_timeout",
}  # "some aspect of the operation may have succeeded"
_GONE = {"message_not_found", "cant_update_message", "edit_window_closed", "message_not_owned_by_app"}

_OPERATOR = {
    "invalid_auth": "Slack does not accept the token: copy it again from your app's page (OAuth & Permissions for"
    " SLACK_BOT_TOKEN, Basic Information for SLACK_APP_TOKEN).",
    "not_authed": "No Slack token was sent: set SLACK_BOT_TOKEN.",
    "account_inactive": "The Slack app was removed from the workspace: install it again and set the new SLACK_BOT_TOKEN.",
    "token_revoked": "The Slack token was revoked: install the app again and set the new SLACK_BOT_TOKEN.",
    "token_expired": "The Slack token has expired: switch token rotation off for the app and set a new SLACK_BOT_TOKEN.",
    "not_allowed_token_type": "The wrong kind of Slack token: SLACK_BOT_TOKEN begins with xoxb-, SLACK_APP_TOKEN with"
    " xapp-.",
    "org_login_required": "The workspace is moving to an Enterprise organisation: wait, then install the app again.",
    "ekm_access_denied": "The workspace's administrators have suspended the app's access to messages.",
    "team_access_not_granted": "The token has no access to this workspace: install the app there.",
    "access_denied": "Slack denies the app access: ask the workspace's administrators to approve it.",
    "link_disabled": "Socket Mode is switched off for the app: switch it on under Socket Mode on the app's page.",
}

_PEOPLE = {
    "channel_not_found": "I cannot see this channel; invite me to it first.",
    "not_in_channel": "I am not in this channel; invite me to it first.",
    "is_archived": "This channel is archived, so I cannot write here.",
    "thread_not_found": "The message that this thread began with is gone; please start a new thread.",
    "restricted_action": "The workspace's settings do not let me write here; an administrator can change that.",
    "msg_too_long": "Slack finds the answer too long for one message; please ask for less at once.",
    "msg_blocks_too_long": "Slack finds the answer too long for one message; please ask for less at once.",
    "file_not_found": "That file is gone from Slack; please upload it again.",
    "file_deleted": "That file was deleted in Slack; please upload it again.",
    "file_upload_size_restricted": "The file is larger than this workspace allows.",
    "storage_limit_reached": "The workspace has no room left for files.",
}


def refusal(method: str, code: str, *, needed: str = "", repeatable: bool) -> ThreadbotError:
    """The error for `ok: false`. A code nobody knows is Rejected: asking again would bring the same."""
    if code == "missing_scope":
        return Misconfigured(
            f"The Slack app lacks the scope {needed or '(unnamed)'} for {method}: add it under OAuth & Permissions, then"
            " reinstall the app to the workspace."
        )
    if code in _OPERATOR:
        return Misconfigured(_OPERATOR[code])
    if code in _GONE:
        return PostGone(f"{method}: {code}")
    if code in _BUSY:
        return Retryable(f"{method}: {code}")
    if code in _UNSURE:
        return Retryable(f"{method}: {code}") if repeatable else Ambiguous(f"{method}: {code}")
    people = _PEOPLE.get("restricted_action" if code.startswith("restricted_action") else code)
    return Rejected(people or f"Slack refused this ({code}); please tell the person who runs this bot.")


def broken(method: str, what: object, *, sent: bool, repeatable: bool) -> ThreadbotError:
    """The error for a call without a usable answer; `sent`: Slack may have acted on it."""
    if sent and not repeatable:
        return Ambiguous(f"{method}: {what}")
    return Retryable(f"{method}: {what}")


def wait_of(headers: Mapping[str, str]) -> float:
    """Seconds that a 429 asks for (https://docs.slack.dev/apis/web-api/rate-limits): never none, never for ever."""
    header = headers.get("Retry-After", "")
    return min(max(float(header), 0.5), 300.0) if header.isdecimal() else 1.0
