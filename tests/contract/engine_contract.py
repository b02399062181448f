"""The laws of an engine. Each runs against every engine there is, on a server the world controls.

An engine joins by a fixture that makes a `World` around it; a law that a deliberately broken engine must break names
it in `test_engine_mutants.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import pytest

from bot.domain import (
    ActionRequired,
    Assistant,
    Event,
    Exchange,
    Input,
    RunEnded,
    RunRef,
    RunStarted,
    Text,
    TextDelta,
    ThreadRef,
    ToolOutput,
    ToolStarted,
)
from bot.errors import Ambiguous, Misconfigured, Retryable, ThreadBusy, ThreadGone
from bot.ports import Engine

ASSISTANT = Assistant("default", "Threadbot", "Answer.", "scripted", (), "version-1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says next. `gate`: it stops after the first chunk until the world opens it.

    `calls`: function calls (name, arguments) it makes, all at once, before the text.
    """

    chunks: tuple[str, ...] = ("All ", "is ", "well.")
    gate: bool = False
    calls: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        return "".join(self.chunks)


@dataclass(frozen=True, slots=True)
class Heard:
    """What the model was told for its newest answer: (role, text), oldest first."""

    instructions: str
    turns: tuple[tuple[str, str], ...]


class World(Protocol):
    """An engine and power over its server."""

    engine: Engine

    def answer(self, answer: Answer) -> None:
        """The next run says this."""
        ...

    def open_gate(self) -> None: ...

    def heard(self) -> Heard: ...

    async def forget(self, thread: str) -> None:
        """The server loses the thread."""
        ...

    def cut(self) -> None:
        """Every connection of the engine breaks; the server goes on."""
        ...

    def swallow_next_answer(self) -> None:
        """The engine's next request arrives, its answer does not."""
        ...

    async def down(self) -> None:
        """The server cannot be reached any more."""
        ...

    def stranger(self) -> Engine:
        """The same engine with a key the server does not accept."""
        ...


async def told(events: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in events]


async def asked(world: World, thread: ThreadRef, text: str, *, turn: str = "1") -> list[Event]:
    return await told(world.engine.run(thread, [Input(text)], ASSISTANT, turn=turn))


def texts(events: Sequence[Event]) -> str:
    """What a reader has in front of them after these events: deltas add up, texts replace."""
    shown: dict[str, str] = {}
    for event in events:
        match event:
            case TextDelta(message, text):
                shown[message] = shown.get(message, "") + text
            case Text(message, text):
                shown[message] = text
    return "\n".join(shown.values())


def run_of(events: Sequence[Event]) -> RunRef:
    assert isinstance(events[0], RunStarted)
    return events[0].run


async def until_text(events: AsyncGenerator[Event, None]) -> list[Event]:
    """The events up to the first text."""
    seen: list[Event] = []
    async for event in events:
        seen.append(event)
        if isinstance(event, TextDelta | Text):
            return seen
    raise AssertionError(f"the run ended without text: {seen}")


# --- telling -----------------------------------------------------------------------------------------------------


async def a_run_starts_first_and_ends_last(world: World) -> None:
    events = await asked(world, await world.engine.create_thread([]), "How is it?")
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunEnded)
    assert events[-1].outcome == "completed"
    assert sum(isinstance(event, RunStarted | RunEnded) for event in events) == 2


async def deltas_add_up_to_the_text(world: World) -> None:
    world.answer(answer := Answer(("One, ", "two, ", "three.")))
    events = await asked(world, await world.engine.create_thread([]), "Count")
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    whole = [event.text for event in events if isinstance(event, Text)]
    assert "".join(deltas) == answer.text
    assert whole == [answer.text]


