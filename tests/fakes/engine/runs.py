"""Routes of runs: start, stream, look, cancel, give outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from tests.fakes.engine import state
from tests.fakes.engine.answers import Refused
from tests.fakes.engine.house import House
from tests.fakes.engine.player import Player
from tests.fakes.engine.script import End
from tests.fakes.engine.state import Body, RunState, ThreadState

QUIET = web.RequestKey("quiet", bool)
"""Process the request, but do not stream: its answer is replaced by a fault."""


class Runs:
    """A run goes on without its connection, as the vendor's do."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._players: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        thread, run = "/v1/threads/{thread}", "/v1/threads/{thread}/runs/{run}"
        return [
            web.post(thread + "/runs", self._create_run),
            web.get(thread + "/runs", self._list_runs),
            web.get(run, self._get_run),
            web.post(run + "/cancel", self._cancel_run),
            web.post(run + "/submit_tool_outputs", self._submit),
            web.get(run + "/steps", self._list_steps),
        ]

    async def stop(self) -> None:
        for player in self._players:
            player.cancel()
        await asyncio.gather(*self._players, return_exceptions=True)

    # --- runs ---

    async def _create_run(self, request: web.Request) -> web.StreamResponse:
        thread = self._house.thread_of(request)
        asked: Body = await request.json()
        if asked["assistant_id"] not in self._house.assistants:
            raise Refused(404, f"No assistant found with id '{asked['assistant_id']}'.")
        name = thread.body["id"]
        if thread.active is not None:
            raise Refused(400, f"Thread {name} already has an active run {thread.active.id}.")
        self._house.asked.append(asked)
        thread.messages += [
            state.heard(self._house.ids, name, m) for m in asked.get("additional_messages") or []
        ]
        script = self._house.scripts.popleft() if self._house.scripts else self._house.default
        body = state.run(self._house.ids, name, self._house.assistants[asked["assistant_id"]], asked)
        run = RunState(body, script)
        thread.runs.append(run)
        if asked.get("stream") and not request.get(QUIET):
            return await self._stream(request, run, lambda: self._start(thread, run))
        self._start(thread, run)
        return web.json_response(body)

    def _start(self, thread: ThreadState, run: RunState) -> None:
        player = Player(self._house.ids, thread, run, self._house.pass_gate)
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
        return web.json_response(
            state.page([run.body for run in self._house.thread_of(request).runs], request.query)
        )

    async def _get_run(self, request: web.Request) -> web.Response:
        _, run = self._house.run_of(request)
        wait = (
            {}
            if self._house.poll_after_ms is None
            else {"openai-poll-after-ms": str(self._house.poll_after_ms)}
        )
        return web.json_response(run.body, headers=wait)

    async def _list_steps(self, request: web.Request) -> web.Response:
        _, run = self._house.run_of(request)
        return web.json_response(state.page(run.steps, request.query))

    async def _cancel_run(self, request: web.Request) -> web.Response:
        thread, run = self._house.run_of(request)
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
        await self._house.pass_gate(run.script.cancel_gate)
        self._end_cancelled(thread, run)

    def _end_cancelled(self, thread: ThreadState, run: RunState) -> None:
        for message in thread.messages:
            if message["run_id"] == run.id and message["status"] == "in_progress":
                message |= {"status": "incomplete", "incomplete_details": {"reason": "run_cancelled"}}
        Player(self._house.ids, thread, run, self._house.pass_gate).end(End("cancelled"))

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        _, run = self._house.run_of(request)
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
