"""Where this machine's processes meet: folders only their user may enter, and sockets whose paths are short enough."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from bot.errors import Misconfigured

SOCKET_PATH_BYTES = 100  # sun_path holds 104 bytes on macOS, 108 on Linux (unix(7))


def private_folder(data: Path, name: str) -> Path:
    """A folder of the data folder, made when it is not there; absolute. Raises Misconfigured."""
    folder = data.absolute() / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.resolve()
    except OSError as error:
        raise _unusable(data, error) from error


def socket_path(folder: Path, name: str) -> Path:
    """In the folder, or, where that path is too long for a socket, in one of this user's in the temporary folder."""
    socket = folder / name
    if len(os.fsencode(socket)) <= SOCKET_PATH_BYTES:
        return socket
    try:
        return _private_temp(folder) / name
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(data: Path, error: OSError) -> Misconfigured:
    return Misconfigured(
        f"The data folder {data} cannot be used ({error.strerror}): set THREADBOT_DATA to a folder that this user may "
        "write."
    )


def _private_temp(folder: Path) -> Path:
    """A short folder that stands for a long one: the same for every process of this user, nobody else's."""
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"threadbot-{os.getuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    facts = short.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise Misconfigured(
            f"{short} is not private to this user: remove it, or set THREADBOT_DATA to a shorter path."
        )
    return short
