"""The half of Slack that hears: Socket Mode, or signed HTTP, through one bolt app."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse
from starlette.routing import Route

from adapters.slack import wire
from adapters.slack.api import API_URL, SILENT, Api
from adapters.slack.credentials import credential_problems, scope_problems
from adapters.slack.http import events_route
from adapters.slack.intake import Intake
from adapters.slack.names import Names
from adapters.slack.sockets import Sockets
from bot.errors import Misconfigured, ThreadbotError
from bot.ports import Clock, Mailroom

_log = structlog.get_logger()
_BACKOFF_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0)


class SlackGateway:
    """Implements `bot.ports.Gateway`. With an app token it uses Socket Mode, else `routes` must be served.

    A payload is acknowledged only after the mailroom stored what it asks for. Bolt acknowledges when its global
    middleware is through, before any listener has run, so ours stands first and does the storing.
    """

    def __init__(
        self,
        *,
        bot_token: str,
        app_token: str | None = None,
        signing_secret: str | None = None,
        api_url: str = API_URL,
        connections: int = 2,
        heartbeat: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self._bot_token = bot_token
        self._app_token = app_token
        self._signing_secret = signing_secret
        self._api = Api(token=bot_token, api_url=api_url, clock=clock)
        self._names = Names(self._api)
        self._intake = Intake(self._names, self._api.clock)
        self._sockets = (
            Sockets(self._api, app_token, self._dispatch, connections=connections, heartbeat=heartbeat)
            if app_token
            else None
        )
        self._us: wire.Installation | None = None
        self._bolt: AsyncApp | None = None
        self._hearing = False

    @property
    def routes(self) -> Sequence[Route]:
        """What the HTTP server must serve; empty in Socket Mode."""
        if self._sockets is not None or not self._signing_secret:
            return ()
        secret = self._signing_secret
        return (events_route(lambda: secret, self._dispatch),)

    async def check(self) -> None:
        """Raise Misconfigured with every problem of tokens and scopes at once, Retryable when Slack is away."""
        try:
            await self._identify()
            if self._sockets is not None:
                await self._sockets.address()
        finally:
            if not self._hearing:
                await self._api.close()

    async def run(self, mailroom: Mailroom) -> None:
        try:
            await self._introduce()
            self._intake.open(mailroom)
            self._hearing = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self._intake.drain())
                if self._sockets is not None:
                    group.create_task(self._sockets.run())
        except ExceptionGroup as failures:
            if (found := _first(failures, Misconfigured)) is not None:
                raise found from failures
            raise
        finally:
            self._hearing = False
            self._bolt = None  # it holds the session
            await self._api.close()

    def healthy(self) -> bool:
        return self._hearing and (self._sockets is None or self._sockets.open > 0)

    async def _identify(self) -> None:
        if problems := credential_problems(self._bot_token, self._app_token, self._signing_secret):
            raise Misconfigured(*problems)
        self._us = await self._api.us()
        if problems := scope_problems(self._api.scopes):
            raise Misconfigured(*problems)

    async def _introduce(self) -> None:
        """Learn who we are, however long Slack is away."""
        for tries in itertools.count():
            try:
                await self._identify()
                return
            except Misconfigured:
                raise
            except ThreadbotError as error:
                wait = _BACKOFF_SECONDS[min(tries, len(_BACKOFF_SECONDS) - 1)]
                _log.warning("slack.unreachable", error=type(error).__name__, wait_s=wait)
                await self._api.clock.sleep(wait)

    async def _dispatch(self, payload: dict[str, Any], headers: dict[str, str]) -> tuple[int, str]:
        """Through bolt, without its signature check: sockets need none and `http` has done it."""
        if not self._hearing:
            return 503, ""
        try:
            request = AsyncBoltRequest(body=payload, headers=dict(headers), mode="socket_mode")
        except (TypeError, AttributeError, KeyError, ValueError, IndexError):
            _log.warning("slack.malformed", kind=str(payload.get("type"))[:40])  # again would be no better
            return 200, ""
        response = await self._app().async_dispatch(request)
        return response.status, response.body or ""

    async def _hear(self, body: dict[str, Any]) -> BoltResponse:
        us = self._us
        if us is None:
            return BoltResponse(status=503)
        match wire.parse(body, us, names=self._names):
            case wire.Ignore(reason):
                level = _log.warning if reason == "malformed" else _log.debug
                level("slack.ignored", reason=reason, kind=str(body.get("type"))[:40])
                return BoltResponse(status=200)
            case deed:
                return BoltResponse(status=200 if await self._intake.take(deed) else 503)

    def _app(self) -> AsyncApp:
        """Everything explicit: bolt fills gaps from the environment, and SLACK_CLIENT_ID and SLACK_CLIENT_SECRET there
        would turn it into an OAuth app (slack_bolt/app/async_app.py:217-223, 290-302). As `before_authorize` we stand
        before anything that could care, and before any call to Slack.
        """
        if self._bolt is None:
            self._bolt = AsyncApp(
                name="threadbot",
                logger=SILENT,
                client=self._api.client,
                signing_secret="",
                before_authorize=self._hear,
                request_verification_enabled=False,
                ssl_check_enabled=False,
                url_verification_enabled=False,
                attaching_function_token_enabled=False,
                attaching_conversation_kwargs_enabled=False,
            )
        return self._bolt


def _first(group: BaseExceptionGroup[Any], kind: type[Misconfigured]) -> Misconfigured | None:
    for error in group.exceptions:
        if isinstance(error, kind):
            return error
        if isinstance(error, BaseExceptionGroup) and (found := _first(error, kind)) is not None:
            return found
    return None
