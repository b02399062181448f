"""Counts what a Redis is asked, by MONITOR: the one place that tells a client's command from a script's."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

from tests.redis_servers import Server


class Eavesdropper:
    """`sent` and `inside` are right once it is left."""

    def __init__(self, server: Server) -> None:
        self.sent = self.inside = 0
        is_path = isinstance(server.address, str)
        self._connection = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET)
        self._connection.connect(server.address)
        self._connection.sendall(b"MONITOR\r\n")
        assert self._connection.recv(5) == b"+OK\r\n"
        self._listening = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._listening.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)
        self._listening.join()
        self._connection.close()

    def _listen(self) -> None:
        with self._connection.makefile("rb") as lines:
            for line in lines:
                if b" lua] " in line:
                    self.inside += 1
                elif line.startswith(b"+"):
                    self.sent += 1
