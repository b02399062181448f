"""The Assistants v2 API at home: an ASGI app, and a way to serve it inside a running event loop."""

import asyncio
import contextlib
import fcntl
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from bot.local.border import Border, is_local_name, on_http_error, on_invalid_request
from bot.local.brain import DEFAULT_MODEL, Brain
from bot.local.chat_brain import ChatBrain
from bot.local.errors import DataFolderBusy, LocalApiError, UnsafeBind
from bot.local.house import House
from bot.local.offline_brain import OfflineBrain
from bot.local.routes_assistants import assistants, models
from bot.local.routes_files import files
from bot.local.routes_runs import runs, steps
from bot.local.routes_threads import messages, threads
from bot.local.runner import Runner
from bot.local.shelf import Shelf
from bot.local.store import Store

_GRACE_SECONDS = 2
_HALF_GIB = 512 * 1024 * 1024


class LocalApi:
    """`app` opens everything in its lifespan; constructing does no work.

    `model_url` is an OpenAI-compatible chat-completions base URL; without one, and without `brain`, the offline
    brain answers. `keys` are the bearer keys accepted; none means that everybody who can connect may.
    """

    def __init__(
        self,
        *,
        data: Path,
        model: str | None = None,
        model_url: str | None = None,
        model_key: str | None = None,
        keys: frozenset[str] = frozenset(),
        run_seconds: float = 600,
        max_upload_bytes: int = _HALF_GIB,
        brain: Brain | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = keys
        self._data = data
        if brain is None and model_url:
            brain = ChatBrain(url=model_url, key=model_key, model=model, seconds=run_seconds)
        self._brain: Brain = brain or OfflineBrain()
        self._store = Store(data / "local-api.sqlite")
        self._shelf = Shelf(data / "local-api-files")
        self._runner = Runner(store=self._store, brain=self._brain, run_seconds=run_seconds, clock=clock)
        house = House(self._store, self._runner, self._brain, self._shelf, model or DEFAULT_MODEL)
        self.app = self._application(house, max_upload_bytes)

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncGenerator[None, None]:
        """Raises DataFolderBusy when another process serves this folder."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(await asyncio.to_thread(_lock, self._data))
            await asyncio.to_thread(self._shelf.open)
            await self._store.open()
            stack.push_async_callback(self._store.close)
            stack.push_async_callback(self._brain.close)
            await self._shelve()
            await self._runner.open()
            stack.push_async_callback(self._runner.close)
            stack.push_async_callback(self.drain)
            yield

    async def drain(self) -> None:
        """Ends the runs at work, and with them their streams; what they said so far is kept."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._runner.drain()

    async def _shelve(self) -> None:
        known = await self._store.read(lambda tx: {file["id"] for file in tx.all("file")})
        await asyncio.to_thread(self._shelf.clear_orphans, known)

    def _application(self, house: House, max_upload_bytes: int) -> FastAPI:
        app = FastAPI(
            title="Threadbot local Assistants API",
            summary="The Assistants v2 protocol, for any OpenAI-compatible model.",
            lifespan=self.lifespan,
            exception_handlers={
                HTTPException: on_http_error,
                RequestValidationError: on_invalid_request,
            },
            redirect_slashes=False,
        )
        v1 = APIRouter(prefix="/v1")
        # `/threads/runs` comes before `/threads/{thread_id}`, which would take it for an id.
        for routes in (runs(house), assistants(house), threads(house), messages(house), steps(house)):
            v1.include_router(routes)
        v1.include_router(files(house, max_upload_bytes=max_upload_bytes))
        v1.include_router(models(house))
        app.include_router(v1)
        app.add_middleware(Border, keys=self.keys, max_upload_bytes=max_upload_bytes)
        return app


@asynccontextmanager
async def serve(
    api: LocalApi, *, host: str | None = None, port: int | None = None, uds: Path | None = None
) -> AsyncGenerator[str, None]:
    """Serves in the running loop and yields the base URL, once connections are accepted.

    Either `uds` or `host` and `port` (0: any free one). Takes over no signals. On the way out it ends the runs at
    work and is gone within a few seconds, open streams or not.
    """
    if uds is None:
        _refuse_open_door(host or "127.0.0.1", api.keys)
    async with api.lifespan():  # its lock first: a second server must not take the socket of the first
        listener = _listen_on_path(uds) if uds is not None else _listen_on(host or "127.0.0.1", port or 0)
        config = uvicorn.Config(
            api.app,
            lifespan="off",  # ours is open already: uvicorn answers a failing one with sys.exit
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=75,  # longer than any client's pool keeps a connection
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        serving.add_done_callback(lambda _: server.ready.set())  # also when it never came up
        try:
            await server.ready.wait()
            if serving.done():
                await serving
            yield "http://local/v1" if uds is not None else _url(listener)
        finally:
            await api.drain()
            server.should_exit = True
            await serving
            if uds is not None:
                uds.unlink(missing_ok=True)  # noqa: ASYNC240  one name, at the very end


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to whoever runs the loop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _refuse_open_door(host: str, keys: frozenset[str]) -> None:
    if not keys and not is_local_name(host):
        raise UnsafeBind(
            f"Refusing to listen on {host} without a key: set an API key, or listen on 127.0.0.1."
        )


def _listen_on(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        raise LocalApiError(f"Cannot listen on {host}:{port}: {exc.strerror or exc}.") from exc


def _listen_on_path(path: Path) -> socket.socket:
    """Only our own user may connect. A socket left by a dead process is replaced; the data folder's lock guards
    against a living one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
    except OSError as exc:
        listener.close()
        raise LocalApiError(f"Cannot listen on {path}: {exc.strerror or exc}.") from exc
    path.chmod(0o600)
    listener.listen(2048)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


@contextlib.contextmanager
def _holding(lock: TextIO) -> Generator[None, None, None]:
    with lock:
        yield


def _lock(data: Path) -> contextlib.AbstractContextManager[None]:
    """Blocking. Held until the process dies or the context ends, whichever is first."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds conversations
        lock = (data / "local-api.lock").open("a")
    except OSError as exc:
        raise LocalApiError(f"Cannot use the data folder {data}: {exc.strerror or exc}.") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        lock.close()
        raise DataFolderBusy(f"Another process already serves the data folder {data}.") from exc
    return _holding(lock)
