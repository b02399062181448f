"""The command line. Exit codes: 0 done, 1 something could not be reached or failed, 2 something has to be set right."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from bot import app as house
from bot.errors import Misconfigured, ThreadbotError
from bot.log import configure
from bot.settings import Settings, load_settings

LAST_SECONDS = 8.0  # of a process that was asked to end

cli = typer.Typer(
    name="threadbot",
    help="An assistant for Slack that anyone can host.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
manifest = typer.Typer(help="What to paste into a platform's settings.", no_args_is_help=True)
cli.add_typer(manifest, name="manifest")

LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error")]


@cli.command()
def demo(log_level: LogLevel = "error") -> None:
    """Talk to the bot in this terminal: everything embedded, no account, no key."""
    settings = _begin(log_level)
    _run(house.demo(settings))


@cli.command()
def run(log_level: LogLevel = "info") -> None:
    """Hear every configured platform, and answer, in one process."""
    settings = _begin(log_level)
    _run(house.run(settings, hear=None, work=True))


@cli.command()
def gateway(
    platforms: Annotated[
        list[str] | None, typer.Argument(help="slack; default: every configured one")
    ] = None,
    log_level: LogLevel = "info",
) -> None:
    """Hear platforms and store what they say; workers answer."""
    settings = _begin(log_level)
    _run(house.run(settings, hear=platforms or None, work=False))


@cli.command()
def worker(log_level: LogLevel = "info") -> None:
    """Answer what gateways stored. Start as many as you like."""
    settings = _begin(log_level)
    _run(house.run(settings, hear=(), work=True))


@cli.command("local-api")
def local_api(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0: any free one")] = 8787,
    key: Annotated[list[str] | None, typer.Option(help="bearer key to accept; repeat for more")] = None,
    log_level: LogLevel = "info",
) -> None:
    """Serve the Assistants API alone, for any OpenAI SDK: OPENAI_BASE_URL=http://HOST:PORT/v1."""
    settings = _begin(log_level)
    _run(house.local_api(settings, host=host, port=port, keys=frozenset(key or ()), say=typer.echo))


@manifest.command("slack")
def manifest_slack(
    request_url: Annotated[
        str | None, typer.Option(help="https://…/slack/events, to use HTTP instead of Socket Mode")
    ] = None,
) -> None:
    """Print the Slack app manifest: api.slack.com/apps, Create New App, From a manifest."""
    from adapters.slack.manifest import manifest as slack_manifest

    typer.echo(json.dumps(slack_manifest(request_url=request_url), indent=2))


def main() -> NoReturn:
    try:
        cli()
    except Misconfigured as error:
        _fail(2, *error.problems)
    except ThreadbotError as error:
        _fail(1, str(error))
    sys.exit(0)


def _begin(log_level: str) -> Settings:
    configure(log_level)
    return load_settings()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Until it ends, or SIGTERM or SIGINT ask it to end well; a second signal ends it at once."""
    with suppress(asyncio.CancelledError):
        asyncio.run(_until_signal(work))


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()

    def end() -> None:
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(sign)
        task.cancel()
        # What is to be handed over is so within a second. After that only a peer that hangs can hold us up.
        loop.call_later(LAST_SECONDS, os._exit, 1)

    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, end)
    await task


def _fail(code: int, *sentences: str) -> NoReturn:
    for sentence in sentences:
        typer.echo(f"threadbot: {sentence}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
