"""The composition root: settings in, running parts out. Nobody imports it but the command line.

Platforms and engines are imported when they are used, so that a Slack-only install never imports discord, and a
worker whose engine is elsewhere never imports the local one.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from bot.assistants import Switchboard, load
from bot.bells import Bells
from bot.clock import SystemClock
from bot.conversation import Conversation
from bot.errors import Misconfigured, Retryable, ThreadbotError
from bot.mailbox import RedisMailroom
from bot.places import private_folder, socket_path
from bot.platforms import heard, platforms_of
from bot.ports import Engine, Mailroom, Outlet
from bot.redis_client import check as check_redis
from bot.redis_client import connect
from bot.redis_server import embedded_redis
from bot.redis_url import RedisUrl
from bot.settings import Settings
from bot.store import Store
from bot.worker import Worker

if TYPE_CHECKING:
    from bot.local.server import LocalApi

_log = structlog.get_logger()

LAST_WORDS_SECONDS = 2.0  # for a turn to end whose answer the user has seen

# --- the ways to run it --------------------------------------------------------------------------------------------


async def run(settings: Settings, *, hear: Sequence[str] | None, work: bool) -> None:
    """Run the gateways named in `hear` (None: all that are configured) and a worker, until cancelled.

    Raises Misconfigured or Retryable, with sentences for the operator, when something is missing at the start.
    """
    switchboard = load(settings.config, model=settings.model)
    platforms = platforms_of(settings, hearing=hear is None or len(hear) > 0)
    gateways = heard(platforms, hear)
    async with AsyncExitStack() as house:
        for platform in platforms.values():
            house.push_async_callback(platform.outlet.close)
        redis_url = await _redis(settings, house)
        with _reaching(f"Redis at {redis_url}", "start it, or correct REDIS_URL"):
            facts = await check_redis(redis_url)
        if not facts.appends or facts.eviction != "noeviction":
            _log.warning(
                "redis.may_forget", server=facts.server, appendonly=facts.appends, eviction=facts.eviction
            )
        for name, platform in platforms.items():
            with _reaching(name.capitalize(), f"check the network, or {name.upper()}_API_URL"):
                await platform.check()
        engine = await house.enter_async_context(_engine(settings)) if work else None
        outlets = {name: platform.outlet for name, platform in platforms.items()}
        mailroom, worker = await house.enter_async_context(_core(redis_url, switchboard, engine, outlets))
        _leave_alone_what_stays()
        async with _leaving_together() as parts:
            if worker is not None:
                parts.create_task(worker.run(), name="worker")
            for name, gateway in gateways.items():
                parts.create_task(gateway.run(mailroom), name=f"{name} gateway")
            routes = [route for name in gateways for route in platforms[name].routes]
            if gateways and (routes or "http" in settings.model_fields_set):
                from bot.http import serve_http

                parts.create_task(serve_http(settings.http, gateways, routes), name="http")


async def demo(settings: Settings) -> None:
    """The console on embedded parts only, whatever else is configured; returns when its user leaves."""
    from adapters.console import ConsoleGateway, ConsoleOutlet

    outlet = ConsoleOutlet(sys.stdout, settings.data / "downloads")
    gateway = ConsoleGateway(sys.stdin, outlet)
    switchboard = load(settings.config, model=settings.model)
    async with AsyncExitStack() as house:
        folder = house.enter_context(_folder_of_our_own(settings.data))
        url = RedisUrl.parse((await house.enter_async_context(embedded_redis(folder))).url)
        async with connect(url) as redis:
            await redis.flushall()  # a conversation in a terminal ends with it
        engine = await house.enter_async_context(_embedded_engine(settings))
        mailroom, worker = await house.enter_async_context(
            _core(url, switchboard, engine, {"console": outlet})
        )
        assert worker is not None
        async with _leaving_together() as parts:
            working = parts.create_task(worker.run(), name="worker")
            await gateway.run(mailroom)
            with suppress(TimeoutError):
                await asyncio.wait_for(worker.idle(), LAST_WORDS_SECONDS)
            working.cancel()


async def local_api(
    settings: Settings, *, host: str, port: int, keys: frozenset[str], say: Callable[[str], None]
) -> None:
    """The Assistants API alone, until cancelled."""
    from bot.local.errors import LocalApiError
    from bot.local.server import serve

    try:
        async with serve(_api(settings, keys), host=host, port=port) as url:
            say(f"Assistants API at {url}")
            await asyncio.Event().wait()
    except LocalApiError as error:
        raise Misconfigured(str(error)) from error


# --- parts ---------------------------------------------------------------------------------------------------------


async def _redis(settings: Settings, house: AsyncExitStack) -> RedisUrl:
    if settings.redis_url is not None:
        return settings.redis_url
    return RedisUrl.parse((await house.enter_async_context(embedded_redis(settings.data))).url)


@asynccontextmanager
async def _core(
    redis_url: RedisUrl, switchboard: Switchboard, engine: Engine | None, outlets: Mapping[str, Outlet]
) -> AsyncIterator[tuple[Mailroom, Worker | None]]:
    """What is the same for every platform: the mailroom, and with an engine the worker."""
    clock = SystemClock()
    async with connect(redis_url) as redis, Bells(redis_url.for_docket()) as bells:
        mailroom = partial(
            RedisMailroom,
            redis,
            follows=lambda thread: switchboard.channel(thread).follow == "thread",
        )
        if engine is None:
            yield mailroom(ring=bells.ring), None
            return
        conversation = Conversation(
            engine=engine,
            outlets=outlets,
            assistant_for=lambda thread, private: switchboard.assistant_for(thread, private=private),
            clock=clock,
        )
        worker = Worker(redis=redis, store=Store(redis), bells=bells, conversation=conversation, clock=clock)
        yield mailroom(ring=worker.announce), worker


@asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[Engine]:
    """The engine the settings name, checked."""
    server = settings.assistants_server()
    if server is None:
        async with _embedded_engine(settings) as embedded:
            yield embedded
        return
    from bot.engines.assistants import AssistantsEngine

    key = settings.openai_api_key
    engine = AssistantsEngine(
        base_url=server, api_key=key.get_secret_value() if key else "none", model=settings.model
    )
    try:
        with _reaching(f"The Assistants server at {server}", "start it, or correct OPENAI_BASE_URL"):
            await engine.check()
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def _embedded_engine(settings: Settings) -> AsyncIterator[Engine]:
    from bot.embedded import embedded_api
    from bot.engines.assistants import AssistantsEngine

    socket = socket_path(private_folder(settings.data, "local-api"), "api.sock")
    async with embedded_api(lambda: _api(settings, frozenset()), socket):
        engine = AssistantsEngine(
            base_url="http://local/v1", api_key="local", uds=socket, model=settings.model
        )
        try:
            yield engine
        finally:
            await engine.close()


def _api(settings: Settings, keys: frozenset[str]) -> LocalApi:
    from bot.local.server import LocalApi

    key = settings.model_key
    return LocalApi(
        data=private_folder(settings.data, "local-api"),
        model=settings.model,
        model_url=settings.model_url,
        model_key=key.get_secret_value() if key else None,
        keys=keys,
    )


@contextmanager
def _folder_of_our_own(data: Path) -> Iterator[Path]:
    """A folder no other demo uses now: terminals must not answer each other's questions."""
    for number in itertools.count(1):
        folder = data / f"demo-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield folder
            return


@contextmanager
def _reaching(what: str, fix: str) -> Iterator[None]:
    """Says at the start, in a sentence, what cannot be reached; later the parts wait for it by themselves."""
    try:
        yield
    except Retryable as error:
        raise Retryable(f"{what} cannot be reached ({error}): {fix}.") from error


def _leave_alone_what_stays() -> None:
    """Everything imported and composed stays for good: the garbage collector need not look at it again.

    Nor at every 700 new objects: one turn makes thousands, and nearly all of them go without it. A quarter of a
    turn's CPU went into looking.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@asynccontextmanager
async def _leaving_together() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup whose first failure is raised as itself, not wrapped: it is a sentence for the operator."""
    try:
        async with asyncio.TaskGroup() as parts:
            yield parts
    except* ThreadbotError as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from failures
