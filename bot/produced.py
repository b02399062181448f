"""Files that a run made, on their way from the engine into the thread; each once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

import structlog

from bot.delivery import Delivery
from bot.domain import FileProduced, Upload
from bot.errors import Ambiguous, Rejected, Retryable
from bot.ports import Clock, Engine, Outlet
from bot.record import Record

_log = structlog.get_logger()
BACKOFF_SECONDS = (0.5, 1, 2, 4, 8, 15)
MEBIBYTE = 1024 * 1024

TOO_LARGE = "_I made {}, but it is larger than the {} MB that can be sent here._"
NOT_FETCHED = "_I made {}, but could not get it from the engine; please ask for it again._"
REFUSED = "_I made {}, but could not send it. {}_"


class ProducedFiles:
    def __init__(
        self, *, engine: Engine, outlet: Outlet, record: Record, delivery: Delivery, clock: Clock
    ) -> None:
        self._engine = engine
        self._outlet = outlet
        self._record = record
        self._delivery = delivery
        self._clock = clock

    async def send(self, files: Sequence[FileProduced]) -> list[str]:
        """Upload what is not there yet; returns a sentence for each file that cannot be sent."""
        problems = []
        for file in files:
            if any(upload.file == file.id for upload in self._record.turn.uploads):
                continue
            try:
                content = await self._fetch(file)
                await self._delivery.insist(partial(self._upload, file, content))
            except Rejected as error:
                _log.warning("file.not_sent", thread=str(self._record.turn.thread), reason=error.user_text)
                problems.append(error.user_text)
                await self._note(file, "")
        return problems

    async def _fetch(self, file: FileProduced) -> bytes:
        limit = self._outlet.limits.upload_bytes
        for wait in (*BACKOFF_SECONDS, None):
            content = bytearray()
            try:
                async with aclosing(self._engine.download(file.id)) as chunks:
                    async for chunk in chunks:
                        content += chunk
                        if len(content) > limit:
                            raise Rejected(TOO_LARGE.format(file.name, limit // MEBIBYTE))
                return bytes(content)
            except (Retryable, Ambiguous) as error:
                if wait is None:
                    raise Rejected(NOT_FETCHED.format(file.name)) from error
                await self._clock.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _upload(self, file: FileProduced, content: bytes) -> None:
        await self._record.held()
        try:
            upload = await self._outlet.upload(self._record.turn, file.name, file.media_type, content)
        except Ambiguous:
            upload = ""  # it is there, or it is lost; twice would be worse
        except Rejected as error:
            raise Rejected(REFUSED.format(file.name, error.user_text)) from error
        await self._note(file, upload)

    async def _note(self, file: FileProduced, upload: str) -> None:
        await self._record.change(uploads=(*self._record.turn.uploads, Upload(file.id, upload)))
