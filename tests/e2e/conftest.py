"""Houses for the scenarios, and the logs of their processes below every test that fails."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.house import LIVING, House, homestead, housed

LOG_CHARACTERS = 6_000  # of each process, the newest


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name; gone afterwards, with any embedded server in it."""
    with tempfile.TemporaryDirectory(prefix="tb", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        for file in Path(folder).rglob("server.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def empty_house(short_folder: Path) -> AsyncIterator[House]:
    """Redis, Slack and the engine, for all tests of a module; no process of the bot yet."""
    async with housed(short_folder) as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_house(empty_house: House) -> House:
    """One gateway and two workers, for all tests of a module."""
    return await empty_house.staff()


@pytest_asyncio.fixture(loop_scope="module")
async def house(running_house: House) -> House:
    """The running house, without what the test before left switched on."""
    running_house.reset()
    return running_house


@pytest.fixture
def nobody(empty_house: House) -> House:
    """The house without a single process of the bot."""
    empty_house.dismiss()
    empty_house.reset()
    return empty_house


@pytest.fixture
async def home(short_path: Path) -> AsyncIterator[House]:
    """Slack alone: the bot brings everything else."""
    async with homestead(short_path) as house:
        yield house


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for house in LIVING:
            report.sections.append(("Slack", house.slack.describe()))
            for program in house.programs:
                log = program.log.read_text(errors="replace")[-LOG_CHARACTERS:]
                report.sections.append((f"log of {program.name}", log))
    return report
