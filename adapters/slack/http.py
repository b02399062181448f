"""HTTP mode: POST /slack/events, for Slack's signature only.

https://docs.slack.dev/authentication/verifying-requests-from-slack/
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import structlog
from slack_sdk.signature import SignatureVerifier
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.slack.sockets import Dispatch

_log = structlog.get_logger()
PATH = "/slack/events"
MAX_BODY = 1024 * 1024


def events_route(signing_secret: Callable[[], str], dispatch: Dispatch) -> Route:
    """Events, interactions and the URL handshake. Anything unsigned or unreadable is 401, too much is 413."""

    async def hear(request: Request) -> Response:
        try:
            raw = await _body(request)
        except ClientDisconnect:
            return Response(status_code=400)
        if raw is None:
            return Response(status_code=413)
        headers = request.headers
        timestamp, signature = headers.get("x-slack-request-timestamp"), headers.get("x-slack-signature")
        if not is_signed(signing_secret(), raw, timestamp, signature):
            _log.warning("slack.forged", bytes=len(raw))
            return Response(status_code=401)
        payload = _payload(raw, headers.get("content-type", ""))
        match payload:
            case None:
                return Response(status_code=401)
            case {"type": "url_verification", "challenge": str(challenge)}:
                return JSONResponse({"challenge": challenge})
        retry = headers.get("x-slack-retry-num")
        status, body = await dispatch(payload, {"x-slack-retry-num": retry} if retry else {})
        return Response(body, status, media_type="application/json" if body else None)

    endpoint: Callable[[Request], Awaitable[Response]] = hear
    return Route(PATH, endpoint, methods=["POST"], name="slack-events")


def is_signed(secret: str, raw: bytes, timestamp: str | None, signature: str | None) -> bool:
    """Within five minutes and by Slack.

    The SDK's verifier raises on timestamps that are no integer, signatures that are not ASCII and bodies that are not
    UTF-8 (slack_sdk/signature/__init__.py:59-90); a stranger must not get a 500 out of us.
    """
    if not timestamp or not signature or not signature.isascii():
        return False
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    try:
        return SignatureVerifier(secret).is_valid(raw, timestamp, signature)
    except UnicodeDecodeError:
        return False


async def _body(request: Request) -> bytes | None:
    """The raw bytes the signature is over; None when there are too many of them."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _payload(raw: bytes, content_type: str) -> dict[str, object] | None:
    """Events come as JSON, interactions as a form with JSON in `payload`."""
    try:
        text = raw.decode()
        if content_type.startswith("application/x-www-form-urlencoded"):
            text = parse_qs(text, max_num_fields=100).get("payload", [""])[0]
        payload = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None
