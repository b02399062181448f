"""How the bench talks to its hosts: one JSON object a line, over the host's standard input and output.

A host is a fake in a process of its own, so that what it costs is not counted as ours. Times are monotonic seconds,
which all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

Body = dict[str, Any]
Deed = Callable[..., Awaitable[Body]]

QUESTION = re.compile(r"q\d{6}")  # names one message of a person, in what they say and in what is answered
FIRST, LAST = "①", "∎"  # the first and the last token of every answer


async def obey(deeds: Mapping[str, Deed], hello: Body) -> None:
    """Do what the bench asks for until it hangs up."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _answer(hello)
    async for line in reader:
        asked = json.loads(line)
        _answer(await deeds[asked.pop("do")](**asked))


def _answer(body: Body) -> None:
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()


class Host:
    """A host as the bench sees it. `hello` is what it said when it was ready."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.hello = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, do: str, **more: Any) -> Body:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Body:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a fake died; its reason is above")
        answer: Body = json.loads(line)
        return answer
