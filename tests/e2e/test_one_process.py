"""`threadbot run` alone: its own Redis, its own Assistants API, the brain that needs no model."""

from __future__ import annotations

import time

import pytest

from tests.e2e.house import House
from tests.e2e.programs import Program
from tests.fakes.chat_model import ChatModel, End, Hold, Say


async def running(home: House, **more: str) -> Program:
    program = home.start("run", "--log-level", "debug", **more)
    await program.logged("worker.started")
    await program.logged("slack.socket_open", open=2)
    return program


async def test_a_mention_is_answered_with_nothing_configured_but_slack(home: House) -> None:
    bot = await running(home)
    root = home.mention("is anybody there?")
    await home.answered(root, "is anybody there?")
    await home.settled()
    assert len(home.texts(root)) == 1
    asked_at = time.monotonic()
    bot.ask_to_end()
    assert await bot.ended() == 0
    assert time.monotonic() - asked_at < 4
    assert "Traceback" not in bot.log.read_text()


@pytest.mark.parametrize("how", ["SIGTERM", "kill -9"])
async def test_what_was_said_is_known_after_a_restart(home: House, how: str) -> None:
    bot = await running(home)
    root = home.mention("my favourite number is 41")
    await home.answered(root, "41")
    await end(bot, how)
    home.say("what did I say first?", root)  # while nobody hears
    await running(home)
    await home.answered(root, "The first was")
    texts = home.texts(root)
    assert len(texts) == 2
    assert "favourite number is 41" in texts[1]


@pytest.mark.parametrize("how", ["SIGTERM", "kill -9"])
async def test_an_answer_that_was_cut_off_is_whole_after_a_restart(home: House, how: str) -> None:
    words = [f"word{number} " for number in range(40)]
    async with ChatModel().running() as model:
        model.will(*map(Say, words[:20]), Hold())
        model.will(*map(Say, words), End())
        settings = {"THREADBOT_MODEL_URL": model.url, "THREADBOT_MODEL": "tiny"}
        bot = await running(home, **settings)
        root = home.mention("count to forty")
        await home.growing(root, "word5")
        await end(bot, how)
        await running(home, **settings)
        await home.answered(root, "word39", timeout=30)
        await home.settled()
        assert [text.strip() for text in home.texts(root)] == ["".join(words).strip()]


async def end(bot: Program, how: str) -> None:
    if how == "SIGTERM":
        bot.ask_to_end()
        assert await bot.ended() == 0
        assert "Traceback" not in bot.log.read_text()
    else:
        bot.kill()
