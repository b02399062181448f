"""What the tests of the local API share: a served API, its SDK client, and strict checks of what it says."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from openai import AsyncOpenAI
from pydantic import BaseModel, TypeAdapter

from bot.local.server import LocalApi, serve
from bot.local.wire import Body

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """`raw` speaks plain HTTP, to see what the SDK would hide."""

    url: str
    client: AsyncOpenAI
    raw: httpx2.AsyncClient

    async def assistant(self, **fields: Any) -> str:
        return (await self.client.beta.assistants.create(**({"model": "tiny"} | fields))).id

    async def thread(self, *texts: str) -> str:
        thread = await self.client.beta.threads.create(
            messages=[{"role": "user", "content": text} for text in texts]
        )
        return thread.id

    async def json(self, method: str, path: str, body: object = None, *, status: int = 200) -> Body:
        response = await self.raw.request(method, path, json=body)
        assert response.status_code == status, response.text
        payload: Body = response.json()
        return payload

    async def run_status(self, thread: str, run: str) -> str:
        return (await self.client.beta.threads.runs.retrieve(run, thread_id=thread)).status


@asynccontextmanager
async def serving(data: Path, **options: Any) -> AsyncGenerator[Served, None]:
    async with (
        serve(LocalApi(data=data, **options), host="127.0.0.1", port=0) as url,
        connected(url) as served,
    ):
        yield served


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Served, None]:
    async with (
        AsyncOpenAI(base_url=url, api_key="test", max_retries=0) as client,
        httpx2.AsyncClient(base_url=url, timeout=20) as raw,
    ):
        yield Served(url, client, raw)


def strict(kind: type[BaseModel], payload: Body) -> Body:
    """Exactly the SDK's type, with no field left out."""
    TypeAdapter(kind).validate_python(payload, strict=True)
    missing = kind.model_fields.keys() - payload.keys()
    assert not missing, f"{kind.__name__} without {missing}"
    return payload


async def eventually(
    probe: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], *, seconds: float = 20
) -> T:
    """Asks until the answer is as wanted."""
    async with asyncio.timeout(seconds):
        while not wanted(answer := await probe()):
            await asyncio.sleep(0.01)
        return answer
