"""Events on their way to the bot: Socket Mode or signed HTTP, with redelivery."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlencode

import aiohttp
from aiohttp import WSMsgType, web

from tests.fakes.slack.model import Json

Kind = Literal["events_api", "interactive", "slash_commands"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """One payload for the bot. `attempt` counts redeliveries; each has an `id` of its own."""

    kind: Kind
    payload: Json
    attempt: int = 0
    reason: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def wire(self) -> str:
        """https://docs.slack.dev/apis/events-api/using-socket-mode/"""
        body: Json = {"envelope_id": self.id, "type": self.kind, "payload": self.payload}
        body["accepts_response_payload"] = self.kind != "events_api"
        if self.kind == "events_api":
            body |= {"retry_attempt": self.attempt, "retry_reason": self.reason}
        return json.dumps(body)


@dataclass(slots=True)
class Delivered:
    """One delivery attempt, for tests to count. `outcome`: "sent", "acked", or why it failed."""

    envelope: Envelope
    at: float
    outcome: str = "sent"
    response: Json | None = None


class Socket:
    """An open Socket Mode connection; it writes in order from its own outbox."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.ws = ws
        self.transport = transport
        self.outbox: asyncio.Queue[str] = asyncio.Queue()
        self.in_flight: set[str] = set()
        self.deaf = False
        self.retiring = False

    def put(self, text: str) -> None:
        if not self.deaf:
            self.outbox.put_nowait(text)

    def drop(self) -> None:
        """The network goes away: no close frame."""
        if self.transport is not None:
            self.transport.abort()

    async def write(self) -> None:
        while True:
            text = await self.outbox.get()
            try:
                await self.ws.send_str(text)
            except ConnectionError:
                return


class Delivery:
    """Brings each envelope to the bot, once if all goes well, up to `1 + retries` times if not.

    Events that find no open socket wait for one; interactions fail at once, as a user would see.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.ack_seconds = 3.0
        self.retries = 3
        self.retry_delays: tuple[float, ...] = (0.0, 0.2, 0.5)
        """HTTP only. Slack's own: at once, after 1 minute, after 5 minutes."""
        self.duplicates = 0
        self.refuse_sockets = False
        self.max_sockets = 10
        self.keep_log = True
        self.log: list[Delivered] = []
        self.undelivered: list[Envelope] = []
        self.sockets: list[Socket] = []
        self.url: str | None = None
        self.signing_secret = ""
        self._changed = changed
        self._queue: deque[Envelope] = deque()
        self._sent: dict[str, tuple[Delivered, Socket, asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    @property
    def pending(self) -> int:
        """Envelopes queued or not yet acknowledged."""
        return len(self._queue) + len(self._sent) + len(self._tasks)

    def send(self, envelope: Envelope) -> None:
        for _ in range(1 + self.duplicates):
            copy = replace(envelope, id=str(uuid.uuid4()))
            if self.url is not None:
                self._spawn_http(copy)
            elif envelope.kind != "events_api" and not self._usable():
                self._give_up(copy)
            else:
                self._queue.append(copy)
        self._pump()

    def switch(self, url: str | None, signing_secret: str) -> None:
        """From now on, what is queued included, to `url`; None: to sockets."""
        self.url, self.signing_secret = url, signing_secret
        while url is not None and self._queue:
            self._spawn_http(self._queue.popleft())

    # -- Socket Mode -------------------------------------------------------------------------------------------

    async def serve(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport | None, hello: Json
    ) -> None:
        """Runs one socket until it closes; what it had not acknowledged is redelivered."""
        socket = Socket(ws, transport)
        if len(self.sockets) >= self.max_sockets:
            await ws.send_json({"type": "disconnect", "reason": "too_many_websockets"})
            await ws.close()
            return
        await ws.send_json({**hello, "num_connections": len(self.sockets) + 1})
        writer = asyncio.create_task(socket.write())
        self.sockets.append(socket)
        self._changed()
        self._pump()
        try:
            async for frame in ws:
                if socket.deaf:
                    continue
                if frame.type is WSMsgType.PING:
                    with contextlib.suppress(ConnectionError):
                        await ws.pong(frame.data)
                elif frame.type is WSMsgType.TEXT:
                    self._acknowledge(json.loads(frame.data))
        finally:
            writer.cancel()
            self.sockets.remove(socket)
            for envelope_id in list(socket.in_flight):
                self._redeliver(envelope_id, "connection_failed")
            self._changed()

    def disconnect(self, reason: str) -> None:
        """Asks every client to reconnect, as Slack does every few hours; nothing new is sent on these sockets."""
        for socket in self.sockets:
            socket.put(
                json.dumps({"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-fake"}})
            )
            socket.retiring = reason != "warning"

    def _usable(self) -> list[Socket]:
        return [socket for socket in self.sockets if not socket.retiring]

    def _pump(self) -> None:
        while self._queue and (sockets := self._usable()):
            socket = sockets[0]
            self.sockets.remove(socket)  # round robin: to the back of the line
            self.sockets.append(socket)
            envelope = self._queue.popleft()
            timer = asyncio.get_running_loop().call_later(
                self.ack_seconds, self._redeliver, envelope.id, "timeout"
            )
            socket.in_flight.add(envelope.id)
            self._sent[envelope.id] = (self._logged(envelope), socket, timer)
            socket.put(envelope.wire())

    def _acknowledge(self, answer: Json) -> None:
        sent = self._sent.pop(str(answer.get("envelope_id")), None)
        if sent is None:
            return
        delivered, socket, timer = sent
        timer.cancel()
        socket.in_flight.discard(delivered.envelope.id)
        delivered.outcome = "acked"
        delivered.response = answer.get("payload")
        self._changed()

    def _redeliver(self, envelope_id: str, reason: str) -> None:
        delivered, socket, timer = self._sent.pop(envelope_id)
        timer.cancel()
        socket.in_flight.discard(envelope_id)
        delivered.outcome = reason
        envelope = delivered.envelope
        if envelope.kind != "events_api" or envelope.attempt >= self.retries:
            self._give_up(envelope)
        else:
            again = replace(envelope, id=str(uuid.uuid4()), attempt=envelope.attempt + 1, reason=reason)
            self._queue.append(again)
            self._pump()
        self._changed()

    def _give_up(self, envelope: Envelope) -> None:
        self.undelivered.append(envelope)
        self._changed()

    def _logged(self, envelope: Envelope) -> Delivered:
        delivered = Delivered(envelope, time.monotonic())
        if self.keep_log:
            self.log.append(delivered)
        return delivered

    # -- HTTP --------------------------------------------------------------------------------------------------

    def _spawn_http(self, envelope: Envelope) -> None:
        task = asyncio.create_task(self._post_until_taken(envelope))
        self._tasks.add(task)
        task.add_done_callback(self._http_done)

    def _http_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed()

    async def _post_until_taken(self, envelope: Envelope) -> None:
        """Retries: https://docs.slack.dev/apis/events-api/#retries"""
        while True:
            delivered = self._logged(envelope)
            delivered.outcome, retry = await self._post(envelope, delivered)
            if delivered.outcome == "acked":
                return
            if not retry or envelope.kind != "events_api" or envelope.attempt >= self.retries:
                self._give_up(envelope)
                return
            await asyncio.sleep(self.retry_delays[min(envelope.attempt, len(self.retry_delays) - 1)])
            envelope = replace(envelope, attempt=envelope.attempt + 1, reason=delivered.outcome)

    async def _post(self, envelope: Envelope, delivered: Delivered) -> tuple[str, bool]:
        raw = json.dumps(envelope.payload)
        content_type = "application/json"
        if envelope.kind == "interactive":
            raw, content_type = urlencode({"payload": raw}), "application/x-www-form-urlencoded"
        elif envelope.kind == "slash_commands":
            raw, content_type = urlencode(envelope.payload), "application/x-www-form-urlencoded"
        headers = {"Content-Type": content_type, **sign(self.signing_secret, raw)}
        if envelope.attempt:
            headers |= {"X-Slack-Retry-Num": str(envelope.attempt), "X-Slack-Retry-Reason": envelope.reason}
        self._session = self._session or aiohttp.ClientSession()
        try:
            timeout = aiohttp.ClientTimeout(total=self.ack_seconds)
            async with self._session.post(
                self.url or "", data=raw.encode(), headers=headers, timeout=timeout
            ) as answer:
                body = await answer.read()
                if answer.content_type == "application/json" and body:
                    delivered.response = json.loads(body)
                if 200 <= answer.status < 300:
                    return "acked", False
                return "http_error", answer.headers.get("X-Slack-No-Retry") != "1"
        except TimeoutError:
            return "http_timeout", True
        except aiohttp.ClientError:
            return "connection_failed", True

    async def close(self) -> None:
        self._queue.clear()
        for _, _, timer in self._sent.values():
            timer.cancel()
        self._sent.clear()
        for socket in self.sockets:
            socket.in_flight.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None


def sign(secret: str, body: str, ts: int | None = None) -> dict[str, str]:
    """Headers of a signed request (https://docs.slack.dev/authentication/verifying-requests-from-slack/)."""
    at = str(int(time.time()) if ts is None else ts)
    digest = hmac.new(secret.encode(), f"v0:{at}:{body}".encode(), hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={digest}"}
