"""Files in and out of the console: what a person attaches is checked, what a model names is not trusted."""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import re
import unicodedata
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from bot.domain import Attachment
from bot.errors import Rejected

_CHUNK = 256 * 1024
_LONGEST_NAME = 120
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)  # Windows' devices


def attach(typed: str, most_bytes: int) -> Attachment:
    """Check the file that a person named; raises Rejected with what is wrong with it."""
    unquoted = typed[1:-1] if len(typed) > 1 and typed[0] == typed[-1] and typed[0] in "'\"" else typed
    try:
        path = Path(unquoted.replace("\\ ", " ")).expanduser().resolve()
        if not path.exists():
            raise Rejected(f"There is no file {path}: check the spelling.")
        if not path.is_file():
            raise Rejected(f"{path} is not a regular file: attach one file at a time.")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, RuntimeError, ValueError) as error:
        raise Rejected(f"The file cannot be read ({_reason(error)}): choose another one.") from error
    if size == 0:
        raise Rejected(f"{path.name} is empty: there is nothing to attach.")
    if size > most_bytes:
        raise Rejected(
            f"{path.name} has {_megabytes(size)}; at most {_megabytes(most_bytes)} can be attached."
        )
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Attachment(id=uuid.uuid4().hex, name=path.name, media_type=kind, size=size, url=path.as_uri())


async def read(attachment: Attachment, most_bytes: int) -> AsyncGenerator[bytes, None]:
    """Content of an attached file; raises Rejected when it is gone or grew since."""
    source = urlsplit(attachment.url)
    if source.scheme != "file" or source.netloc:
        raise Rejected(f"{attachment.name} was not attached here: use /attach FILE.")
    left = min(attachment.size or most_bytes, most_bytes)
    try:
        with await asyncio.to_thread(_open, Path(unquote(source.path))) as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise Rejected(f"{attachment.name} grew since it was attached: attach it again.")
                yield chunk
    except OSError as error:
        raise Rejected(f"{attachment.name} cannot be read ({_reason(error)}): attach it again.") from error


def _open(path: Path) -> BinaryIO:
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "it is gone")
    return path.open("rb")


def safe_name(name: str) -> str:
    """A name that is a plain file in whatever folder it is put: no path, no control or hidden characters."""
    name = re.split(r"[/\\]", name)[-1]
    name = "".join(one for one in name if unicodedata.category(one)[0] != "C" and one not in '<>:"|?*')
    name = name.strip(" .")
    if not name or _RESERVED.match(name):
        name = f"file-{name}".rstrip("-")
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > 16:
        stem, suffix = name, ""
    return f"{_cut(stem, _LONGEST_NAME)}{dot if suffix else ''}{suffix}"


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode(errors="ignore")


def save(folder: Path, name: str, content: bytes) -> Path:
    """Write a new file; never over one that is there. Raises Rejected when the folder cannot take it."""
    named = Path(safe_name(name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            path = folder / (named.name if number == 1 else f"{named.stem}-{number}{named.suffix}")
            try:
                with path.open("xb") as file:  # "x" does not follow a link that is there
                    file.write(content)
            except FileExistsError:
                continue
            return path
    except OSError as error:
        raise Rejected(f"{named} cannot be saved in {folder} ({_reason(error)}).") from error
    raise Rejected(f"{folder} holds too many files called {named}: clear it.")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"
