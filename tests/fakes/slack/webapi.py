"""The HTTP face: Web API, sockets, uploads and downloads, as an aiohttp application."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from tests.fakes.slack import chat as _chat
from tests.fakes.slack import files as _files
from tests.fakes.slack import methods as _methods
from tests.fakes.slack.core import SlackCore
from tests.fakes.slack.faults import Fault
from tests.fakes.slack.model import Call, Ephemeral, Json, SlackError
from tests.fakes.slack.registry import METHODS, Method, method

REGISTERED = (_chat, _files, _methods)
"""Importing them fills METHODS."""

_ARE_JSON = ("blocks", "attachments", "chunks", "metadata", "files", "prompts", "view", "loading_messages")
_LOGIN_PAGE = (
    "<!DOCTYPE html><html><head><title>Sign in | Slack</title></head><body>Sign in to Slack</body></html>"
)


class WebApi:
    """Answers every request of the bot; `application()` is what listens."""

    def __init__(self, slack: SlackCore) -> None:
        self._slack = slack
        self._tickets: set[str] = set()
        self._closing = asyncio.Event()

    def application(self, further: Iterable[web.RouteDef] = ()) -> web.Application:
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_route("*", "/api/{method}", self._call)
        app.router.add_get("/link", self._link)
        app.router.add_post("/upload/v1/{file}", self._upload)
        app.router.add_get("/files-pri/{path:.*}", self._download)
        app.router.add_post("/response/{channel}/{ts}/{user}", self._respond)
        app.router.add_routes(further)
        return app

    def close(self) -> None:
        """Lets hanging requests go."""
        self._closing.set()

    def ticket(self) -> str:
        """A socket URL's ticket: good once."""
        ticket = uuid.uuid4().hex
        self._tickets.add(ticket)
        return ticket

    # -- Web API -----------------------------------------------------------------------------------------------

    async def _call(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["method"]
        try:
            params, token = await _read(request)
        except ValueError:
            return self._answer(name, {}, SlackError("invalid_json"))
        fault = self._slack.faults.strike(name, params)
        if fault is not None and (refused := await self._refuse(request, fault, name, params)) is not None:
            return refused
        if self._slack.enforce_limits:
            wait = self._slack.rates.refuse(name, str(params.get("channel") or ""), time.monotonic())
            if wait is not None:
                return self._too_many(name, params, wait)
        try:
            found = _find(self._slack, name, token)
            result: Json | SlackError = found.run(self._slack, params)
        except SlackError as error:
            result = error
        if name == "apps.connections.open" and isinstance(result, dict):
            base = self._slack.workspace.url.replace("http", "ws", 1)
            result = {"url": f"{base}/link?ticket={self.ticket()}&app_id={self._slack.api_app_id}"}
        if fault is not None and fault.kind == "drop_after":
            self._record(name, params, "drop_after")
            return _cut(request)
        return self._answer(name, params, result)

    def _answer(self, name: str, params: Json, result: Json | SlackError) -> web.Response:
        scopes = ",".join(sorted(self._slack.scopes))
        if isinstance(result, SlackError):
            body = {"ok": False, "error": result.code, **result.extra}
            self._record(name, params, result.code)
        else:
            body = {"ok": True, **result}
            self._record(name, params, "ok")
        return web.json_response(body, headers={"x-oauth-scopes": scopes, "x-slack-req-id": "fake"})

    async def _refuse(
        self, request: web.Request, fault: Fault, name: str, params: Json
    ) -> web.StreamResponse | None:
        """The faulty answer, or None when the call is to be processed after all."""
        match fault.kind:
            case "429":
                return self._too_many(name, params, fault.retry_after)
            case "500" | "503":
                self._record(name, params, fault.kind)
                return web.Response(
                    status=int(fault.kind), text="upstream connect error", content_type="text/html"
                )
            case "reset":
                self._record(name, params, "reset")
                return _cut(request)
            case "hang":
                self._record(name, params, "hang")
                await self._closing.wait()
                return _cut(request)
            case "delay":
                await asyncio.sleep(fault.seconds)
            case "drop_after":
                pass
            case kind:
                return self._answer(name, params, SlackError(kind.removeprefix("error:")))
        return None

    def _too_many(self, name: str, params: Json, wait: int) -> web.Response:
        self._record(name, params, "429")
        return web.json_response(
            {"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": str(wait)}
        )

    def _record(self, name: str, params: Json, outcome: str) -> None:
        self._slack.record(Call(name, params, time.monotonic(), outcome))

    # -- the rest ----------------------------------------------------------------------------------------------

    async def _link(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        good = ticket in self._tickets
        self._tickets.discard(ticket)
        if self._slack.delivery.refuse_sockets or not good:
            return web.Response(status=503 if good else 403)
        ws = web.WebSocketResponse(autoping=False, timeout=0.5)
        await ws.prepare(request)
        hello = {
            "type": "hello",
            "connection_info": {"app_id": self._slack.api_app_id},
            "debug_info": {"host": "applink-fake", "build_number": 1, "approximate_connection_time": 18060},
        }
        transport = request.transport
        await self._slack.delivery.serve(
            ws, transport if isinstance(transport, asyncio.Transport) else None, hello
        )
        return ws

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        file = self._slack.workspace.files.get(request.match_info["file"])
        if request.content_type == "multipart/form-data":
            parts = [
                part.file.read()
                for part in (await request.post()).values()
                if isinstance(part, web.FileField)
            ]
            content = b"".join(parts)
        else:
            content = await request.read()
        params = {"file": request.match_info["file"], "length": len(content)}
        fault = self._slack.faults.strike("upload", params)
        if (
            fault is not None
            and (refused := await self._refuse(request, fault, "upload", params)) is not None
        ):
            return refused
        if file is None or len(content) != file.expected:
            self._record("upload", params, "400")
            return web.Response(status=400, text="bad upload")
        file.content, file.uploaded = content, True
        self._record("upload", params, "ok")
        if fault is not None and fault.kind == "drop_after":
            return _cut(request)
        return web.Response(text=f"OK - {len(content)}")

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """Without a good token Slack answers 200 and its login page, not 401."""
        file_id = request.match_info["path"].partition("/")[0].rpartition("-")[2]
        file = self._slack.workspace.files.get(file_id)
        params = {"file": file_id}
        fault = self._slack.faults.strike("download", params)
        if (
            fault is not None
            and (refused := await self._refuse(request, fault, "download", params)) is not None
        ):
            return refused
        good = request.headers.get("Authorization") == f"Bearer {self._slack.bot_token}"
        if not good or "files:read" not in self._slack.scopes:
            self._record("download", params, "login_page")
            return web.Response(text=_LOGIN_PAGE, content_type="text/html")
        if file is None or file.deleted:
            self._record("download", params, "404")
            return web.Response(status=404)
        self._record("download", params, "ok")
        return web.Response(body=file.content, content_type=file.mimetype)

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        """A response_url (https://docs.slack.dev/interactivity/handling-user-interaction/#message_responses)."""
        body = json.loads(await request.text())
        channel, ts, user = (request.match_info[name] for name in ("channel", "ts", "user"))
        message = self._slack.workspace.channels[channel].messages.get(ts)
        blocks = body.get("blocks") or []
        if message is not None and (body.get("replace_original") or body.get("delete_original")):
            previous = self._slack.wire(message)
            if body.get("delete_original"):
                self._slack.removed(message)
            else:
                message.text, message.blocks, message.streamed = body.get("text") or "", blocks, ""
                self._slack.edited(message, previous)
        else:
            thread_ts = body.get("thread_ts")
            self._slack.ephemerals.append(Ephemeral(channel, user, body.get("text") or "", blocks, thread_ts))
        self._record("response_url", body, "ok")
        return web.Response(text="ok")


@method("apps.connections.open", "connections:write", app_token=True)
def apps_connections_open(slack: SlackCore, params: Json) -> Json:
    return {}


@method("api.test")
def api_test(slack: SlackCore, params: Json) -> Json:
    return {"args": params}


def _find(slack: SlackCore, name: str, token: str) -> Method:
    found = METHODS.get(name)
    if found is None:
        raise SlackError("unknown_method")
    if not token and name not in ("api.test", "blocks.validate"):
        raise SlackError("not_authed")
    if token and token not in (slack.bot_token, slack.app_token):
        raise SlackError("invalid_auth")
    if token and name != "auth.test" and found.app_token != (token == slack.app_token):
        raise SlackError("not_allowed_token_type")
    if found.scope and not found.app_token and not set(found.scope.split("|")) & slack.scopes:
        raise SlackError(
            "missing_scope", needed=found.scope.replace("|", ","), provided=",".join(sorted(slack.scopes))
        )
    return found


async def _read(request: web.Request) -> tuple[Json, str]:
    """Parameters from query, form or JSON, and the token. JSON inside strings is decoded where Slack does so."""
    params: Json = dict(request.query)
    if request.method == "POST":
        if request.content_type == "application/json":
            body: Any = json.loads(await request.text() or "{}")
            if not isinstance(body, dict):
                raise ValueError("not an object")
            params |= body
        elif request.can_read_body:
            params |= dict(await request.post())
    for name in _ARE_JSON:
        if isinstance(value := params.get(name), str) and value[:1] in ("[", "{"):
            params[name] = json.loads(value)
    header = request.headers.get("Authorization", "")
    token = header.removeprefix("Bearer ") if header.startswith("Bearer ") else str(params.get("token", ""))
    params.pop("token", None)
    return params, token


def _cut(request: web.Request) -> web.StreamResponse:
    """Closes the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
