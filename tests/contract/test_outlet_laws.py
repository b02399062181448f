"""Every outlet keeps the laws, and the laws catch outlets that do not."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from adapters.console import ConsoleOutlet
from adapters.slack.outlet import SlackOutlet
from bot.domain import Author, Message, Post, Stage, ThreadKey, Turn
from bot.ports import Outlet
from tests.contract import outlet_contract as laws
from tests.contract.outlet_contract import LAWS, Law, World
from tests.contract.slack_kit import asked
from tests.fakes.slack import SlackServer

Worlds = Callable[[Path], AbstractAsyncContextManager[World]]


class SlackWorld:
    remote = True

    def __init__(self, slack: SlackServer, make: Callable[..., SlackOutlet] = SlackOutlet) -> None:
        self._slack = slack
        self._make = make
        self.outlet: Outlet = self.another()

    def turn(self) -> Turn:
        return asked(self._slack)

    def another(self) -> Outlet:
        return self._make(bot_token=self._slack.bot_token, api_url=self._slack.api_url)

    def texts(self, turn: Turn) -> list[str]:
        return self._slack.texts(turn.thread.channel, turn.thread.root)

    def files(self, turn: Turn) -> list[bytes]:
        said = self._slack.replies(turn.thread.channel, turn.thread.root)
        return [self._slack.workspace.files[file].content for message in said for file in message.files]

    def cut_next_open(self) -> None:
        self._slack.faults.clear()
        self._slack.faults.add("chat.[sp]*[me]", "drop_after", times=1)  # startStream, postMessage

    def go_away(self) -> None:
        self._slack.faults.add("*", "503")


class ConsoleWorld:
    remote = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stdout = io.StringIO()
        self._count = 0
        self.outlet: Outlet = self.another()

    def turn(self) -> Turn:
        self._count += 1
        thread = ThreadKey("console", "local", "terminal", str(self._count))
        return Turn(str(self._count), thread, (Message(str(self._count), thread, Author("you"), "hello"),))

    def another(self) -> Outlet:
        return ConsoleOutlet(self._stdout, self._folder)

    def texts(self, turn: Turn) -> list[str]:
        """A line for each post: the texts of these laws have one line."""
        return self._stdout.getvalue().splitlines()

    def files(self, turn: Turn) -> list[bytes]:
        return [file.read_bytes() for file in self._folder.iterdir()]

    def cut_next_open(self) -> None:
        raise NotImplementedError("printing is never in doubt")

    def go_away(self) -> None:
        self._stdout.close()


@asynccontextmanager
async def on_slack(_: Path, make: Callable[..., SlackOutlet] = SlackOutlet) -> AsyncIterator[World]:
    async with SlackServer() as slack:
        world = SlackWorld(slack, make)
        try:
            yield world
        finally:
            await world.outlet.close()


@asynccontextmanager
async def on_console(folder: Path) -> AsyncIterator[World]:
    world = ConsoleWorld(folder)
    yield world
    await world.outlet.close()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("world", [on_slack, on_console], ids=["slack", "console"])
async def test_an_outlet_keeps_the_law(world: Worlds, law: Law, tmp_path: Path) -> None:
    async with world(tmp_path) as platform:
        await law(platform)


class AppendsOnly(SlackOutlet):
    """Takes every text for a continuation."""

    async def edit(self, turn: Turn, post: Post, text: str, stage: Stage) -> Post:
        shown = getattr(self, "_last", "")
        self._last = shown + text
        return await super().edit(turn, post, self._last, stage)


class NeverFinds(SlackOutlet):
    async def find(self, turn: Turn) -> tuple[Post, ...]:
        return ()


class PostsAgain(SlackOutlet):
    """Edits what it opened itself, and answers anew what another process began."""

    async def open(self, turn: Turn, text: str, stage: Stage) -> Post:
        post = await super().open(turn, text, stage)
        self._mine = {*getattr(self, "_mine", ()), post.id}
        return post

    async def edit(self, turn: Turn, post: Post, text: str, stage: Stage) -> Post:
        if post.id in getattr(self, "_mine", ()):
            return await super().edit(turn, post, text, stage)
        return await self.open(turn, text, stage)


class Truncates(SlackOutlet):
    async def edit(self, turn: Turn, post: Post, text: str, stage: Stage) -> Post:
        return await super().edit(turn, post, text[:4000], stage)


class FindsEverything(SlackOutlet):
    async def find(self, turn: Turn) -> tuple[Post, ...]:
        return (*await super().find(turn), Post("1.0"))


@pytest.mark.parametrize(
    ("mutant", "law"),
    [
        (AppendsOnly, laws.a_growing_text_is_shown_as_it_is),
        (NeverFinds, laws.a_post_whose_answer_got_lost_is_found),
        (PostsAgain, laws.another_process_goes_on_in_the_same_post),
        (Truncates, laws.the_longest_post_is_shown_whole),
        (FindsEverything, laws.posts_of_another_turn_are_not_found),
    ],
    ids=lambda part: part.__name__,
)
async def test_a_broken_outlet_breaks_a_law(mutant: type[SlackOutlet], law: Law, tmp_path: Path) -> None:
    async with on_slack(tmp_path, mutant) as platform:
        with pytest.raises((AssertionError, ValueError)):
            await law(platform)
