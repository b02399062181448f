"""A chat-completions server on a real loopback socket that plays a script, and breaks where the script says so.

Each request takes the next script; without one it says "ok". What the client sent is in `requests`.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A piece of a tool call; `id` and `name` belong to the first piece. `index` None: the server tells none."""

    index: int | None
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Says nothing more until `release`, or until the client goes away."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection breaks in the middle of the body."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    reason: str = "stop"
    usage: tuple[int, int] | None = (7, 3)


@dataclass(frozen=True, slots=True)
class Refuse:
    status: int
    message: str = "no"
    retry_after: str | None = None


Step = Say | Call | Hold | Cut | Raw | End | Refuse


@dataclass(slots=True)
class ChatModel:
    scripts: deque[Sequence[Step]] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """A client went away while the script held."""
    always: Sequence[Step] = (Say("ok"), End())

    def will(self, *steps: Step) -> None:
        """Plays these on the next request not yet scripted."""
        self.scripts.append(steps)

    def release(self) -> None:
        self.released.set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["ChatModel", None]:
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            try:
                yield self
            finally:
                self.released.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if head.startswith("GET"):
                await _answer(writer, 200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})
                return
            length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
            self.requests.append(json.loads(await reader.readexactly(int(length.split(":")[1]))))
            await self._play(self.scripts.popleft() if self.scripts else self.always, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _play(
        self, script: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if script and isinstance(script[0], Refuse):
            refusal = script[0]
            error = {"error": {"message": refusal.message, "type": "x", "param": None, "code": None}}
            await _answer(writer, refusal.status, error, retry_after=refusal.retry_after)
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        for step in script:
            match step:
                case Hold():
                    await writer.drain()
                    await self._hold(reader)
                case Cut():
                    await writer.drain()
                    writer.transport.abort()
                    return
                case Raw(data):
                    _chunk(writer, data)
                case _:
                    for payload in _payloads(step):
                        _chunk(writer, f"data: {json.dumps(payload)}\n\n".encode())
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _hold(self, reader: asyncio.StreamReader) -> None:
        gone = asyncio.ensure_future(reader.read())
        released = asyncio.ensure_future(self.released.wait())
        try:
            await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.hung_up.set()
                raise ConnectionError
        finally:
            gone.cancel()
            released.cancel()


def _payloads(step: Step) -> list[dict[str, Any]]:
    match step:
        case Say(text):
            return [_completion({"content": text})]
        case Call(index, arguments, call_id, name):
            function = {"arguments": arguments} | ({"name": name} if name else {})
            call: dict[str, Any] = {"function": function} | ({"index": index} if index is not None else {})
            if call_id:
                call |= {"id": call_id, "type": "function"}
            return [_completion({"tool_calls": [call]})]
        case End(reason, usage):
            ends = [_completion({}, reason)]
            if usage is not None:
                prompt, completion = usage
                told = {
                    "prompt_tokens": prompt,
                    "completion_tokens": completion,
                    "total_tokens": prompt + completion,
                }
                ends.append(_completion(None) | {"usage": told})
            return ends
        case _:
            raise AssertionError(step)


def _completion(delta: dict[str, Any] | None, reason: str | None = None) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": choices}


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def _answer(
    writer: asyncio.StreamWriter, status: int, body: object, *, retry_after: str | None = None
) -> None:
    data = json.dumps(body).encode()
    wait = f"retry-after: {retry_after}\r\n" if retry_after else ""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{wait}content-length: {len(data)}\r\n"
    writer.write(f"{head}connection: close\r\n\r\n".encode() + data)
    await writer.drain()
