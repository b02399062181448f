"""A TCP relay on loopback between a client and any server, that breaks connections when told to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class WireCutter:
    """`async with WireCutter(upstream_url) as wire:` and dial `wire.url`."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._clients: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self._swallow = False

    @property
    def url(self) -> str:
        return urlunsplit(self._upstream._replace(netloc=f"127.0.0.1:{self._port}"))

    def cut(self) -> None:
        """Reset every connection there is. New ones work."""
        for client in self._clients:
            client.transport.abort()

    def swallow_next_answer(self) -> None:
        """The next bytes of an answer never arrive: the connection is reset instead."""
        self._swallow = True

    async def down(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.close()
        self.cut()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        self._clients.add(writer)
        try:
            with contextlib.suppress(OSError):
                await self._relay(reader, writer)
        except asyncio.CancelledError:
            pass  # asyncio's server logs a cancelled handler as an error; we are its only owner
        finally:
            self._clients.discard(writer)
            self._relays.discard(task)
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._upstream.hostname, self._upstream.port
        up_reader, up_writer = await asyncio.open_connection(host, port)
        up = asyncio.create_task(self._pump(reader, up_writer))
        try:
            while data := await up_reader.read(65536):
                if self._swallow:
                    self._swallow = False
                    return
                writer.write(data)
                await writer.drain()
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            up_writer.transport.abort()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
