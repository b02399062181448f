"""The Web API as the rest of this package calls it: one session, one limiter, one translation of errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from adapters.slack.errors import MAYBE_DONE, NEVER_SENT, broken, refusal, wait_of
from adapters.slack.wire import Installation
from bot.clock import SystemClock
from bot.errors import Retryable
from bot.ports import Clock

API_URL = "https://slack.com/api/"
SILENT = logging.getLogger("adapters.slack.vendor")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False  # the SDKs log whole bodies (slack_sdk/web/async_internal_utils.py:90-108)
SILENT.setLevel(logging.CRITICAL)

# These take no JSON body (https://docs.slack.dev/apis/web-api/#slack-web-api__basics__post-bodies).
_READS = {"conversations.replies", "users.info", "files.info", "files.getUploadURLExternal"}
# Everything else is limited by workspace (https://docs.slack.dev/apis/web-api/rate-limits).
_BY_CHANNEL = {"chat.postMessage"}
_ONCE_MORE_SECONDS = 0.2

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Refused:
    """What a SlackApiError says. `code` is Slack's own; empty for a proxy's or a server's failure."""

    status: int
    body: Answer
    code: str
    retry_after: float | None

    @classmethod
    def read(cls, error: SlackApiError) -> _Refused:
        # The SDK puts one of two kinds of response into it (slack_sdk/web/async_internal_utils.py:140-152).
        response: Any = error.response
        status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
        body = getattr(response, "data", None)
        body = body if isinstance(body, dict) else {}
        code = str(body.get("error", "")) if status < 500 else ""
        retry_after = None
        if status == 429 or code in ("ratelimited", "rate_limited"):
            retry_after = wait_of(getattr(response, "headers", {}))
        return cls(status, body, code, retry_after)


class Api:
    """Calls with a bot token. The session is opened by the first call and shared by all; close it at the end.

    The SDK's own retries are off: they would repeat a post whose answer got lost
    (slack_sdk/http_retry/builtin_async_handlers.py); `call` knows which calls may be repeated.
    """

    def __init__(
        self, *, token: str, api_url: str = API_URL, clock: Clock | None = None, timeout: float = 15.0
    ) -> None:
        self.url = api_url if api_url.endswith("/") else api_url + "/"
        self.token = token
        self.clock: Clock = clock or SystemClock()
        self._timeout = timeout
        self._client: AsyncWebClient | None = None
        self._closed_until: dict[tuple[str, str], float] = {}
        self._us: Installation | None = None
        self._scopes: frozenset[str] | None = None
        self._asking = asyncio.Lock()

    @property
    def client(self) -> AsyncWebClient:
        if self._client is None:
            # Without a session of ours the SDK opens one, with a TLS handshake, for every call.
            session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout, connect=10, sock_connect=5),
                connector=aiohttp.TCPConnector(limit=100),
            )
            self._client = AsyncWebClient(
                token=self.token, base_url=self.url, session=session, retry_handlers=[], logger=SILENT
            )
        return self._client

    @property
    def session(self) -> aiohttp.ClientSession:
        session = self.client.session
        assert session is not None
        return session

    async def call(
        self,
        method: str,
        *,
        repeatable: bool = False,
        expect: frozenset[str] = frozenset(),
        patience: float = 0.0,
        token: str | None = None,
        **params: Any,
    ) -> Answer:
        """Slack's answer; `ok` is false only for the error codes in `expect`.

        `repeatable`: doing it twice is as good as once, so a lost answer is worth a second try and is Retryable.
        `patience`: a wait up to this many seconds for the rate limit is spent here, once, instead of being raised.
        """
        answer, _ = await self._insist(
            method, repeatable, expect, patience, {**params, "token": token or self.token}
        )
        return answer

    async def us(self) -> Installation:
        """Who we are: auth.test, asked once."""
        async with self._asking:
            if self._us is None:
                data, headers = await self._insist("auth.test", True, frozenset(), 1.0, {"token": self.token})
                self._scopes = _scopes(headers)
                team = data.get("team_id") or data.get("enterprise_id") or ""
                self._us = Installation(
                    str(team),
                    str(data.get("user_id", "")),
                    str(data.get("bot_id", "")),
                    str(data.get("user", "")),
                )
        return self._us

    @property
    def scopes(self) -> frozenset[str] | None:
        """What the token may do, known after `us`; None when Slack did not say."""
        return self._scopes

    async def close(self) -> None:
        if self._client is not None:
            await self.session.close()
            self._client = None

    async def _insist(
        self, method: str, repeatable: bool, expect: frozenset[str], patience: float, params: Answer
    ) -> tuple[Answer, Mapping[str, str]]:
        key = (method, str(params.get("channel", "")) if method in _BY_CHANNEL else "")
        again = repeatable
        while True:
            patience -= await self._wait_turn(key, patience)
            cause: Exception
            try:
                return await self._send(method, params)
            except SlackApiError as error:
                refused, cause = _Refused.read(error), error
                if refused.retry_after is not None:
                    self._closed_until[key] = self.clock.now() + refused.retry_after
                    continue  # and wait for it, or raise, as everybody with this key does from now on
                if refused.code in expect:
                    return refused.body, {}
                if refused.code:
                    needed = str(refused.body.get("needed", ""))
                    raise refusal(method, refused.code, needed=needed, repeatable=repeatable) from error
                failure, sent = f"HTTP {refused.status}", True
            except NEVER_SENT as error:
                failure, sent, cause = type(error).__name__, False, error
            except (*MAYBE_DONE, AttributeError) as error:
                # AttributeError: the SDK takes any 200 for an object (slack_sdk/web/async_slack_response.py:198).
                failure, sent, cause = type(error).__name__, True, error
            if not again:
                raise broken(method, failure, sent=sent, repeatable=repeatable) from cause
            again = False
            await self.clock.sleep(_ONCE_MORE_SECONDS)

    async def _send(self, method: str, params: Answer) -> tuple[Answer, Mapping[str, str]]:
        if method in _READS:
            answer = await self.client.api_call(method, http_verb="GET", params=dict(params))
        else:
            answer = await self.client.api_call(method, json=dict(params))
        if not isinstance(answer.data, dict):
            raise aiohttp.ClientPayloadError("not an object")
        return answer.data, answer.headers

    async def _wait_turn(self, key: tuple[str, str], patience: float) -> float:
        """Seconds waited for Slack's Retry-After, which closes the whole key for everybody."""
        left = self._closed_until.get(key, 0.0) - self.clock.now()
        if left <= 0:
            self._closed_until.pop(key, None)
            return 0.0
        if left > patience:
            raise Retryable(f"{key[0]}: rate limited", retry_after=left)
        await self.clock.sleep(left)
        return left


def _scopes(headers: Mapping[str, str]) -> frozenset[str] | None:
    """https://docs.slack.dev/reference/scopes : every answer names the token's scopes in a header."""
    listed = headers.get("x-oauth-scopes")
    return (
        None if listed is None else frozenset(scope.strip() for scope in listed.split(",") if scope.strip())
    )
