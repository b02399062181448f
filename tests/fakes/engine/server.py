"""The scripted server: as much of Assistants v2 as the engine speaks, with state, scripts and faults.

It listens on loopback in the test's own loop, so a test can open gates and look at the state directly;
`python -m tests.fakes.engine` runs the same server alone, with the gates behind `POST /_control/gate/NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import web

from tests.fakes.engine.answers import error
from tests.fakes.engine.house import House
from tests.fakes.engine.runs import QUIET, Runs
from tests.fakes.engine.script import Script
from tests.fakes.engine.shelf import Shelf

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedEngine(House):
    """`async with ScriptedEngine() as server:` listens. `key`: the only key accepted."""

    def __init__(self, *, port: int = 0, key: str | None = None) -> None:
        super().__init__()
        self._port = port
        self._key = key
        self._served_runs = Runs(self)
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._gatekeeper], client_max_size=1 << 30)
        app.add_routes([*self._served_runs.routes(), *Shelf(self).routes(), *self._control_routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=4096, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._served_runs.stop()
        if self._runner is not None:
            await self._runner.cleanup()

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
        fault = next((f for f in self.faults if f.method == request.method and re.search(f.path, path)), None)
        if fault is None:
            return await handler(request)
        fault.times -= 1
        if fault.times <= 0:
            self.faults.remove(fault)
        if fault.after:
            request[QUIET] = True
            await handler(request)
        if fault.hang:
            await self.pass_gate(fault.hang)
        if fault.reset and request.transport is not None:
            request.transport.abort()
        return web.json_response(fault.body or {}, status=fault.status, headers=dict(fault.headers))

    # --- the same server in its own process ---

    def _control_routes(self) -> list[web.RouteDef]:
        return [
            web.post("/_control/gate/{gate}", self._control_gate),
            web.post("/_control/default", self._control_default),
            web.get("/_control/stats", self._control_stats),
        ]

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
