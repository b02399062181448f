"""`python -m tests.fakes.engine --port N [--reply TEXT] [--chunks N] [--delay SECONDS]`"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from tests.fakes.engine import Script, ScriptedEngine


async def serve(port: int, script: Script) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with ScriptedEngine(port=port) as server:
        server.default = script
        print(server.base_url, flush=True)  # noqa: T201 - whoever started this process reads where it listens
        await stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--reply")
    parser.add_argument("--chunks", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.0)
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(args.port, Script(reply=args.reply, chunks=args.chunks, delay=args.delay)))
