"""Socket Mode: a few WebSockets, each replaced before or as soon as it dies.

Our own loop around aiohttp instead of slack_sdk's SocketModeClient, which reuses a URL whose ticket is spent
(slack_sdk/socket_mode/aiohttp/__init__.py:376-387), closes the old socket before it opens the new one, and can hang
on close. Protocol: https://docs.slack.dev/apis/events-api/using-socket-mode/
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import structlog

from adapters.slack.api import Api
from adapters.slack.errors import MAYBE_DONE, refusal
from bot.errors import Misconfigured, Retryable, ThreadbotError

_log = structlog.get_logger()
_AT_ONCE = 200  # envelopes in work; more wait in the socket
_HELLO_SECONDS = 10.0
_RETIRED_SECONDS = 30.0  # a socket that Slack takes back may still bring events
_STEADY_SECONDS = 10.0
_MAX_BACKOFF_SECONDS = 30.0
_MAX_FRAME = 4 * 1024 * 1024

Dispatch = Callable[[dict[str, Any], dict[str, str]], Awaitable[tuple[int, str]]]
"""Payload and retry headers to (status, body); only a 200 is acknowledged."""


class Sockets:
    """Hears on several connections at once; Slack sends each payload to one of them.

    `heartbeat`: seconds between pings; a socket that does not answer one within half of that is replaced.
    """

    def __init__(
        self, api: Api, app_token: str, dispatch: Dispatch, *, connections: int = 2, heartbeat: float = 10.0
    ) -> None:
        self._api = api
        self._app_token = app_token
        self._dispatch = dispatch
        self._connections = connections
        self._heartbeat = heartbeat
        self._room = asyncio.Semaphore(_AT_ONCE)
        self.open = 0

    async def run(self) -> None:
        """Until cancelled; Misconfigured (in a group) when the token cannot open sockets."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._keep_one(group))

    async def address(self) -> str:
        """A fresh URL; its ticket is good for one connection."""
        answer = await self._api.call("apps.connections.open", token=self._app_token, repeatable=True)
        return str(answer.get("url", ""))

    async def _keep_one(self, group: asyncio.TaskGroup) -> None:
        failures = 0
        while True:
            started = self._api.clock.now()
            try:
                socket = await self._dial()
            except Misconfigured:
                raise
            except (ThreadbotError, ValueError, TypeError, *MAYBE_DONE) as error:
                wait = (
                    error.retry_after
                    if isinstance(error, Retryable) and error.retry_after
                    else _backoff(failures)
                )
                _log.warning("slack.socket_refused", error=type(error).__name__, wait_s=round(wait, 2))
                failures += 1
                await self._api.clock.sleep(wait)
                continue
            leaving = asyncio.Event()
            group.create_task(self._serve(socket, leaving, group))
            await leaving.wait()  # from here on its successor is dialled, while it may still bring events
            if self._api.clock.now() - started >= _STEADY_SECONDS:
                failures = 0
            else:  # a door that opens and shuts at once is no better than a closed one
                await self._api.clock.sleep(_backoff(failures))
                failures += 1

    async def _dial(self) -> aiohttp.ClientWebSocketResponse:
        """A socket that has said hello."""
        async with asyncio.timeout(_HELLO_SECONDS + 30):
            url = await self.address()
            socket = await self._api.session.ws_connect(
                url, heartbeat=self._heartbeat, max_msg_size=_MAX_FRAME, proxy=self._api.client.proxy
            )
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                first = json.loads(await socket.receive_str())
            if first.get("type") != "hello":
                raise Retryable(f"disconnect: {first.get('reason')}")
        except BaseException:
            await _hang_up(socket)
            raise
        return socket

    async def _serve(
        self, socket: aiohttp.ClientWebSocketResponse, leaving: asyncio.Event, group: asyncio.TaskGroup
    ) -> None:
        self.open += 1
        _log.info("slack.socket_open", open=self.open)
        try:
            await self._read(socket, leaving, group)
        except TimeoutError:
            pass  # retired long enough
        finally:
            self.open -= 1
            leaving.set()
            _log.info("slack.socket_closed", open=self.open, code=socket.close_code)
            await _hang_up(socket)

    async def _read(
        self, socket: aiohttp.ClientWebSocketResponse, leaving: asyncio.Event, group: asyncio.TaskGroup
    ) -> None:
        async with asyncio.timeout(None) as patience:
            async for frame in socket:
                envelope = _envelope(frame)
                match envelope.get("type"):
                    case "disconnect":
                        reason = str(envelope.get("reason"))
                        _log.info("slack.socket_retired", reason=reason)
                        if reason == "link_disabled":
                            raise refusal("apps.connections.open", reason, repeatable=True)
                        leaving.set()
                        patience.reschedule(asyncio.get_running_loop().time() + _RETIRED_SECONDS)
                    case str() if isinstance(envelope.get("envelope_id"), str):
                        await self._room.acquire()
                        group.create_task(self._answer(socket, envelope))

    async def _answer(self, socket: aiohttp.ClientWebSocketResponse, envelope: dict[str, Any]) -> None:
        try:
            status, body = await self._dispatch(_payload(envelope), _retry_headers(envelope))
            if status == 200:
                acknowledgement: dict[str, Any] = {"envelope_id": envelope["envelope_id"]}
                if body:
                    acknowledgement["payload"] = json.loads(body)
                await socket.send_str(json.dumps(acknowledgement))
        except (*MAYBE_DONE, ValueError) as error:
            # The socket went away under us: Slack brings the envelope again, and the store knows it by then.
            _log.info("slack.not_acknowledged", error=type(error).__name__)
        finally:
            self._room.release()


async def _hang_up(socket: aiohttp.ClientWebSocketResponse) -> None:
    try:
        async with asyncio.timeout(2.0):
            await socket.close()
    except MAYBE_DONE:
        pass


def _envelope(frame: aiohttp.WSMessage) -> dict[str, Any]:
    if frame.type is not aiohttp.WSMsgType.TEXT:
        return {}
    try:
        envelope = json.loads(frame.data)
    except (ValueError, RecursionError):
        return {}
    return envelope if isinstance(envelope, dict) else {}


def _payload(envelope: dict[str, Any]) -> dict[str, Any]:
    payload = envelope.get("payload")
    return payload if isinstance(payload, dict) else {}


def _retry_headers(envelope: dict[str, Any]) -> dict[str, str]:
    """As in HTTP mode (slack_bolt/adapter/socket_mode/internals.py:15-22)."""
    attempt = envelope.get("retry_attempt")
    return {"x-slack-retry-num": str(attempt)} if attempt else {}


def _backoff(failures: int) -> float:
    longest = min(_MAX_BACKOFF_SECONDS, 0.2 * 2.0 ** min(failures, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
