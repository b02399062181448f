"""Everything of the Web API that is neither chat.* nor files.*."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from tests.fakes.slack.core import SlackCore
from tests.fakes.slack.limits import check_blocks
from tests.fakes.slack.model import Channel, Json, Message, SlackError, Thread
from tests.fakes.slack.registry import method, need, truth

_SESSION = {"processing", "active", "suspended", "closed"}


@method("auth.test")
def auth_test(slack: SlackCore, params: Json) -> Json:
    return {
        "url": "https://fake-workspace.slack.com/",
        "team": "Fake Workspace",
        "team_id": slack.team_id,
        "user": "threadbot",
        "user_id": slack.bot_user_id,
        "bot_id": slack.bot_id,
        "is_enterprise_install": False,
    }


@method("team.info")
def team_info(slack: SlackCore, params: Json) -> Json:
    return {"team": {"id": slack.team_id, "name": "Fake Workspace", "domain": "fake-workspace"}}


@method("users.info", "users:read")
def users_info(slack: SlackCore, params: Json) -> Json:
    user = slack.workspace.users.get(str(params.get("user")))
    if user is None:
        raise SlackError("user_not_found")
    profile = {"display_name": user.name, "real_name": user.name.title(), "team": user.team}
    facts = {
        "id": user.id,
        "team_id": user.team,
        "name": user.name,
        "real_name": user.name.title(),
        "deleted": False,
    }
    facts |= {
        "profile": profile,
        "is_bot": user.bot_id is not None,
        "is_restricted": False,
        "tz": "Europe/Berlin",
    }
    return {"user": facts}


@method("bots.info", "users:read")
def bots_info(slack: SlackCore, params: Json) -> Json:
    for user in slack.workspace.users.values():
        if user.bot_id and user.bot_id == params.get("bot", slack.bot_id):
            app_id = slack.api_app_id if user.bot_id == slack.bot_id else "A9999999999"
            return {
                "bot": {
                    "id": user.bot_id,
                    "name": user.name,
                    "user_id": user.id,
                    "app_id": app_id,
                    "deleted": False,
                }
            }
    raise SlackError("bot_not_found")


# -- conversations -------------------------------------------------------------------------------------------


@method("conversations.info", "channels:read|groups:read|im:read|mpim:read")
def conversations_info(slack: SlackCore, params: Json) -> Json:
    channel = slack.workspace.channel(params.get("channel"))
    if channel.is_private:
        slack.reachable(channel.id)
    return {"channel": _channel_wire(slack, channel)}


@method("conversations.members", "channels:read|groups:read|im:read|mpim:read")
def conversations_members(slack: SlackCore, params: Json) -> Json:
    channel = slack.workspace.channel(params.get("channel"))
    if channel.is_private:
        slack.reachable(channel.id)
    return {"members": sorted(channel.members), "response_metadata": {"next_cursor": ""}}


@method("conversations.open", "im:write")
def conversations_open(slack: SlackCore, params: Json) -> Json:
    users = str(params.get("users") or "").split(",")
    if any(user not in slack.workspace.users for user in users):
        raise SlackError("user_not_found")
    return {"channel": _channel_wire(slack, slack.open_dm(*users))}


@method("conversations.history", "channels:history|groups:history|im:history|mpim:history")
def conversations_history(slack: SlackCore, params: Json) -> Json:
    """Newest first, without thread replies (https://docs.slack.dev/reference/methods/conversations.history/)."""
    channel = slack.reachable(params.get("channel"))
    top = (m for m in channel.newest_first() if not m.deleted and (m.root == m.ts or m.broadcast))
    return _page(slack, top, params, default=100)


@method("conversations.replies", "channels:history|groups:history|im:history|mpim:history")
def conversations_replies(slack: SlackCore, params: Json) -> Json:
    """Oldest first, the root included. `metadata` only on request
    (https://docs.slack.dev/reference/methods/conversations.replies/).
    """
    need(params, "channel", "ts")
    channel = slack.reachable(params["channel"])
    first = channel.messages.get(str(params["ts"]))
    if first is None:
        raise SlackError("thread_not_found")
    messages = [m for m in slack.workspace.in_thread(channel, first.ts) if not m.deleted]
    return _page(slack, messages, params, default=1000)


def _page(slack: SlackCore, messages: Iterable[Message], params: Json, *, default: int) -> Json:
    limit = min(int(params.get("limit") or default), 1000)
    skip = int(params.get("cursor") or 0)
    inclusive = truth(params.get("inclusive"))
    oldest, latest = float(params.get("oldest") or 0), float(params.get("latest") or "inf")
    chosen: list[Message] = []
    for message in messages:
        at = float(message.ts)
        if (
            oldest < at < latest
            or (inclusive and at in (oldest, latest))
            or (message.root == message.ts and at < oldest)
        ):
            chosen.append(message)
        if len(chosen) > skip + limit:
            break
    more = len(chosen) > skip + limit
    metadata = truth(params.get("include_all_metadata"))
    return {
        "messages": [slack.wire(message, metadata=metadata) for message in chosen[skip : skip + limit]],
        "has_more": more,
        "response_metadata": {"next_cursor": str(skip + limit) if more else ""},
    }


def _channel_wire(slack: SlackCore, channel: Channel) -> Json:
    wire: Json = {
        "id": channel.id,
        "name": channel.name,
        "is_channel": channel.kind == "channel",
        "is_group": channel.kind == "group",
        "is_im": channel.kind == "im",
        "is_mpim": channel.kind == "mpim",
        "is_private": channel.is_private,
        "is_archived": channel.archived,
        "is_ext_shared": channel.shared,
        "is_member": slack.bot_user_id in channel.members,
    }
    if channel.kind == "im":
        wire["user"] = next(iter(channel.members - {slack.bot_user_id}), slack.bot_user_id)
    return wire


# -- reactions -----------------------------------------------------------------------------------------------


@method("reactions.add", "reactions:write")
def reactions_add(slack: SlackCore, params: Json) -> Json:
    users = _reactors(slack, params)
    if slack.bot_user_id in users:
        raise SlackError("already_reacted")
    users.append(slack.bot_user_id)
    slack.changed()
    return {}


@method("reactions.remove", "reactions:write")
def reactions_remove(slack: SlackCore, params: Json) -> Json:
    users = _reactors(slack, params)
    if slack.bot_user_id not in users:
        raise SlackError("no_reaction")
    users.remove(slack.bot_user_id)
    slack.changed()
    return {}


def _reactors(slack: SlackCore, params: Json) -> list[str]:
    need(params, "channel", "timestamp", "name")
    channel = slack.reachable(params["channel"])
    message = slack.workspace.message(channel.id, params["timestamp"])
    return message.reactions.setdefault(str(params["name"]).strip(":"), [])


# -- agents and assistants -----------------------------------------------------------------------------------


@method("agents.sessions.setStatus", "chat:write")
def sessions_set_status(slack: SlackCore, params: Json) -> Json:
    """https://docs.slack.dev/reference/methods/agents.sessions.setStatus/"""
    thread = _session(slack, params)
    if params.get("status") not in _SESSION:
        raise SlackError("invalid_arguments")
    if len(params.get("title") or "") > 200:
        raise SlackError("invalid_arguments")
    if thread.session is None and params.get("title"):
        thread.title = params["title"]
    slack.set_session(thread, params["status"])
    answer: Json = {"status": thread.session, "agent_status": thread.session, "title": thread.title}
    if "agent_session_stopped" not in slack.subscriptions:
        answer["warning"] = "missing_agent_session_stopped_event_subscription"
    return answer


@method("agents.sessions.rename", "chat:write")
def sessions_rename(slack: SlackCore, params: Json) -> Json:
    thread = _session(slack, params)
    if thread.session is None:
        raise SlackError("session_not_found")
    if not 0 < len(params.get("title") or "") <= 200:
        raise SlackError("invalid_arguments")
    thread.title = params["title"]
    slack.changed()
    return {"title": thread.title}


@method("assistant.threads.setStatus", "chat:write|assistant:write")
def threads_set_status(slack: SlackCore, params: Json) -> Json:
    """Gone after two minutes, or when the app posts (https://docs.slack.dev/changelog/2026/03/05/set-status-scope-update/)."""
    thread = _assistant_thread(slack, params)
    if len(params.get("loading_messages") or []) > 10:
        raise SlackError("invalid_arguments")
    slack.set_status(thread, params.get("status") or "")
    return {}


@method("assistant.threads.setTitle", "assistant:write")
def threads_set_title(slack: SlackCore, params: Json) -> Json:
    thread = _assistant_thread(slack, params)
    thread.title = params.get("title") or ""
    slack.changed()
    return {}


@method("assistant.threads.setSuggestedPrompts", "assistant:write")
def threads_set_suggested_prompts(slack: SlackCore, params: Json) -> Json:
    """Under the agent view a call with `thread_ts` is answered ok and shows nothing
    (https://docs.slack.dev/reference/methods/assistant.threads.setSuggestedPrompts/).
    """
    channel = slack.reachable(params.get("channel_id"))
    prompts = params.get("prompts")
    if not isinstance(prompts, list) or not 0 < len(prompts) <= 4:
        raise SlackError("invalid_arguments")
    if not (slack.agent_view and params.get("thread_ts")):
        slack.workspace.thread(channel.id, params.get("thread_ts") or "").prompts = prompts
        slack.changed()
    return {}


def _session(slack: SlackCore, params: Json) -> Thread:
    if not slack.agent_view:
        raise SlackError("not_allowed")
    return _assistant_thread(slack, params)


def _assistant_thread(slack: SlackCore, params: Json) -> Thread:
    need(params, "channel_id", "thread_ts")
    channel = slack.reachable(params["channel_id"])
    root = channel.messages.get(params["thread_ts"])
    if root is None or root.root != root.ts:
        raise SlackError("thread_not_found")
    return slack.workspace.thread(channel.id, root.ts)


# -- views and blocks ----------------------------------------------------------------------------------------


@method("views.publish")
def views_publish(slack: SlackCore, params: Json) -> Json:
    if params.get("user_id") not in slack.workspace.users:
        raise SlackError("invalid_arguments")
    slack.home[params["user_id"]] = view = _view(slack, params.get("view"))
    slack.changed()
    return {"view": view}


@method("views.open")
def views_open(slack: SlackCore, params: Json) -> Json:
    """A trigger lives three seconds (https://docs.slack.dev/reference/methods/views.open/)."""
    until = slack.triggers.pop(str(params.get("trigger_id")), None)
    if until is None:
        raise SlackError("invalid_trigger_id")
    if until < time.monotonic():
        raise SlackError("expired_trigger_id")
    view = _view(slack, params.get("view"))
    slack.modals.append(view)
    slack.changed()
    return {"view": view}


@method("views.update")
def views_update(slack: SlackCore, params: Json) -> Json:
    for index, old in enumerate(slack.modals):
        if old["id"] == params.get("view_id"):
            slack.modals[index] = new = _view(slack, params.get("view")) | {"id": old["id"]}
            slack.changed()
            return {"view": new}
    raise SlackError("not_found")


@method("blocks.validate")
def blocks_validate(slack: SlackCore, params: Json) -> Json:
    check_blocks(params.get("blocks"))
    return {}


def _view(slack: SlackCore, view: Any) -> Json:
    if not isinstance(view, dict) or not isinstance(view.get("blocks"), list) or len(view["blocks"]) > 100:
        raise SlackError("invalid_arguments")
    return {"id": slack.workspace.new_id("V"), "team_id": slack.team_id, "hash": "1", **view}
