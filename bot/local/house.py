"""What the routes share, and the answers they have in common."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bot.local.brain import Brain
from bot.local.live import LiveRun
from bot.local.requests import PageQuery
from bot.local.runner import Runner
from bot.local.shelf import Shelf
from bot.local.store import Store
from bot.local.tx import Kind, Tx
from bot.local.wire import Body, json_response


@dataclass(frozen=True, slots=True)
class Under:
    """Where a list belongs; without it, 404."""

    kind: Kind
    id: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class House:
    store: Store
    runner: Runner
    brain: Brain
    shelf: Shelf
    default_model: str

    async def read_page(
        self,
        kind: Kind,
        query: PageQuery,
        *,
        parent: str = "",
        under: Under | None = None,
        tag: str | None = None,
        live: LiveRun | None = None,
    ) -> Response:
        """A list. `under` must exist for it; `live` is asked for newer states."""
        page = query.page()

        def read(tx: Tx) -> tuple[list[Body], bool]:
            if under is not None:
                tx.need(under.kind, under.id, parent=under.parent)
            return tx.page(kind, page, parent=parent, tag=tag)

        bodies, more = await self.store.read(read)
        if live is not None:
            bodies = [live.current(body["id"]) or body for body in bodies]
        return json_response(
            {
                "object": "list",
                "data": bodies,
                "first_id": bodies[0]["id"] if bodies else None,
                "last_id": bodies[-1]["id"] if bodies else None,
                "has_more": more,
            }
        )


class EventStream(Response):
    """Server-sent events. A client that goes away ends this response and nothing else."""

    def __init__(self, frames: AsyncGenerator[bytes, None]) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
        )
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with aclosing(self._frames) as frames:
                async for data in frames:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:  # the client is gone (ASGI spec 2.4: send raises it)
            return
