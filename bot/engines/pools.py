"""HTTP connections for thousands of streams at once.

An httpx2 pool looks at all of its connections whenever a request begins or ends, so a request costs in proportion to
the open streams. Many small pools keep that flat.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2

_POOL = 32  # streams a pool carries before the next one is used
_KEPT = 8  # pools that keep idle connections; the others serve peaks and let go of theirs at once


class Pools(httpx2.AsyncBaseTransport):
    """Sends each request through the first pool with room, so a quiet house uses one pool and reuses its connections."""

    def __init__(self, connections: int, *, tls: bool, uds: Path | None = None) -> None:
        # Loading the trust store takes 80 ms; without it a context trusts nobody.
        verify = httpx2.create_ssl_context() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._pools = [
            httpx2.AsyncHTTPTransport(
                verify=verify,
                limits=httpx2.Limits(
                    max_connections=_POOL,
                    max_keepalive_connections=_POOL if n < _KEPT else 0,
                    keepalive_expiry=30.0,
                ),
                uds=None if uds is None else str(uds),
            )
            for n in range(-(-connections // _POOL))
        ]
        self.busy = [0] * len(self._pools)  # requests under way, by pool

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # When all are full, the first one makes it wait for a connection, at most the pool time-out.
        index = next((n for n, busy in enumerate(self.busy) if busy < _POOL), 0)
        self.busy[index] += 1
        try:
            response = await self._pools[index].handle_async_request(request)
        except BaseException:
            self.busy[index] -= 1
            raise
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Counted(response.stream, lambda: self._leave(index))
        return response

    def _leave(self, index: int) -> None:
        self.busy[index] -= 1

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, leave: Callable[[], None]) -> None:
        self._stream = stream
        self._leave: Callable[[], None] | None = leave

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            leave, self._leave = self._leave, None
            if leave is not None:
                leave()
