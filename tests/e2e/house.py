"""Everything around the bot's processes: a Slack, an engine and a Redis; and what a user sees of it all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self

from tests.e2e.programs import Event, Program
from tests.fakes.engine import Script, ScriptedEngine
from tests.fakes.slack import Message, SlackServer
from tests.redis_servers import Server, standalone

LIVING: list[House] = []
"""Houses of this process, for the report of a test that fails."""


class House:
    """The fakes live in this process's loop, Redis and the bot in processes of their own."""

    def __init__(
        self, slack: SlackServer, engine: ScriptedEngine, redis: Server | None, folder: Path
    ) -> None:
        self.slack = slack
        self.engine = engine
        self.folder = folder
        self.programs: list[Program] = []
        self.env = {
            **slack.env,
            "THREADBOT_DATA": str(folder / "data"),
            "THREADBOT_HTTP": "127.0.0.1:0",
        }
        if redis is not None:
            self.redis = redis
            self.env |= {
                "REDIS_URL": redis.url,
                "THREADBOT_ENGINE": "assistants",
                "OPENAI_BASE_URL": engine.base_url,
                "OPENAI_API_KEY": "any",
                "THREADBOT_MODEL": "scripted",
            }
        self._count = itertools.count(1)

    # --- processes -------------------------------------------------------------------------------------------------

    def start(self, *words: str, **more: str) -> Program:
        """A process that is starting."""
        program = Program(words, {**self.env, **more}, self.folder, f"{words[0]}-{next(self._count)}")
        self.programs.append(program)
        return program

    async def staff(self, workers: int = 2) -> Self:
        """A gateway and workers, all ready."""
        await asyncio.gather(self.gateway(), self.workers(workers))
        return self

    async def gateway(self, **more: str) -> Program:
        """A gateway that hears."""
        program = self.start("gateway", **more)
        await program.logged("slack.socket_open", open=2)
        return program

    async def worker(self, **more: str) -> Program:
        """A worker that listens."""
        program = self.start("worker", "--log-level", "debug", **more)
        await program.logged("worker.started")
        return program

    async def workers(self, count: int) -> list[Program]:
        return list(await asyncio.gather(*(self.worker() for _ in range(count))))

    @contextmanager
    def lived_in(self) -> Iterator[None]:
        """However it ends, no process of it stays."""
        LIVING.append(self)
        try:
            yield
        finally:
            LIVING.remove(self)
            self.dismiss()

    def dismiss(self) -> None:
        """kill -9 for every process; their logs are kept for the report."""
        for program in self.programs:
            program.kill()

    def logged(self, name: str) -> list[Event]:
        """Events of this name in all logs."""
        return [event for program in self.programs for event in program.events(name)]

    # --- people ----------------------------------------------------------------------------------------------------

    def mention(self, text: str, thread: str | None = None, channel: str = "") -> str:
        """Alice mentions the bot; the message's ts."""
        slack = self.slack
        return slack.say(channel or slack.general, slack.alice, f"<@{slack.bot_user_id}> {text}", thread)

    def say(self, text: str, thread: str | None = None, channel: str = "") -> str:
        """Alice says something without a mention."""
        return self.slack.say(channel or self.slack.general, self.slack.alice, text, thread)

    async def answered(
        self,
        root: str,
        containing: str = "",
        *,
        channel: str = "",
        timeout: float = 20.0,  # noqa: ASYNC109 - a test's patience
    ) -> Message:
        """The bot's reply with this text, once nothing in the thread moves any more."""
        return await self.slack.wait_for_reply(
            channel or self.slack.general, root, containing, timeout=timeout
        )

    async def growing(self, root: str, containing: str = "") -> Message:
        """The bot's reply with this text, as soon as somebody can see it."""
        return await self.slack.wait_for_reply(
            self.slack.general, root, containing, final=False, timeout=20.0
        )

    def texts(self, root: str, channel: str = "") -> list[str]:
        """What people read of the bot in the thread."""
        return self.slack.texts(channel or self.slack.general, root)

    async def settled(self) -> None:
        """Until Slack owes the bot nothing."""
        await self.slack.wait_for_delivery()

    # --- the engine ------------------------------------------------------------------------------------------------

    def heard(self) -> list[str]:
        """What the engine was told, run by run, in the order of the runs."""
        return [
            "\n".join(_text(message) for message in asked.get("additional_messages") or ())
            for asked in self.engine.asked
        ]

    def runs_about(self, words: str) -> int:
        return sum(words in told for told in self.heard())

    def reset(self) -> None:
        """Faults and switches of the test before are gone; what was said stays."""
        slack = self.slack
        slack.faults.clear()
        slack.duplicates = 0
        slack.refuse_sockets = slack.mention_first = slack.enforce_limits = False
        slack.stream_seconds = 300.0
        slack.calls.clear()
        slack.delivery.retries = 3
        self.engine.default = Script()
        self.engine.scripts.clear()
        self.engine.gates.clear()
        self.engine.faults.clear()
        self.engine.asked.clear()


@asynccontextmanager
async def housed(folder: Path) -> AsyncIterator[House]:
    """A house where nothing runs yet but Redis; everything started in it is killed at the end."""
    with standalone(folder) as redis:
        async with SlackServer() as slack, ScriptedEngine() as engine:
            house = House(slack, engine, redis, folder)
            with house.lived_in():
                yield house


@asynccontextmanager
async def homestead(folder: Path) -> AsyncIterator[House]:
    """A house with Slack only: the bot brings its own Redis and its own engine."""
    async with SlackServer() as slack, ScriptedEngine() as engine:
        house = House(slack, engine, None, folder)
        with house.lived_in():
            yield house


def _text(message: dict[str, object]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    assert isinstance(content, Sequence)
    return "".join(part["text"] for part in content if part["type"] == "text")
