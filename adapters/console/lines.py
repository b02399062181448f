"""What a person types, or a pipe brings, without ever blocking the event loop."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import AsyncGenerator
from typing import TextIO

_CHUNK = 65536


class Lines:
    """Entries of an input stream. The stream's own settings are never touched, so a terminal stays as it was.

    On a terminal, lines that follow each other within `paste_seconds` were pasted and are one entry; elsewhere
    each line is one. A stream without a file descriptor that can be watched (a file, a buffer) is read in a
    thread. Nothing is read ahead of what is asked for.
    """

    def __init__(self, stream: TextIO, *, paste_seconds: float) -> None:
        self._stream = stream
        self._paste_seconds = paste_seconds
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._buffer = ""
        self.typed = stream.isatty()

    async def entries(self) -> AsyncGenerator[str, None]:
        """Each without its last line end; ends where the input ends."""
        while await self._more(None):
            if self.typed:
                while "\n" in self._buffer and await self._more(self._paste_seconds):
                    pass
                pasted, line_end, self._buffer = self._buffer.rpartition("\n")
                if line_end:
                    yield pasted
            else:
                *lines, self._buffer = self._buffer.split("\n")
                for line in lines:
                    yield line
        if self._buffer:
            yield self._buffer

    async def _more(self, seconds: float | None) -> bool:
        """Add what has arrived to the buffer; False at the end of input, or when nothing came within the time."""
        try:
            async with asyncio.timeout(seconds):
                arrived = await self._read()
        except TimeoutError:
            return False
        self._buffer += arrived.replace("\r\n", "\n")
        return bool(arrived)

    async def _read(self) -> str:
        """Some text; none at the end of input."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError):
            return await asyncio.to_thread(self._stream.readline)
        arrived = ""
        while not arrived:
            if not await _readable(descriptor):
                return await asyncio.to_thread(self._stream.readline)
            try:
                chunk = os.read(descriptor, _CHUNK)
            except OSError:  # the terminal was hung up
                chunk = b""
            arrived = self._decoder.decode(chunk, final=not chunk)
            if not chunk:
                return arrived
        return arrived


async def _readable(descriptor: int) -> bool:
    """Wait until it can be read without blocking; False when the loop cannot watch it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except (OSError, NotImplementedError):  # epoll refuses regular files, which never block for long
        return False
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return True
