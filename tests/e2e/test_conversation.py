"""What one person says to the bot, and what they read: a gateway and two workers, each a process."""

from __future__ import annotations

import random

import pytest

from bot.text import split
from tests.e2e.house import House
from tests.fakes.engine import Say, Script, Wait, said

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("mention_first", [False, True], ids=["message first", "mention first"])
async def test_both_envelopes_of_a_mention_get_one_answer(house: House, *, mention_first: bool) -> None:
    house.slack.mention_first = mention_first
    root = house.mention("why is the sky blue?")
    await house.answered(root)
    await house.settled()
    assert house.texts(root) == ["You said: alice: why is the sky blue?"]
    assert house.runs_about("sky") == 1


async def test_a_follow_up_needs_no_mention_and_goes_on_in_the_same_engine_thread(house: House) -> None:
    root = house.mention("remember 41")
    await house.answered(root, "41")
    house.say("and now add one", root)
    await house.answered(root, "add one")
    assert [text.removeprefix("You said: alice: ") for text in house.texts(root)] == [
        "remember 41",
        "and now add one",
    ]
    assert len({run.body["thread_id"] for run in house.engine.runs[-2:]}) == 1


async def test_what_nobody_asked_the_bot_is_not_answered(house: House) -> None:
    outside = house.say("we talk among ourselves")
    house.say("and in a thread", outside)
    root = house.mention("but this is for you")
    await house.answered(root)
    await house.settled()
    assert house.texts(outside) == []
    assert house.heard() == ["alice: but this is for you"]


async def test_every_top_level_line_of_a_direct_message_is_a_thread_of_its_own(house: House) -> None:
    dm = house.slack.dm(house.slack.alice)
    first, second = house.say("one", channel=dm), house.say("two", channel=dm)
    await house.answered(first, channel=dm)
    await house.answered(second, channel=dm)
    assert house.texts(first, dm) == ["You said: one"]
    assert house.texts(second, dm) == ["You said: two"]
    assert len({run.body["thread_id"] for run in house.engine.runs[-2:]}) == 2


async def test_a_burst_of_three_lines_is_answered_once_and_in_order(house: House) -> None:
    house.engine.default = Script(delay=0.1)  # an engine that thinks for a moment, as all do
    root = house.mention("first")
    for line in ("second", "third"):
        await house.settled()  # what is said at the same instant may arrive in any order
        house.say(line, root)
    await house.answered(root, "third")
    await house.settled()
    told = "\n".join(house.heard())
    assert told == "alice: first\nalice: second\nalice: third"
    assert len(house.heard()) == len(house.texts(root)) <= 2


async def test_what_is_said_during_a_run_is_answered_next_and_together(house: House) -> None:
    house.engine.script(Script((Say("thinking about it"), Wait("go on"), Say(", done"))))
    root = house.mention("a long question")
    await house.growing(root, "thinking")
    for line in ("one more thing", "and another"):
        house.say(line, root)
        await house.settled()
    assert house.runs_about("thing") == 0
    house.engine.open("go on")
    await house.answered(root, "another")
    assert house.texts(root) == ["thinking about it, done", "You said: alice: and another"]
    assert house.heard()[1] == "alice: one more thing\nalice: and another"


async def test_a_question_edited_while_it_waits_is_answered_as_edited(house: House) -> None:
    house.engine.script(Script((Say("busy"), Wait("edited"), Say("."))))
    root = house.mention("keep yourself busy")
    await house.growing(root, "busy")
    waiting = house.say("what is 1+1?", root)
    await house.settled()
    house.slack.edit(house.slack.general, waiting, "what is 2+2?")
    await house.settled()
    house.engine.open("edited")
    await house.answered(root, "2+2")
    assert house.texts(root) == ["busy.", "You said: alice: what is 2+2?"]


async def test_a_question_deleted_while_it_waits_is_not_answered(house: House) -> None:
    house.engine.script(Script((Say("busy"), Wait("deleted"), Say("."))))
    root = house.mention("keep yourself busy")
    await house.growing(root, "busy")
    regretted = house.say("forget that I said this", root)
    await house.settled()
    house.say("answer only that", root)
    await house.settled()
    house.slack.delete(house.slack.general, regretted)
    await house.settled()
    house.engine.open("deleted")
    await house.answered(root, "only that")
    assert house.texts(root) == ["busy.", "You said: alice: answer only that"]
    assert house.runs_about("forget") == 0


async def test_thirty_thousand_characters_with_fences_and_a_table_arrive_whole(house: House) -> None:
    answer = _long_answer(30_000)
    house.engine.script(Script(said(answer, chunks=120, delay=0.01)))
    root = house.mention("tell me everything")
    await house.answered(root, "the very end", timeout=40)
    assert house.texts(root) == split(answer, 11_000)


def _long_answer(length: int) -> str:
    """Prose, code and a table, in blocks a reader would notice to be missing."""
    chance = random.Random(30)
    blocks = []
    size = 0
    number = 0
    while size < length:
        number += 1
        words = " ".join(chance.choice(("alpha", "beta", "gamma", "delta", "omega")) for _ in range(60))
        kind = number % 6
        if kind == 2:
            lines = "\n".join(f"    value_{number}_{line} = {line}" for line in range(25))
            block = f"```python\ndef part_{number}():\n{lines}\n```"
        elif kind == 4:
            rows = "\n".join(f"| {number} | row {row} | {row * row} |" for row in range(15))
            block = f"| part | row | square |\n|---|---|---|\n{rows}"
        else:
            block = f"Paragraph {number}. {words}."
        blocks.append(block)
        size += len(block) + 2
    return "\n\n".join([*blocks, "This is the very end."])
