"""A run while this process works on it: its open objects in memory, and the stream that listens, if any."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from bot.local.endings import EXPIRED, Ending
from bot.local.objects import text
from bot.local.wire import DONE, KEEP_ALIVE, Body, frame, text_delta, text_delta_head

KEEP_ALIVE_SECONDS = 15.0
_FLUSH_BYTES = 65536


class Outbox:
    """Frames for one listening client, handed over in bunches: what piled up meanwhile is one write."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, data: bytes) -> None:
        self._frames.append(data)
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def bunches(self) -> AsyncGenerator[bytes, None]:
        while True:
            if self._frames:
                data, self._frames = b"".join(self._frames), []
                for start in range(0, len(data), _FLUSH_BYTES):
                    yield data[start : start + _FLUSH_BYTES]
                continue
            if self._closed:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                yield KEEP_ALIVE


@dataclass(slots=True)
class OpenMessage:
    """An answer being written. `pieces` is its text; nothing else changes per delta."""

    body: Body
    step: Body
    head: str
    pieces: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return bool(self.body["status"] == "in_progress")

    def current(self) -> Body:
        return self.body | {"content": [text("".join(self.pieces))]}


@dataclass(slots=True)
class LiveRun:
    """`verdict` says how the run ends when its time scope is cut short; by itself it cuts at expiry.

    `spent` is the token usage of the whole run, `spent_now` of this call of the model.
    `settling`: the model is through and the outcome is being stored; it counts once it is.
    """

    run: Body
    scope: asyncio.Timeout
    outbox: Outbox | None
    spent: Body | None = None
    spent_now: Body | None = None
    message: OpenMessage | None = None
    tools: Body | None = None
    verdict: Ending = EXPIRED
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False
    thinking: bool = False
    settling: bool = False

    def stop(self, verdict: Ending) -> None:
        """The model call is cancelled at once; the run's own task then ends the run with `verdict`."""
        self.verdict = verdict
        self.stopped = True
        if self.thinking and not self.scope.expired():
            self.scope.reschedule(asyncio.get_running_loop().time())

    def current(self, object_id: str) -> Body | None:
        """The newest state of one of the run's objects; None when it is not in memory."""
        if object_id == self.run["id"]:
            return self.run
        if self.message is not None:
            if object_id == self.message.body["id"]:
                return self.message.current()
            if object_id == self.message.step["id"]:
                return self.message.step
        if self.tools is not None and object_id == self.tools["id"]:
            return self.tools
        return None

    def tell(self, event: str, data: Body) -> None:
        if self.outbox is not None:
            self.outbox.put(frame(event, data))

    def tell_run(self) -> None:
        self.tell(f"thread.run.{self.run['status']}", self.run)

    def say(self, piece: str) -> None:
        """A text delta of the open message. The hot path: no JSON but of the piece, nothing for nobody."""
        assert self.message is not None
        self.message.pieces.append(piece)
        if self.outbox is not None:
            self.outbox.put(text_delta(self.message.head, piece))

    def open_message(self, body: Body, step: Body) -> None:
        self.message = OpenMessage(body, step, text_delta_head(body["id"]))

    def close(self) -> None:
        """Nothing more will be told."""
        if self.outbox is not None:
            self.outbox.put(DONE)
            self.outbox.close()
        self.ended.set()
