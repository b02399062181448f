"""Real processes of ours: started, watched through their logs, ended by signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 0.01
_INHERITED = ("PATH", "PYTHONPATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")

Event = dict[str, Any]


async def until(
    true: Callable[[], object],
    what: str,
    timeout: float = PATIENCE_SECONDS,  # noqa: ASYNC109 - a test's patience
) -> None:
    """For what other processes change: nothing in this one can tell."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        await asyncio.sleep(_POLL_SECONDS)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the developer's own settings; the guard on the network stays."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | dict(more)


class Program:
    """`python -m bot WORDS` in a folder of its own; everything it prints goes to `log`."""

    def __init__(self, words: tuple[str, ...], env: Mapping[str, str], folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bot", *words],
                env=environment(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def events(self, name: str = "") -> list[Event]:
        """Its log so far; with a name, only the events called so."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and name in ("", event.get("event")):
                found.append(event)
        return found

    async def logged(self, name: str, **fields: object) -> Event:
        """Its first event of this name with these fields, once it is there."""

        def found() -> list[Event]:
            assert self.alive, f"{self.name} ended with {self._process.returncode}"
            return [event for event in self.events(name) if fields.items() <= event.items()]

        await until(found, f"{self.name} logs {name} {fields or ''}")
        return found()[0]

    def kill(self) -> None:
        """kill -9: it gets to do nothing more."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)

    def ask_to_end(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def ended(self, timeout: float = PATIENCE_SECONDS) -> int:  # noqa: ASYNC109 - a test's patience
        """Its exit code."""
        await until(lambda: not self.alive, f"{self.name} ends", timeout)
        return self._process.wait()


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command that ended left behind."""

    code: int
    out: str
    err: str
    seconds: float


async def command(
    *words: str,
    folder: Path,
    env: Mapping[str, str],
    heard: str = "",
    timeout: float = 30.0,  # noqa: ASYNC109 - a test's patience
) -> Finished:
    """Run `python -m bot WORDS` to its end, with `heard` on its standard input."""
    began_at = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *words,
        env=environment(env), cwd=folder,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(heard.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode(), time.monotonic() - began_at)
