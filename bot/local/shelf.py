"""The bytes of files, under the data folder. All disk work happens on threads."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1024 * 1024


class Shelf:
    """A file is written aside and then renamed, so whatever has its final name is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Blocking. Clears what a dead process left half-written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob("*.part"):
            leftover.unlink()

    async def put(self, file_id: str, source: BinaryIO) -> int:
        """Returns the size in bytes."""
        return await asyncio.to_thread(self._put, file_id, source)

    async def read(self, file_id: str) -> AsyncGenerator[bytes, None]:
        with await asyncio.to_thread((self._folder / file_id).open, "rb") as file:
            while data := await asyncio.to_thread(file.read, _CHUNK):
                yield data

    async def remove(self, file_id: str) -> None:
        await asyncio.to_thread((self._folder / file_id).unlink, missing_ok=True)

    def clear_orphans(self, known: set[str]) -> int:
        """Blocking. Removes whole files that no record knows: the process died between the two writes."""
        orphans = [path for path in self._folder.iterdir() if path.name not in known]
        for path in orphans:
            path.unlink()
        return len(orphans)

    def _put(self, file_id: str, source: BinaryIO) -> int:
        aside = self._folder / f"{file_id}.part"
        try:
            with aside.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
            aside.replace(self._folder / file_id)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return size
