"""What every request meets before the routes: an id, the key, a size limit; and every error's way out."""

import hmac
import ipaddress
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.local.errors import ApiError
from bot.local.wire import json_response, new_id

MAX_JSON_BYTES = 32 * 1024 * 1024
_MULTIPART_OVERHEAD = 1024 * 1024

log = structlog.get_logger()


class Border:
    """ASGI middleware around everything. Plain ASGI, because a streamed answer passes through untouched."""

    def __init__(self, app: ASGIApp, *, keys: frozenset[str], max_upload_bytes: int) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req_")
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            limit = self._limit(scope)
            self._check(scope, limit)
            await self._app(scope, _limited(receive, limit), send_marked)
        except Exception as exc:
            if started:
                raise
            if isinstance(exc, ApiError):
                response = error_response(exc)
            else:
                log.exception("local.request_failed", request=request_id, path=scope["path"])
                response = error_response(
                    ApiError(
                        500, "The server had an error while processing your request.", type="server_error"
                    )
                )
            await response(scope, receive, send_marked)

    def _limit(self, scope: Scope) -> int:
        if scope["path"] == "/v1/files":
            return self._max_upload_bytes + _MULTIPART_OVERHEAD
        return MAX_JSON_BYTES

    def _check(self, scope: Scope, limit: int) -> None:
        headers = dict(scope["headers"])
        if self._keys and scope["path"].startswith("/v1"):
            scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
            # No short cut: the time taken must not tell which key was nearly right.
            known = [hmac.compare_digest(key.strip(), mine) for mine in self._keys]
            if scheme.lower() != b"bearer" or not any(known):
                raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        if not self._keys:
            _refuse_strange_pages(headers)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)


def _refuse_strange_pages(headers: dict[bytes, bytes]) -> None:
    """Without keys, being on this machine is the permission, and a web page in its browser is not on it.

    A foreign page betrays itself by its Origin, or, after DNS rebinding, by the Host it was loaded from.
    """
    for name in (b"origin", b"host"):
        value = headers.get(name, b"").decode("latin-1")
        if value and not is_local_name(urlsplit(value if "//" in value else f"//{value}").hostname or ""):
            raise ApiError(403, "This server has no API key, so it answers only programs on its own machine.")


def is_local_name(host: str) -> bool:
    """Loopback addresses and their names; `local` is the host of our unix socket."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in {"localhost", "local"}


def _limited(receive: Receive, limit: int) -> Receive:
    """Counts what really comes, as a length header may be absent."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413, f"The request is larger than the {limit} bytes this server accepts.", code="too_large"
    )


def error_response(error: ApiError) -> Response:
    """The error envelope. What may have had an effect is marked as not to be repeated (openai-python retries it)."""
    body = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    headers = {"x-should-retry": "false"} if error.status_code == 409 or error.status_code >= 500 else {}
    if error.status_code == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response({"error": body}, status=error.status_code, headers=headers)


async def on_http_error(request: Request, error: Exception) -> Response:
    """ApiError, and what the framework raises itself: unknown routes, wrong methods, unreadable bodies."""
    if isinstance(error, ApiError):
        return error_response(error)
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            message = f"Invalid URL ({request.method} {request.url.path})"
        case 405:
            message = f"Not allowed to {request.method} on {request.url.path}."
        case status:
            message = str(error.detail or HTTPStatus(status).phrase)
    return error_response(ApiError(error.status_code, message))


async def on_invalid_request(_request: Request, error: Exception) -> Response:
    """The first complaint, as the hosted API words it; `param` is the dotted path of the field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where, *path = first["loc"]
    param = ".".join(str(part) for part in path) or None
    match first["type"]:
        case "json_invalid":
            return error_response(
                ApiError(400, "The body of the request is not valid JSON.", code="invalid_json")
            )
        case "missing" if param:
            message = f"Missing required parameter: '{param}'."
        case "value_error":
            message = str(first["ctx"]["error"])
        case _:
            message = f"Invalid value for '{param or where}': {first['msg']}."
    return error_response(ApiError(400, message, param=param))
