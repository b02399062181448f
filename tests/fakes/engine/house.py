"""What the scripted server holds, and what a test may do with it."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

from aiohttp import web

from tests.fakes.engine import state
from tests.fakes.engine.answers import Refused
from tests.fakes.engine.script import Fault, Script
from tests.fakes.engine.state import Body, Ids, RunState, ThreadState


class House:
    """`script()` queues what the next runs do, one each; `default` plays when no script waits.

    `calls` lists (method, path) of every request, oldest first. `models` is what the models endpoint lists; None:
    there is no such endpoint.
    """

    def __init__(self) -> None:
        self.default = Script()
        self.models: tuple[str, ...] | None = ("scripted",)
        self.calls: list[tuple[str, str]] = []
        self.asked: list[Body] = []  # bodies of the requests that created runs
        self.assistants: dict[str, Body] = {}
        self.threads: dict[str, ThreadState] = {}
        self.files: dict[str, tuple[Body, bytes]] = {}
        self.peers: set[object] = set()  # the client's end of every connection
        self.poll_after_ms: int | None = None
        self.scripts: deque[Script] = deque()
        self.faults: list[Fault] = []
        self.gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.ids = Ids()

    @property
    def runs(self) -> list[RunState]:
        return [run for thread in self.threads.values() for run in thread.runs]

    def script(self, *scripts: Script) -> None:
        self.scripts.extend(scripts)

    def fault(self, fault: Fault) -> None:
        self.faults.append(fault)

    def open(self, gate: str) -> None:
        self.gates[gate].set()

    def add_file(self, name: str, content: bytes, purpose: str = "assistants_output") -> str:
        body: Body = {
            "id": self.ids("file-"),
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

    async def pass_gate(self, gate: str) -> None:
        await self.gates[gate].wait()

    def thread_of(self, request: web.Request) -> ThreadState:
        name = request.match_info["thread"]
        if name not in self.threads:
            raise Refused(404, f"No thread found with id '{name}'.")
        return self.threads[name]

    def run_of(self, request: web.Request) -> tuple[ThreadState, RunState]:
        thread = self.thread_of(request)
        name = request.match_info["run"]
        run = next((run for run in thread.runs if run.id == name), None)
        if run is None:
            raise Refused(404, f"No run found with id '{name}'.")
        return thread, run
