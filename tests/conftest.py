"""What every test may use: real Redis servers, started when first asked for, and the guard on the network."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import network_guard, redis_servers
from tests.redis_servers import SentinelSetup, Server


def pytest_configure() -> None:
    """Guard this process and every Python process that a test starts."""
    network_guard.install()
    folder = str(Path(__file__).parent / "guard")
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if folder not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, known)])


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name; gone afterwards, with any embedded server in it."""
    with tempfile.TemporaryDirectory(prefix="tb", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        for file in Path(folder).rglob("server.pid"):  # left by a test that failed or killed its last user
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.fixture(scope="session")
def _shared_server() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="tb", ignore_cleanup_errors=True) as folder,
        redis_servers.standalone(Path(folder)) as server,
    ):
        yield server


@pytest.fixture
def redis_url(_shared_server: Server) -> str:
    """An empty Redis: one server for each test process, flushed for each test."""
    _shared_server.start()
    _shared_server.command("FLUSHALL")
    return _shared_server.url


@pytest.fixture
def redis_faults(short_path: Path) -> Iterator[Server]:
    """A Redis of this test alone, to be killed, frozen and started again on the same data."""
    with redis_servers.standalone(short_path) as server:
        yield server


@pytest.fixture
def redis_cluster(short_path: Path) -> Iterator[Server]:
    """A cluster of one node; also to be killed and started again."""
    with redis_servers.cluster(short_path) as server:
        yield server


@pytest.fixture
def redis_sentinel(short_path: Path) -> Iterator[SentinelSetup]:
    """A primary and the Sentinel that knows where it is."""
    with redis_servers.sentinel(short_path) as setup:
        yield setup
