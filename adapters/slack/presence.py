"""Showing that the assistant works: agent sessions, or the older status line where there are none.

https://docs.slack.dev/ai/agent-sessions/ , https://docs.slack.dev/reference/methods/assistant.threads.setStatus/
"""

from __future__ import annotations

from typing import Any

import structlog

from adapters.slack.api import Api
from bot.domain import ThreadKey, ToolKind
from bot.errors import Misconfigured, Rejected, Retryable, ThreadbotError

_log = structlog.get_logger()
_SESSION_SECONDS = 1800.0  # `processing` ends by itself after an hour
_STATUS_SECONDS = 90.0  # a status line after two minutes
_REMEMBER_SECONDS = 3600.0
_INSIST_SECONDS = (0.5, 1.0, 2.0, 4.0)
_ROOM = 5_000
_NOT_HERE = frozenset(
    {"thread_not_found", "channel_not_found", "not_in_channel", "is_archived", "message_not_found"}
)
_SAYINGS = {
    None: "is thinking…",
    ToolKind.CODE: "is running code…",
    ToolKind.SEARCH: "is searching files…",
    ToolKind.FUNCTION: "is using a tool…",
}


class Presence:
    """Calls Slack only when what it shows changes or is about to fade; never raises."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._shown: dict[ThreadKey, tuple[str, float]] = {}
        self._no_sessions_until = 0.0
        self._no_status_until = 0.0
        self.sessions = False
        """Whether agent sessions are known to work: Slack shows a Stop button of its own then."""

    async def show(self, thread: ThreadKey, tool: ToolKind | None, *, working: bool) -> None:
        """That work ended is insisted on for a few seconds: a session left on `processing` looks so for an hour."""
        for wait in (None,) if working else (*_INSIST_SECONDS, None):
            try:
                return await self._show(thread, tool, working=working)
            except ThreadbotError as error:
                _log.debug("slack.activity_not_shown", thread=str(thread), error=type(error).__name__)
                if wait is None or not isinstance(error, Retryable):
                    return None
                await self._api.clock.sleep(wait)
        return None

    async def _show(self, thread: ThreadKey, tool: ToolKind | None, *, working: bool) -> None:
        there_may_be = self._api.clock.now() >= self._no_sessions_until
        if there_may_be and await self._session(thread, "processing" if working else "active"):
            return
        if self._api.clock.now() >= self._no_status_until:
            await self._status(thread, _SAYINGS[tool] if working else "")

    def ended(self, thread: ThreadKey) -> None:
        """Slack made the session `active` itself, when we stopped the stream."""
        if self.sessions:
            self._keep(thread, "active")

    async def _session(self, thread: ThreadKey, status: str) -> bool:
        """False: there are no agent sessions here."""
        if self._is_shown(thread, status, _SESSION_SECONDS):
            return True
        try:
            answer = await self._set("agents.sessions.setStatus", thread, status)
        except (Rejected, Misconfigured) as error:
            _log.info("slack.no_agent_sessions", error=type(error).__name__)
            self._no_sessions_until = self._api.clock.now() + _REMEMBER_SECONDS
            self.sessions = False
            return False
        if answer.get("ok"):
            self.sessions = "missing_agent_session_stopped_event_subscription" not in str(
                answer.get("warning")
            )
            self._keep(thread, status)
        return True

    async def _status(self, thread: ThreadKey, status: str) -> None:
        if self._is_shown(thread, status, _STATUS_SECONDS):
            return
        try:
            await self._set("assistant.threads.setStatus", thread, status)
        except (Rejected, Misconfigured) as error:
            _log.info("slack.no_status", error=type(error).__name__)
            self._no_status_until = self._api.clock.now() + _REMEMBER_SECONDS
        else:
            self._keep(thread, status)

    async def _set(self, method: str, thread: ThreadKey, status: str) -> dict[str, Any]:
        self._shown.pop(thread, None)  # should the call be cut, nobody knows what Slack shows
        return await self._api.call(
            method,
            repeatable=True,
            expect=_NOT_HERE,
            channel_id=thread.channel,
            thread_ts=thread.root,
            status=status,
        )

    def _is_shown(self, thread: ThreadKey, status: str, lifetime: float) -> bool:
        shown, at = self._shown.get(thread, ("", 0.0))
        if shown != status or thread not in self._shown:
            return False
        return status in ("active", "") or self._api.clock.now() - at < lifetime

    def _keep(self, thread: ThreadKey, status: str) -> None:
        self._shown.pop(thread, None)
        if len(self._shown) >= _ROOM:
            del self._shown[next(iter(self._shown))]
        self._shown[thread] = (status, self._api.clock.now())
