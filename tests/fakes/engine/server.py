"""The scripted server: as much of Assistants v2 as the engine speaks, with state, scripts and faults.

It listens on loopback in the test's own loop, so a test can open gates and look at the state directly;
`python -m tests.fakes.engine` runs the same server alone, with the gates behind `POST /_control/gate/NAME`.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web

from tests.fakes.engine import state
from tests.fakes.engine.player import Player
from tests.fakes.engine.script import End, Fault, Script
from tests.fakes.engine.state import Body, Ids, RunState, ThreadState

QUIET = web.RequestKey(
    "quiet", bool
)  # process the request, but do not stream: its answer is replaced by a fault
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedEngine:
    """`async with ScriptedEngine() as server:` listens; `script()` queues what the next runs do, one each.

    `default` plays when no script waits. `calls` lists (method, path) of every request, oldest first.
    `models` is what the models endpoint lists; None: there is no such endpoint. `key`: the only key accepted.
    """

    def __init__(self, *, port: int = 0, key: str | None = None) -> None:
        self.default = Script()
        self.models: tuple[str, ...] | None = ("scripted",)
        self.calls: list[tuple[str, str]] = []
        self.asked: list[Body] = []  # bodies of the requests that created runs
        self.assistants: dict[str, Body] = {}
        self.threads: dict[str, ThreadState] = {}
        self.files: dict[str, tuple[Body, bytes]] = {}
        self.peers: set[object] = set()  # the client's end of every connection
        self.poll_after_ms: int | None = None
        self._port = port
        self._key = key
        self._ids = Ids()
        self._scripts: deque[Script] = deque()
        self._faults: list[Fault] = []
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._players: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    # --- for tests ---

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def runs(self) -> list[RunState]:
        return [run for thread in self.threads.values() for run in thread.runs]

    def script(self, *scripts: Script) -> None:
        self._scripts.extend(scripts)

    def fault(self, fault: Fault) -> None:
        self._faults.append(fault)

    def open(self, gate: str) -> None:
        self._gates[gate].set()

    def add_file(self, name: str, content: bytes, purpose: str = "assistants_output") -> str:
        body: Body = {
            "id": self._ids("file-"),
            "object": "file",
            "bytes": len(content),
            "created_at": state.now(),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self.files[body["id"]] = (body, content)
        return str(body["id"])

    def forget_thread(self, thread: str) -> None:
        del self.threads[thread]

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._gatekeeper], client_max_size=1 << 30)
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=4096, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for player in self._players:
            player.cancel()
        await asyncio.gather(*self._players, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    # --- every request ---

    @web.middleware
    async def _gatekeeper(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path.removeprefix("/v1")
        if path.startswith("/_control"):
            return await handler(request)
        self.calls.append((request.method, path))
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername"))
        if self._key is not None and request.headers.get("Authorization") != f"Bearer {self._key}":
            return error(401, "Incorrect API key provided.", code="invalid_api_key")
        fault = next(
            (f for f in self._faults if f.method == request.method and re.search(f.path, path)), None
        )
        if fault is None:
            return await handler(request)
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)
        if fault.after:
            request[QUIET] = True
            await handler(request)
        if fault.hang:
            await self._gates[fault.hang].wait()
        if fault.reset and request.transport is not None:
            request.transport.abort()
        return web.json_response(fault.body or {}, status=fault.status, headers=dict(fault.headers))

    def _routes(self) -> list[web.RouteDef]:
        thread, run = "/v1/threads/{thread}", "/v1/threads/{thread}/runs/{run}"
        return [
            web.get("/v1/models", self._list_models),
            web.get("/v1/assistants", self._list_assistants),
            web.post("/v1/assistants", self._create_assistant),
            web.post("/v1/threads", self._create_thread),
            web.get(thread + "/messages", self._list_messages),
            web.post(thread + "/runs", self._create_run),
            web.get(thread + "/runs", self._list_runs),
            web.get(run, self._get_run),
            web.post(run + "/cancel", self._cancel_run),
            web.post(run + "/submit_tool_outputs", self._submit),
            web.get(run + "/steps", self._list_steps),
            web.post("/v1/files", self._create_file),
            web.get("/v1/files/{file}", self._get_file),
            web.get("/v1/files/{file}/content", self._get_content),
            web.post("/_control/gate/{gate}", self._control_gate),
            web.post("/_control/default", self._control_default),
            web.get("/_control/stats", self._control_stats),
        ]

    # --- assistants, threads, messages ---

    async def _list_models(self, _: web.Request) -> web.Response:
        if self.models is None:
            return error(404, "Not found")
        return web.json_response(
            {"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]}
        )

    async def _list_assistants(self, request: web.Request) -> web.Response:
        return web.json_response(state.page(list(self.assistants.values()), request.query))

    async def _create_assistant(self, request: web.Request) -> web.Response:
        asked: Body = await request.json()
        body: Body = {
            "id": self._ids("asst_"),
            "object": "assistant",
            "created_at": state.now(),
            "name": None,
            "description": None,
            "instructions": None,
            "tools": [],
            "metadata": {},
        } | asked
        self.assistants[body["id"]] = body
        return web.json_response(body)

    async def _create_thread(self, request: web.Request) -> web.Response:
        asked: Body = await request.json()
        messages = asked.get("messages") or []
        if len(messages) > 32:
            return error(400, "Invalid 'messages': array too long. Expected an array with maximum length 32.")
        name = self._ids("thread_")
        body = {
            "id": name,
            "object": "thread",
            "created_at": state.now(),
            "metadata": asked.get("metadata") or {},
            "tool_resources": {},
        }
        self.threads[name] = ThreadState(body, [state.heard(self._ids, name, m) for m in messages])
        return web.json_response(body)

    def _thread(self, request: web.Request) -> ThreadState:
        name = request.match_info["thread"]
        if name not in self.threads:
            raise Refused(404, f"No thread found with id '{name}'.")
        return self.threads[name]

    def _run(self, request: web.Request) -> tuple[ThreadState, RunState]:
        thread = self._thread(request)
        name = request.match_info["run"]
        run = next((run for run in thread.runs if run.id == name), None)
        if run is None:
            raise Refused(404, f"No run found with id '{name}'.")
        return thread, run

    async def _list_messages(self, request: web.Request) -> web.Response:
        wanted = request.query.get("run_id")
        messages = [m for m in self._thread(request).messages if wanted is None or m["run_id"] == wanted]
        return web.json_response(state.page(messages, request.query))

    # --- runs ---

    async def _create_run(self, request: web.Request) -> web.StreamResponse:
        thread = self._thread(request)
        asked: Body = await request.json()
        if asked["assistant_id"] not in self.assistants:
            raise Refused(404, f"No assistant found with id '{asked['assistant_id']}'.")
        name = thread.body["id"]
        if thread.active is not None:
            raise Refused(400, f"Thread {name} already has an active run {thread.active.id}.")
        self.asked.append(asked)
        thread.messages += [state.heard(self._ids, name, m) for m in asked.get("additional_messages") or []]
        script = self._scripts.popleft() if self._scripts else self.default
        body = state.run(self._ids, name, self.assistants[asked["assistant_id"]], asked)
        run = RunState(body, script)
        thread.runs.append(run)
        if asked.get("stream") and not request.get(QUIET):
            return await self._stream(request, run, lambda: self._start(thread, run))
        self._start(thread, run)
        return web.json_response(body)

    def _start(self, thread: ThreadState, run: RunState) -> None:
        player = Player(self._ids, thread, run, lambda gate: self._gates[gate].wait())
        run.player = asyncio.create_task(player.play())
        self._players.add(run.player)
        run.player.add_done_callback(self._players.discard)

    async def _stream(
        self, request: web.Request, run: RunState, begin: Callable[[], None]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Request-Id": run.id})
        await response.prepare(request)
        await response.write(b": streaming\n\n")
        transport = request.transport

        def send(data: bytes) -> None:
            # Straight to the socket, one chunk a frame: `response.write` would cost a task switch each.
            if transport is not None and not transport.is_closing():
                transport.write(b"%x\r\n%b\r\n" % (len(data), data))

        def hang_up(clean: bool) -> None:
            run.sink = None
            if not clean and transport is not None:
                transport.abort()
            run.streamed.set()

        run.streamed.clear()
        run.sink, run.hang_up = send, hang_up
        begin()
        await run.streamed.wait()
        run.sink = None
        return response

    async def _list_runs(self, request: web.Request) -> web.Response:
        return web.json_response(state.page([run.body for run in self._thread(request).runs], request.query))

    async def _get_run(self, request: web.Request) -> web.Response:
        _, run = self._run(request)
        wait = {} if self.poll_after_ms is None else {"openai-poll-after-ms": str(self.poll_after_ms)}
        return web.json_response(run.body, headers=wait)

    async def _list_steps(self, request: web.Request) -> web.Response:
        _, run = self._run(request)
        return web.json_response(state.page(run.steps, request.query))

    async def _cancel_run(self, request: web.Request) -> web.Response:
        thread, run = self._run(request)
        if run.over:
            raise Refused(400, f"Cannot cancel run with status '{run.body['status']}'.")
        run.body["status"] = "cancelling"
        if run.player is not None:
            run.player.cancel()
        if run.script.cancel_gate:
            closing = asyncio.create_task(self._cancel_late(thread, run))
            self._players.add(closing)
            closing.add_done_callback(self._players.discard)
        else:
            self._end_cancelled(thread, run)
        return web.json_response(run.body)

    async def _cancel_late(self, thread: ThreadState, run: RunState) -> None:
        await self._gates[run.script.cancel_gate].wait()
        self._end_cancelled(thread, run)

    def _end_cancelled(self, thread: ThreadState, run: RunState) -> None:
        for message in thread.messages:
            if message["run_id"] == run.id and message["status"] == "in_progress":
                message |= {"status": "incomplete", "incomplete_details": {"reason": "run_cancelled"}}
        Player(self._ids, thread, run, lambda gate: self._gates[gate].wait()).end(End("cancelled"))

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        _, run = self._run(request)
        asked: Body = await request.json()
        if run.body["status"] != "requires_action":
            raise Refused(400, f'Runs in status "{run.body["status"]}" do not accept tool outputs.')
        expected = {c["id"] for c in run.body["required_action"]["submit_tool_outputs"]["tool_calls"]}
        run.given = {output["tool_call_id"]: output["output"] for output in asked["tool_outputs"]}
        if set(run.given) != expected:
            raise Refused(400, f"Expected tool outputs for call_ids {sorted(expected)}.")
        if asked.get("stream") and not request.get(QUIET):
            return await self._stream(request, run, run.outputs.set)
        run.body |= {"status": "queued"}
        run.outputs.set()
        return web.json_response(run.body)

    # --- files ---

    async def _create_file(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form["file"]
        if not isinstance(upload, web.FileField):
            raise Refused(400, "file is missing")
        name = self.add_file(upload.filename, upload.file.read(), str(form["purpose"]))
        return web.json_response(self.files[name][0])

    def _file(self, request: web.Request) -> tuple[Body, bytes]:
        name = request.match_info["file"]
        if name not in self.files:
            raise Refused(404, f"No such File object: {name}")
        return self.files[name]

    async def _get_file(self, request: web.Request) -> web.Response:
        return web.json_response(self._file(request)[0])

    async def _get_content(self, request: web.Request) -> web.Response:
        return web.Response(body=self._file(request)[1], content_type="application/octet-stream")

    # --- the same server in its own process ---

    async def _control_gate(self, request: web.Request) -> web.Response:
        self.open(request.match_info["gate"])
        return web.json_response({})

    async def _control_default(self, request: web.Request) -> web.Response:
        """Body: `reply`, `chunks`, `delay` of the echo."""
        self.default = Script(**await request.json())
        return web.json_response({})

    async def _control_stats(self, _: web.Request) -> web.Response:
        ended = sum(run.over for run in self.runs)
        return web.json_response({"runs": len(self.runs), "ended": ended, "calls": len(self.calls)})


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