async def text_comes_while_the_model_still_thinks(world: World) -> None:
    world.answer(answer := Answer(gate=True))
    thread = await world.engine.create_thread([])
    async with aclosing(world.engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
        seen = await until_text(events)
        assert texts(seen) == answer.chunks[0]
        world.open_gate()
        assert texts([*seen, *await told(events)]) == answer.text


async def a_long_answer_arrives_whole(world: World) -> None:
    world.answer(answer := Answer(tuple(f"{n:05d}." for n in range(5000))))
    events = await asked(world, await world.engine.create_thread([]), "Tell me everything")
    assert texts(events) == answer.text


async def usage_is_told(world: World) -> None:
    events = await asked(world, await world.engine.create_thread([]), "How is it?")
    assert isinstance(events[-1], RunEnded)
    assert events[-1].usage.output_tokens > 0


# --- hearing -----------------------------------------------------------------------------------------------------


async def inputs_are_heard_in_order_in_one_run(world: World) -> None:
    thread = await world.engine.create_thread([])
    inputs = [Input(f"line {n}") for n in range(3)]
    await told(world.engine.run(thread, inputs, ASSISTANT, turn="1"))
    assert world.heard().turns == (("user", "line 0"), ("user", "line 1"), ("user", "line 2"))


async def more_inputs_than_a_call_takes_are_heard_in_order(world: World) -> None:
    thread = await world.engine.create_thread([])
    lines = [f"line {n:02d}" for n in range(80)]
    await told(world.engine.run(thread, [Input(line) for line in lines], ASSISTANT, turn="1"))
    said = "\n".join(text for _, text in world.heard().turns)
    places = [said.index(line) for line in lines]
    assert places == sorted(places)


async def a_thread_remembers(world: World) -> None:
    thread = await world.engine.create_thread([])
    world.answer(answer := Answer())
    await asked(world, thread, "first", turn="1")
    await asked(world, thread, "second", turn="2")
    assert world.heard().turns == (("user", "first"), ("assistant", answer.text), ("user", "second"))


async def a_new_thread_knows_its_transcript(world: World) -> None:
    thread = await world.engine.create_thread([Exchange("Who?", "Me."), Exchange("Where?", "Here.")])
    await asked(world, thread, "When?")
    assert world.heard().turns == (
        ("user", "Who?"),
        ("assistant", "Me."),
        ("user", "Where?"),
        ("assistant", "Here."),
        ("user", "When?"),
    )


async def a_long_transcript_keeps_the_newest_word_for_word(world: World) -> None:
    transcript = [Exchange(f"question {n}", f"answer {n}") for n in range(100)]
    thread = await world.engine.create_thread(transcript)
    await asked(world, thread, "next")
    turns = world.heard().turns
    assert turns[-3:] == (("user", "question 99"), ("assistant", "answer 99"), ("user", "next"))
    assert "answer 0" in turns[0][1]


async def the_assistant_is_the_definition_of_this_run(world: World) -> None:
    thread = await world.engine.create_thread([])
    for version in ("old", "new"):
        assistant = Assistant("default", "Threadbot", f"Be {version}.", "scripted", (), version)
        await told(world.engine.run(thread, [Input("Hi")], assistant, turn=version))
        assert world.heard().instructions == f"Be {version}."


# --- one run at a time -------------------------------------------------------------------------------------------


async def a_busy_thread_names_the_run_in_the_way(world: World) -> None:
    thread = await world.engine.create_thread([])
    world.answer(Answer(gate=True))
    async with aclosing(world.engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
        seen = await until_text(events)
        with pytest.raises(ThreadBusy) as busy:
            await asked(world, thread, "Me too", turn="2")
        assert busy.value.run == run_of(seen).id
        world.open_gate()
        assert isinstance((await told(events))[-1], RunEnded)
    assert isinstance((await asked(world, thread, "Now me", turn="3"))[-1], RunEnded)


async def threads_do_not_wait_for_each_other(world: World) -> None:
    slow, quick = await world.engine.create_thread([]), await world.engine.create_thread([])
    world.answer(Answer(gate=True))
    async with aclosing(world.engine.run(slow, [Input("Hi")], ASSISTANT, turn="1")) as events:
        await until_text(events)
        assert isinstance((await asked(world, quick, "Hi", turn="2"))[-1], RunEnded)
        world.open_gate()
        await told(events)


async def a_cancelled_run_ends_and_the_thread_is_free(world: World) -> None:
    thread = await world.engine.create_thread([])
    world.answer(answer := Answer(gate=True))
    async with aclosing(world.engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
        seen = await until_text(events)
        await world.engine.cancel(run_of(seen))
        assert isinstance((await asked(world, thread, "Next", turn="2"))[-1], RunEnded)
        rest = await told(events)
        assert rest[-1].outcome == "cancelled" if isinstance(rest[-1], RunEnded) else False
        assert texts([*seen, *rest]) == answer.chunks[0]


async def cancelling_what_ended_is_fine(world: World) -> None:
    events = await asked(world, await world.engine.create_thread([]), "Hi")
    await world.engine.cancel(run_of(events))
    await world.engine.cancel(run_of(events))


# --- another worker ----------------------------------------------------------------------------------------------


async def a_run_is_found_by_its_turn(world: World) -> None:
    thread = await world.engine.create_thread([])
    first = run_of(await asked(world, thread, "Hi", turn="a"))
    again = run_of(await asked(world, thread, "Hi", turn="a"))
    other = run_of(await asked(world, thread, "Hi", turn="b"))
    assert first != again
    assert await world.engine.find_run(thread, turn="a") == again
    assert await world.engine.find_run(thread, turn="b") == other
    assert await world.engine.find_run(thread, turn="c") is None


async def leaving_does_not_end_the_run(world: World) -> None:
    thread = await world.engine.create_thread([])
    world.answer(answer := Answer(gate=True))
    async with aclosing(world.engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
        run = run_of(await until_text(events))
    world.open_gate()
    events_later = await told(world.engine.resume(run))
    assert texts(events_later) == answer.text
    assert isinstance(events_later[-1], RunEnded)
    assert events_later[-1].outcome == "completed"


async def resuming_begins_with_the_whole_text_so_far(world: World) -> None:
    thread = await world.engine.create_thread([])
    world.answer(answer := Answer(gate=True))
    async with aclosing(world.engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
        run = run_of(await until_text(events))
        async with aclosing(world.engine.resume(run)) as later:
            seen = await until_text(later)
            assert isinstance(seen[0], Text)
            assert texts(seen) == answer.chunks[0]
            world.open_gate()
            assert texts([*seen, *await told(later)]) == answer.text
        await told(events)


async def resuming_an_ended_run_tells_it_whole(world: World) -> None:
    world.answer(answer := Answer())
    thread = await world.engine.create_thread([])
    run = run_of(await asked(world, thread, "Hi"))
    await asked(world, thread, "Something else", turn="2")
    events = await told(world.engine.resume(run))
    assert texts(events) == answer.text
    assert isinstance(events[-1], RunEnded)


# --- a bad line --------------------------------------------------------------------------------------------------


async def a_cut_is_not_an_end(world: World) -> None:
    thread = await world.engine.create_thread([])
    world.answer(answer := Answer(gate=True))
    async with aclosing(world.engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
        seen = await until_text(events)
        world.cut()
        world.open_gate()
        seen += await told(events)
    assert texts(seen) == answer.text
    assert isinstance(seen[-1], RunEnded)
    assert sum(isinstance(event, RunStarted | RunEnded) for event in seen) == 2


async def a_start_without_an_answer_is_ambiguous_and_found(world: World) -> None:
    thread = await world.engine.create_thread([])
    await asked(world, thread, "Warm up", turn="0")
    world.answer(answer := Answer())
    world.swallow_next_answer()
    with pytest.raises(Ambiguous):
        await asked(world, thread, "Hi", turn="1")
    run = await world.engine.find_run(thread, turn="1")
    assert run is not None
    assert texts(await told(world.engine.resume(run))) == answer.text


async def a_server_that_is_away_is_retryable(world: World) -> None:
    thread = await world.engine.create_thread([])
    await asked(world, thread, "Warm up", turn="0")
    await world.down()
    # The first call may still find a connection that is just closing.
    with pytest.raises((Retryable, Ambiguous)):
        await asked(world, thread, "Hi", turn="1")
    with pytest.raises(Retryable):
        await asked(world, thread, "Hi", turn="1")
    with pytest.raises(Retryable):
        await world.engine.check()


async def a_forgotten_thread_is_gone(world: World) -> None:
    thread = await world.engine.create_thread([])
    await asked(world, thread, "Hi", turn="1")
    await world.forget(thread.id)
    with pytest.raises(ThreadGone):
        await asked(world, thread, "Hi again", turn="2")


async def a_wrong_key_is_misconfigured(world: World) -> None:
    stranger = world.stranger()
    try:
        with pytest.raises(Misconfigured) as wrong:
            await stranger.check()
        assert "OPENAI_API_KEY" in str(wrong.value)
        with pytest.raises(Misconfigured):
            await stranger.create_thread([])
    finally:
        await stranger.close()


async def a_good_server_passes_the_check(world: World) -> None:
    await world.engine.check()


# --- tools -------------------------------------------------------------------------------------------------------


async def parallel_calls_are_asked_at_once_and_answered(world: World) -> None:
    world.answer(answer := Answer(calls=(("weather", '{"city":"Paris"}'), ("time", "{}"))))
    thread = await world.engine.create_thread([])
    events = await asked(world, thread, "Weather and time?")
    action = events[-1]
    assert isinstance(action, ActionRequired)
    assert [(call.name, call.arguments) for call in action.calls] == list(answer.calls)
    started = [event.name for event in events if isinstance(event, ToolStarted)]
    assert started == ["weather", "time"]
    outputs = [ToolOutput(call.id, f"{call.name} is fine") for call in action.calls]
    rest = await told(world.engine.resume(run_of(events), outputs))
    assert texts(rest) == answer.text
    assert isinstance(rest[-1], RunEnded)


async def a_waiting_call_is_asked_again_by_resume(world: World) -> None:
    world.answer(Answer(calls=(("weather", "{}"),)))
    thread = await world.engine.create_thread([])
    events = await asked(world, thread, "Weather?")
    again = await told(world.engine.resume(run_of(events)))
    assert again[-1] == events[-1]
    await world.engine.cancel(run_of(events))


LAWS: tuple[Callable[[World], Awaitable[None]], ...] = (
    a_run_starts_first_and_ends_last,
    deltas_add_up_to_the_text,
    text_comes_while_the_model_still_thinks,
    a_long_answer_arrives_whole,
    usage_is_told,
    inputs_are_heard_in_order_in_one_run,
    more_inputs_than_a_call_takes_are_heard_in_order,
    a_thread_remembers,
    a_new_thread_knows_its_transcript,
    a_long_transcript_keeps_the_newest_word_for_word,
    the_assistant_is_the_definition_of_this_run,
    a_busy_thread_names_the_run_in_the_way,
    threads_do_not_wait_for_each_other,
    a_cancelled_run_ends_and_the_thread_is_free,
    cancelling_what_ended_is_fine,
    a_run_is_found_by_its_turn,
    leaving_does_not_end_the_run,
    resuming_begins_with_the_whole_text_so_far,
    resuming_an_ended_run_tells_it_whole,
    a_cut_is_not_an_end,
    a_start_without_an_answer_is_ambiguous_and_found,
    a_server_that_is_away_is_retryable,
    a_forgotten_thread_is_gone,
    a_wrong_key_is_misconfigured,
    a_good_server_passes_the_check,
    parallel_calls_are_asked_at_once_and_answered,
    a_waiting_call_is_asked_again_by_resume,
)
