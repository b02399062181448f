"""The HTTP side of a gateway process: health, and what platforms post to us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from bot.errors import Misconfigured
from bot.ports import Gateway
from bot.settings import Address

_log = structlog.get_logger()
GRACE_SECONDS = 1


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals belong to the command line


async def serve_http(address: Address, gateways: Mapping[str, Gateway], routes: Sequence[BaseRoute]) -> None:
    """Serve until cancelled. Raises Misconfigured when the address cannot be listened on."""

    async def health(_: Request) -> JSONResponse:
        parts = {name: gateway.healthy() for name, gateway in gateways.items()}
        return JSONResponse(parts, status_code=200 if all(parts.values()) else 503)

    app = Starlette(routes=[Route("/healthz", health), *routes])
    listener = _listen(address)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    _log.info("http.listening", address=str(Address(*listener.getsockname()[:2])))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait({serving})


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=512)
    except OSError as error:
        raise Misconfigured(
            f"THREADBOT_HTTP is {address}, where nothing can listen ({error.strerror}): name another host:port."
        ) from error
