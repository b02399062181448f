"""Errors as the vendor sends them."""

from __future__ import annotations

from aiohttp import web

from tests.fakes.engine.state import Body


class Refused(web.HTTPException):
    """An error envelope as the vendor sends it, raised anywhere in a handler."""

    def __init__(self, status: int, message: str) -> None:
        self.status_code = status
        answer = error(status, message)
        super().__init__(text=answer.text, content_type="application/json")


def error(
    status: int, message: str, *, code: str | None = None, kind: str = "invalid_request_error"
) -> web.Response:
    return web.json_response(envelope(message, code=code, kind=kind), status=status)


def envelope(message: str, *, code: str | None = None, kind: str = "invalid_request_error") -> Body:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
