"""Streams that break, stall or babble, and every way a run ends."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from bot.domain import (
    Event,
    Input,
    Text,
    ThreadRef,
)
from bot.engines.assistants import AssistantsEngine
from bot.errors import Ambiguous, Rejected, RunFailed
from bot.ports import Engine
from tests.contract.engine_contract import ASSISTANT, texts, told
from tests.contract.engine_faults.kit import created, outcome, said
from tests.contract.engine_worlds import KEY, quick_sleep
from tests.fakes.engine import (
    Cut,
    End,
    Fault,
    Mute,
    Raw,
    Say,
    Script,
    ScriptedEngine,
    Wait,
)

# --- streams that break -----------------------------------------------------------------------------------------------

NESTED = 'event: error\ndata: {"error": {"message": "boom", "type": "server_error", "code": null}}\n\n'
FLAT = 'event: error\ndata: {"message": "boom", "type": "server_error", "code": null, "param": null}\n\n'
NAMELESS = 'data: {"error": {"message": "boom"}}\n\n'


@pytest.mark.parametrize(
    "breakage",
    [Cut(clean=True), Cut(clean=False), Raw(NESTED), Raw(FLAT), Raw(NAMELESS)],
    ids=["ends", "resets", "nested-error", "flat-error", "nameless-error"],
)
async def test_a_broken_stream_is_followed_to_the_real_end(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef, breakage: Cut | Raw
) -> None:
    server.script(Script((Say("one "), breakage, Say("two "), Wait("gate"), Say("three"))))
    async with aclosing(engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
        seen: list[Event] = []
        while texts(seen) != "one two ":
            seen.append(await anext(events))
        server.open("gate")
        seen += await told(events)
    assert texts(seen) == "one two three"
    assert outcome(seen) == "completed"
    assert created(server) == 1


@pytest.mark.parametrize("keep_alive", [0.0, 0.02], ids=["silent", "only-keep-alive"])
async def test_a_stalled_stream_is_not_waited_for(
    server: ScriptedEngine, thread: ThreadRef, keep_alive: float
) -> None:
    engine = AssistantsEngine(
        base_url=server.base_url, api_key=KEY, model="scripted", stall_seconds=0.1, sleep=quick_sleep
    )
    try:
        server.script(Script((Say("one "), Mute(keep_alive), Say("two"))))
        events = await said(engine, thread)
        assert texts(events) == "one two"
        assert outcome(events) == "completed"
    finally:
        await engine.close()


async def test_unknown_events_and_garbage_change_nothing(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    server.script(
        Script(
            (
                Raw('event: thread.run.step.thought\ndata: {"id": "x"}\n\n'),
                Raw("event: thread.dream\ndata: {}\n\n"),
                Raw("event: thread.message.delta\ndata: [1, 2\n\n"),
                Raw('event: thread.message.delta\ndata: {"delta": 7}\n\n'),
                Raw("data: nothing\r\n\r\n: comment\n\n"),
                Say("All is well."),
            )
        )
    )
    events = await said(engine, thread)
    assert texts(events) == "All is well."
    assert outcome(events) == "completed"


async def test_polls_as_often_as_the_server_wishes(server: ScriptedEngine, thread: ThreadRef) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            server.open("gate")
        await quick_sleep(seconds)

    engine = AssistantsEngine(base_url=server.base_url, api_key=KEY, model="scripted", sleep=sleep)
    server.poll_after_ms = 1500
    server.script(Script((Say("one "), Cut(), Wait("gate"), Say("two"))))
    try:
        assert texts(await said(engine, thread)) == "one two"
    finally:
        await engine.close()
    assert set(waits) == {1.5}


async def test_a_server_that_stays_away_leaves_the_run_open(
    server: ScriptedEngine, thread: ThreadRef
) -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    engine = AssistantsEngine(
        base_url=server.base_url, api_key=KEY, model="scripted", clock=lambda: now, sleep=sleep
    )
    server.script(Script((Say("one "), Cut(), Wait("never"))))
    server.fault(Fault("GET", r"/runs/[^/]+$", status=503, times=1_000_000))
    try:
        with pytest.raises(Ambiguous):
            await said(engine, thread)
    finally:
        await engine.close()
    assert 120 < now < 180


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (End("incomplete", reason="max_completion_tokens"), "truncated"),
        (End("incomplete", reason="content_filter"), "refused"),
        (End("expired"), "expired"),
        (End("cancelled"), "cancelled"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
async def test_every_end_has_its_name_and_keeps_the_text(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef, end: End, expected: str
) -> None:
    server.script(Script((Say("so far"), end)))
    events = await said(engine, thread)
    assert outcome(events) == expected
    assert [event.text for event in events if isinstance(event, Text)] == ["so far"]


@pytest.mark.parametrize("where", ["in the stream", "after a cut"])
@pytest.mark.parametrize(
    ("code", "message", "wait"),
    [
        ("server_error", "Sorry, something went wrong.", None),
        ("rate_limit_exceeded", "Rate limit reached for m. Please try again in 1.5s.", 1.5),
        ("rate_limit_exceeded", "Please try again in 350ms.", 0.35),
        ("rate_limit_exceeded", "Please try again in 6m12s. Visit", 372.0),
    ],
)
async def test_a_run_that_failed_for_a_passing_reason_is_retryable(
    server: ScriptedEngine,
    engine: Engine,
    thread: ThreadRef,
    code: str,
    message: str,
    wait: float,
    where: str,
) -> None:
    cut = [Cut()] if where == "after a cut" else []
    server.script(Script((Say("so far"), *cut, End("failed", code, message))))
    with pytest.raises(RunFailed) as failed:
        await said(engine, thread)
    assert failed.value.retry_after == wait


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        ("invalid_prompt", "Your prompt was flagged.", "rephrase"),
        ("rate_limit_exceeded", "You exceeded your current quota, please check your plan.", "quota"),
        ("insufficient_quota", "No more.", "quota"),
    ],
)
async def test_a_run_that_can_only_fail_again_is_told_in_one_sentence(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef, code: str, message: str, words: str
) -> None:
    server.script(Script((End("failed", code, message),)))
    with pytest.raises(Rejected) as rejected:
        await said(engine, thread)
    assert words in rejected.value.user_text
    assert message not in rejected.value.user_text
