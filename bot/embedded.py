"""The Assistants API of this data folder, served by whichever process was there first.

Everybody talks to one unix socket. The process that holds the folder's lock serves it; when that process dies,
another one that is waiting takes over and serves the same data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from bot.local.errors import DataFolderBusy, LocalApiError
from bot.local.server import LocalApi, serve

_log = structlog.get_logger()
TURN_SECONDS = 0.5  # how often a waiting process looks whether the serving one is gone


@asynccontextmanager
async def embedded_api(api: Callable[[], LocalApi], socket: Path) -> AsyncIterator[None]:
    """Serve the API on the socket, now or as soon as nobody else does; it answers from the start."""
    serving = AsyncExitStack()

    async def try_to_serve() -> bool:
        try:
            await serving.enter_async_context(serve(api(), uds=socket))
        except DataFolderBusy:
            return False
        _log.info("local_api.serving", socket=str(socket))
        return True

    async def wait_to_serve() -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS)
            try:
                if await try_to_serve():
                    return
            except LocalApiError as error:
                _log.error("local_api.cannot_serve", reason=str(error))

    async with serving:
        if await try_to_serve():
            yield
            return
        waiting = asyncio.create_task(wait_to_serve(), name="wait to serve the local API")
        try:
            yield
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})
