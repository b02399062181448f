"""Real servers for tests: one process each, killed and started again at will on the same data."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bot.redis_server import server_binary

PATIENCE_SECONDS = 20.0


@dataclass
class Server:
    """A server program in a folder of its own. Every method returns when it is so: answering, or gone."""

    folder: Path
    url: str
    address: tuple[str, int] | str  # TCP or the path of a unix socket
    arguments: tuple[str, ...]
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        if self._process is not None:
            return
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [server_binary(), *self.arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "server.log").read_text())
            time.sleep(0.005)

    def kill(self) -> None:
        """kill -9: what it had not written is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """kill -9, then the same data again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """It takes connections and answers nobody, until `thaw`."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Run one command without any client; returns the raw reply as far as it came at once."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(self.address)
            connection.sendall(request.encode())
            return connection.recv(65536)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False

    def _end(self, sign: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)  # a frozen one would never hear SIGTERM
        self._process.send_signal(sign)
        self._process.wait(PATIENCE_SECONDS)
        self._process = None


PERSISTENT = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--loglevel", "warning")


@contextmanager
def standalone(folder: Path) -> Iterator[Server]:
    """One server on a unix socket, persistent as the embedded one."""
    path = str(folder / "s.sock")
    arguments = ("--dir", str(folder), "--port", "0", "--unixsocket", path, *PERSISTENT)
    with _running(Server(folder, f"unix://{path}", path, arguments)) as server:
        yield server


@contextmanager
def tcp(folder: Path, *more: str) -> Iterator[Server]:
    """One server on a TCP port; `more` are further arguments, e.g. "--requirepass", "secret"."""
    port = free_port()
    arguments = ("--dir", str(folder), "--bind", "127.0.0.1", "--port", str(port), *PERSISTENT, *more)
    with _running(
        Server(folder, f"redis://127.0.0.1:{port}/0", ("127.0.0.1", port), arguments, port)
    ) as server:
        yield server


@contextmanager
def cluster(folder: Path) -> Iterator[Server]:
    """A cluster of one node that serves all slots: it refuses keys of different slots as any cluster does."""
    with tcp(
        folder,
        "--cluster-enabled",
        "yes",
        "--cluster-announce-ip",
        "127.0.0.1",
        "--cluster-port",
        str(free_port()),
    ) as server:
        server.url = server.url.replace("redis://", "redis+cluster://").removesuffix("/0")
        server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"cluster_state:ok" not in server.command("CLUSTER", "INFO"):
            assert time.monotonic() < deadline, "the cluster never came up"
            time.sleep(0.005)
        yield server


@dataclass(frozen=True)
class SentinelSetup:
    url: str
    primary: Server
    sentinel: Server


@contextmanager
def sentinel(folder: Path) -> Iterator[SentinelSetup]:
    """One primary, called `main`, and one Sentinel that watches it (the quorum is one)."""
    data, watch = folder / "primary", folder / "sentinel"
    data.mkdir()
    watch.mkdir()
    with tcp(data) as primary:
        port = free_port()
        config = watch / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {watch}\n"
            f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds main 1000\n"
        )
        watcher = Server(watch, f"redis://127.0.0.1:{port}", ("127.0.0.1", port), (str(config), "--sentinel"))
        with _running(watcher):
            yield SentinelSetup(f"redis+sentinel://127.0.0.1:{port}/main/0", primary, watcher)


def free_port() -> int:
    """Free a moment ago; another process could take it, which shows as a server that does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()
