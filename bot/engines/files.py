"""Files on the engine's server: what people sent goes up, what the assistant made comes down."""

from __future__ import annotations

import mimetypes
import tempfile
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from openai import AsyncOpenAI

from bot.domain import EngineFile, Event, FileProduced, Text
from bot.engines.errors import translated
from bot.engines.inputs import is_image
from bot.errors import ThreadbotError

_IN_MEMORY = 1 << 20  # bytes of an upload before it goes to a temporary file
_NAMES = 1024


class Files:
    def __init__(self, client: AsyncOpenAI) -> None:
        self._files = client.files
        self._streaming = client.files.with_streaming_response
        self._names: OrderedDict[str, str] = OrderedDict()

    async def upload(self, name: str, media_type: str, content: AsyncIterator[bytes]) -> EngineFile:
        purpose = "vision" if is_image(media_type) else "assistants"
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
            async for chunk in content:
                spool.write(chunk)
            spool.seek(0)
            with translated():
                # Twice is once: an upload whose answer was lost leaves a file nobody names.
                made = await self._files.create(file=(name, spool, media_type), purpose=purpose)  # type: ignore[arg-type]
        return EngineFile(made.id, name, media_type)

    async def download(self, file: str) -> AsyncGenerator[bytes, None]:
        with translated():
            async with self._streaming.content(file) as response:
                async for chunk in response.iter_bytes():
                    yield chunk

    async def named(self, event: Event) -> Event:
        """The event with the names of its files, where the vendor told only ids."""
        match event:
            case FileProduced(id=file, name=""):
                name = await self._name(file)
                return replace(event, name=name, media_type=mimetypes.guess_type(name)[0] or "")
            case Text(citations=citations) if any(not c.name for c in citations):
                named = [c if c.name else replace(c, name=await self._name(c.file)) for c in citations]
                return replace(event, citations=tuple(named))
        return event

    async def _name(self, file: str) -> str:
        """Empty when the server will not tell: a name is worth no failed answer."""
        if (known := self._names.get(file)) is not None:
            return known
        try:
            with translated():
                name = (await self._files.retrieve(file)).filename or ""
        except ThreadbotError:
            return ""
        self._names[file] = name
        if len(self._names) > _NAMES:
            self._names.popitem(last=False)
        return name
