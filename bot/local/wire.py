"""JSON, ids and server-sent events as they appear on the wire."""

import json
import secrets
from typing import Any

from starlette.responses import Response

from bot.local.errors import bad_request

Body = dict[str, Any]
"""One object of the API, exactly as it is sent and stored."""

DONE = b"event: done\ndata: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def dumps(value: object) -> str:
    """ASCII only, so that lone surrogates (legal in JSON, not in UTF-8) survive; refuses NaN and Infinity."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError as exc:
        raise bad_request("Numbers must be finite: NaN and Infinity are not JSON.") from exc


def new_id(prefix: str) -> str:
    """`prefix` includes its separator: `msg_`, `file-`."""
    return prefix + secrets.token_hex(12)


def frame(event: str, data: object) -> bytes:
    return f"event: {event}\ndata: {dumps(data)}\n\n".encode()


def text_delta_head(message_id: str) -> str:
    """What is the same in every text delta of a message; `text_delta` adds the rest, as cheaply as can be."""
    return (
        'event: thread.message.delta\ndata: {"id":"' + message_id + '","object":"thread.message.delta",'
        '"delta":{"content":[{"index":0,"type":"text","text":{"value":'
    )


def text_delta(head: str, text: str) -> bytes:
    return f'{head}{json.dumps(text)},"annotations":[]}}}}]}}}}\n\n'.encode()


def json_response(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(value), status, headers, "application/json")
