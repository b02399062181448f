"""Routes of what merely lies there: models, assistants, threads, messages, files."""

from __future__ import annotations

from aiohttp import web

from tests.fakes.engine import state
from tests.fakes.engine.answers import Refused, error
from tests.fakes.engine.house import House
from tests.fakes.engine.state import Body, ThreadState


class Shelf:
    def __init__(self, house: House) -> None:
        self._house = house

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self._list_models),
            web.get("/v1/assistants", self._list_assistants),
            web.post("/v1/assistants", self._create_assistant),
            web.post("/v1/threads", self._create_thread),
            web.get("/v1/threads/{thread}/messages", self._list_messages),
            web.post("/v1/files", self._create_file),
            web.get("/v1/files/{file}", self._get_file),
            web.get("/v1/files/{file}/content", self._get_content),
        ]

    # --- assistants, threads, messages ---

    async def _list_models(self, _: web.Request) -> web.Response:
        if self._house.models is None:
            return error(404, "Not found")
        return web.json_response(
            {"object": "list", "data": [{"id": m, "object": "model"} for m in self._house.models]}
        )

    async def _list_assistants(self, request: web.Request) -> web.Response:
        return web.json_response(state.page(list(self._house.assistants.values()), request.query))

    async def _create_assistant(self, request: web.Request) -> web.Response:
        asked: Body = await request.json()
        body: Body = {
            "id": self._house.ids("asst_"),
            "object": "assistant",
            "created_at": state.now(),
            "name": None,
            "description": None,
            "instructions": None,
            "tools": [],
            "metadata": {},
        } | asked
        self._house.assistants[body["id"]] = body
        return web.json_response(body)

    async def _create_thread(self, request: web.Request) -> web.Response:
        asked: Body = await request.json()
        messages = asked.get("messages") or []
        if len(messages) > 32:
            return error(400, "Invalid 'messages': array too long. Expected an array with maximum length 32.")
        name = self._house.ids("thread_")
        body = {
            "id": name,
            "object": "thread",
            "created_at": state.now(),
            "metadata": asked.get("metadata") or {},
            "tool_resources": {},
        }
        self._house.threads[name] = ThreadState(
            body, [state.heard(self._house.ids, name, m) for m in messages]
        )
        return web.json_response(body)

    async def _list_messages(self, request: web.Request) -> web.Response:
        wanted = request.query.get("run_id")
        messages = [
            m for m in self._house.thread_of(request).messages if wanted is None or m["run_id"] == wanted
        ]
        return web.json_response(state.page(messages, request.query))

    # --- files ---

    async def _create_file(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form["file"]
        if not isinstance(upload, web.FileField):
            raise Refused(400, "file is missing")
        name = self._house.add_file(upload.filename, upload.file.read(), str(form["purpose"]))
        return web.json_response(self._house.files[name][0])

    def _file(self, request: web.Request) -> tuple[Body, bytes]:
        name = request.match_info["file"]
        if name not in self._house.files:
            raise Refused(404, f"No such File object: {name}")
        return self._house.files[name]

    async def _get_file(self, request: web.Request) -> web.Response:
        return web.json_response(self._file(request)[0])

    async def _get_content(self, request: web.Request) -> web.Response:
        return web.Response(body=self._file(request)[1], content_type="application/octet-stream")
