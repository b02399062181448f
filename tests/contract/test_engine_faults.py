"""What the Assistants engine makes of every way a server can fail."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from bot.domain import (
    ActionRequired,
    Assistant,
    Citation,
    EngineFile,
    Event,
    FileProduced,
    Input,
    RunEnded,
    RunRef,
    Text,
    TextDelta,
    ThreadRef,
    ToolDone,
    ToolKind,
    ToolOutput,
    ToolStarted,
)
from bot.engines.assistants import AssistantsEngine
from bot.errors import Ambiguous, Misconfigured, Rejected, Retryable, ThreadBusy, ThreadGone
from bot.ports import Engine
from tests.contract.engine_contract import ASSISTANT, run_of, texts, told, until_text
from tests.contract.engine_worlds import KEY, engine_on, quick_sleep
from tests.fakes.engine import (
    Call,
    Cut,
    End,
    Fault,
    Image,
    Mute,
    Raw,
    Say,
    Script,
    ScriptedEngine,
    Tool,
    Wait,
    envelope,
)

RUNS = r"/runs$"


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedEngine, None]:
    async with ScriptedEngine(key=KEY) as server:
        yield server


@pytest.fixture
async def engine(server: ScriptedEngine) -> AsyncGenerator[Engine, None]:
    engine = engine_on(server.base_url)
    yield engine
    await engine.close()


@pytest.fixture
async def thread(engine: Engine) -> ThreadRef:
    return await engine.create_thread([])


async def said(engine: Engine, thread: ThreadRef, *, assistant: Assistant = ASSISTANT) -> list[Event]:
    return await told(engine.run(thread, [Input("Hi")], assistant, turn="1"))


def outcome(events: list[Event]) -> str:
    assert isinstance(events[-1], RunEnded)
    return events[-1].outcome


def created(server: ScriptedEngine) -> int:
    """How often a run was asked for."""
    return sum(method == "POST" and path.endswith("/runs") for method, path in server.calls)


# --- streams that break ------------------------------------------------------------------------------------------

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


# --- ends --------------------------------------------------------------------------------------------------------


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
    with pytest.raises(Retryable) as failed:
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


# --- starts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        (Fault("POST", RUNS, 429, envelope("Slow down"), (("Retry-After", "7"),)), 7.0),
        (Fault("POST", RUNS, 429, envelope("Slow down"), (("retry-after-ms", "250"),)), 0.25),
        (Fault("POST", RUNS, 429, envelope("Please try again in 2s.")), 2.0),
        (Fault("POST", RUNS, 429, envelope("Slow down")), None),
        (Fault("POST", RUNS, 503, envelope("Overloaded"), (("Retry-After", "3"),)), 3.0),
    ],
    ids=["seconds", "milliseconds", "in-words", "unsaid", "overloaded"],
)
async def test_a_limit_before_the_start_is_retryable_with_its_wait(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef, fault: Fault, wait: float | None
) -> None:
    server.fault(fault)
    with pytest.raises(Retryable) as limited:
        await said(engine, thread)
    assert limited.value.retry_after == wait
    assert server.runs == []
    assert created(server) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", RUNS, 500, envelope("Oops", kind="server_error"), after=True),
        Fault("POST", RUNS, 502, after=True),
        Fault("POST", RUNS, after=True, reset=True),
    ],
    ids=["500", "502", "reset"],
)
async def test_a_start_that_may_have_happened_is_ambiguous_and_never_repeated(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef, fault: Fault
) -> None:
    server.fault(fault)
    with pytest.raises(Ambiguous):
        await said(engine, thread)
    assert created(server) == 1
    found = await engine.find_run(thread, turn="1")
    assert found is not None
    assert texts(await told(engine.resume(found))) == "You said: Hi"


async def test_a_start_that_did_not_happen_is_ambiguous_and_not_found(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    server.fault(Fault("POST", RUNS, 500))
    with pytest.raises(Ambiguous):
        await said(engine, thread)
    assert await engine.find_run(thread, turn="1") is None


async def test_a_start_without_any_answer_is_ambiguous(server: ScriptedEngine, thread: ThreadRef) -> None:
    engine = AssistantsEngine(base_url=server.base_url, api_key=KEY, model="scripted", stall_seconds=0.1)
    server.fault(Fault("POST", RUNS, hang="never"))
    try:
        with pytest.raises(Ambiguous):
            await said(engine, thread)
    finally:
        server.open("never")
        await engine.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, envelope("Thread thread_1 already has an active run run_abc.")),
        (400, envelope("Can't add messages to thread_1 while a run run_abc is active.")),
        (409, envelope("Thread thread_1 already has an active run run_abc.", code="thread_locked")),
    ],
)
async def test_a_busy_thread_names_its_run(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef, status: int, body: object
) -> None:
    server.fault(Fault("POST", RUNS, status, body))
    with pytest.raises(ThreadBusy) as busy:
        await said(engine, thread)
    assert busy.value.run == "run_abc"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, envelope("Incorrect API key"), Misconfigured),
        (403, envelope("Forbidden"), Misconfigured),
        (404, envelope("No thread found with id 'thread_1'."), ThreadGone),
        (404, envelope("The model `x` does not exist", code="model_not_found"), Misconfigured),
        (400, envelope("Too long", code="context_length_exceeded"), Rejected),
        (400, envelope("Something else"), Rejected),
        (413, None, Rejected),
        (429, envelope("You exceeded your current quota", code="insufficient_quota"), Rejected),
    ],
)
async def test_refusals_before_the_start(
    server: ScriptedEngine,
    engine: Engine,
    thread: ThreadRef,
    status: int,
    body: object,
    expected: type[Exception],
) -> None:
    server.fault(Fault("POST", RUNS, status, body))
    with pytest.raises(expected):
        await said(engine, thread)


# --- our definition on the server --------------------------------------------------------------------------------


async def test_a_definition_is_made_once_and_found_again_by_another_worker(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    other = engine_on(server.base_url)
    try:
        for one in (engine, other, engine):
            await said(one, thread)
    finally:
        await other.close()
    assert len(server.assistants) == 1
    assert sum(path == "/assistants" for _, path in server.calls) == 3  # look, make; look


async def test_a_definition_is_found_behind_many_others(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    await said(engine, thread)
    for n in range(250):
        server.assistants[f"asst_{n}"] = {"id": f"asst_{n}", "model": "scripted", "metadata": {}, "tools": []}
    other = engine_on(server.base_url)
    try:
        await said(other, thread)
    finally:
        await other.close()
    assert len(server.assistants) == 251


async def test_a_forgotten_definition_is_made_again(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    await said(engine, thread)
    server.assistants.clear()
    assert outcome(await said(engine, thread)) == "completed"
    assert len(server.assistants) == 1


async def test_a_definition_that_will_not_stay_is_given_up(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    server.fault(Fault("POST", RUNS, 404, envelope("No assistant found with id 'asst_1'."), times=9))
    with pytest.raises(Retryable):
        await said(engine, thread)
    assert created(server) == 2


async def test_a_definition_without_a_model_is_the_operators_business(
    server: ScriptedEngine, thread: ThreadRef
) -> None:
    engine = AssistantsEngine(base_url=server.base_url, api_key=KEY)
    try:
        with pytest.raises(Misconfigured, match="THREADBOT_MODEL"):
            await said(engine, thread, assistant=Assistant("a", "A", "", "", (), "1"))
    finally:
        await engine.close()


# --- tools, files, sources ---------------------------------------------------------------------------------------


async def test_tools_are_told_as_they_work(server: ScriptedEngine, engine: Engine, thread: ThreadRef) -> None:
    server.script(Script((Tool("code_interpreter", "1+1"), Tool("file_search"), Say("2"))))
    events = await said(engine, thread)
    kinds = [event.kind for event in events if isinstance(event, ToolStarted)]
    assert kinds == [ToolKind.CODE, ToolKind.SEARCH]
    started = [event.call for event in events if isinstance(event, ToolStarted)]
    assert [event.call for event in events if isinstance(event, ToolDone)] == started


@pytest.mark.parametrize("cut", [False, True], ids=["streamed", "polled"])
async def test_files_are_produced_once_each_with_name_and_type(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef, cut: bool
) -> None:
    chart, table = server.add_file("chart.png", b"PNG"), server.add_file("table.csv", b"a,b")
    server.script(
        Script(
            (
                Tool("code_interpreter", "plot()", image=chart),
                Image(chart),
                Say("See [the table]("),
                *([Cut()] if cut else []),
                Say("sandbox:/mnt/data/table.csv", links=table),
                Say(")."),
            )
        )
    )
    events = await said(engine, thread)
    produced = [event for event in events if isinstance(event, FileProduced)]
    assert produced == [
        FileProduced(chart, "chart.png", "image/png"),
        FileProduced(table, "table.csv", "text/csv"),
    ]
    assert texts(events) == "See the table."
    content = [chunk async for chunk in engine.download(chart)]
    assert b"".join(content) == b"PNG"


async def test_sources_are_numbered_and_named_and_never_shown_raw(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    book, page = server.add_file("handbook.md", b""), server.add_file("page.md", b"")
    server.script(
        Script(
            (
                Say("Ask first"),
                Say("【4:0†source】", cites=book),
                Say(", then act"),
                Say("【4:1†source】", cites=page),
                Say("【4:0†source】", cites=book),
                Say(". 【重要】"),
            )
        )
    )
    events = await said(engine, thread)
    deltas = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert deltas == "Ask first, then act. 【重要】"
    [text] = [event for event in events if isinstance(event, Text)]
    assert text.text == "Ask first [1], then act [2] [1]. 【重要】"
    assert text.citations == (Citation("[1]", book, "handbook.md"), Citation("[2]", page, "page.md"))


async def test_uploads_have_the_purpose_of_their_kind(server: ScriptedEngine, engine: Engine) -> None:
    async def content() -> AsyncGenerator[bytes, None]:
        for _ in range(3):
            yield b"x" * 700_000

    picture = await engine.upload("a.png", "image/png", content())
    document = await engine.upload("a.pdf", "application/pdf", content())
    assert picture == EngineFile(picture.id, "a.png", "image/png")
    stored = {
        name: (body["filename"], body["purpose"], body["bytes"]) for name, (body, _) in server.files.items()
    }
    assert stored == {
        picture.id: ("a.png", "vision", 2_100_000),
        document.id: ("a.pdf", "assistants", 2_100_000),
    }


async def test_files_go_to_the_tools_that_can_read_them(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    assistant = Assistant("a", "A", "", "scripted", ("file_search", "code_interpreter"), "1")
    files = (
        EngineFile("file-p", "photo.png", "image/png"),
        EngineFile("file-d", "notes.md", "text/markdown"),
        EngineFile("file-t", "table.csv", "text/csv"),
        EngineFile("file-x", "tool.exe", "application/octet-stream"),
    )
    await told(engine.run(thread, [Input("Look", files)], assistant, turn="1"))
    [message] = server.asked[-1]["additional_messages"]
    assert message["attachments"] == [
        {"file_id": "file-d", "tools": [{"type": "file_search"}, {"type": "code_interpreter"}]},
        {"file_id": "file-t", "tools": [{"type": "code_interpreter"}]},
    ]
    text, picture = message["content"]
    assert picture == {"type": "image_file", "image_file": {"file_id": "file-p"}}
    assert "tool.exe" in text["text"]  # the model is told what it cannot open


async def test_a_lost_file_is_told_in_one_sentence(engine: Engine) -> None:
    with pytest.raises(Rejected, match="no longer available"):
        [chunk async for chunk in engine.download("file-gone")]


# --- waiting for us ----------------------------------------------------------------------------------------------


async def waiting(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> tuple[RunRef, list[ToolOutput]]:
    server.script(Script((Say("Let me see. "), Call((("a", "{}"), ("b", "{}"))), Say("Done."))))
    events = await said(engine, thread)
    assert isinstance(events[-1], ActionRequired)
    return run_of(events), [ToolOutput(call.id, "ok") for call in events[-1].calls]


async def test_outputs_that_arrived_unanswered_are_not_given_twice(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    run, outputs = await waiting(server, engine, thread)
    server.fault(Fault("POST", "submit_tool_outputs", 500, after=True))
    events = await told(engine.resume(run, outputs))
    assert texts(events) == "Let me see. \nDone."
    assert sum(path.endswith("submit_tool_outputs") for _, path in server.calls) == 1


async def test_outputs_somebody_else_gave_are_no_error(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    run, outputs = await waiting(server, engine, thread)
    await told(engine.resume(run, outputs))
    events = await told(engine.resume(run, outputs))
    assert texts(events) == "Let me see. \nDone."
    assert outcome(events) == "completed"


async def test_wrong_outputs_are_rejected_while_the_run_waits(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    run, outputs = await waiting(server, engine, thread)
    with pytest.raises(Rejected):
        await told(engine.resume(run, outputs[:1]))


# --- cancel ------------------------------------------------------------------------------------------------------


async def test_cancel_returns_when_the_thread_is_free(server: ScriptedEngine, thread: ThreadRef) -> None:
    async def sleep(_: float) -> None:
        server.open("cancelled")
        await quick_sleep(1)

    engine = AssistantsEngine(base_url=server.base_url, api_key=KEY, model="scripted", sleep=sleep)
    server.script(Script((Say("one"), Wait("never")), cancel_gate="cancelled"))
    try:
        async with aclosing(engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
            await engine.cancel(run_of(await until_text(events)))
            assert server.runs[-1].body["status"] == "cancelled"
    finally:
        await engine.close()


async def test_a_cancel_without_end_is_given_up(server: ScriptedEngine, thread: ThreadRef) -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    engine = AssistantsEngine(
        base_url=server.base_url, api_key=KEY, model="scripted", clock=lambda: now, sleep=sleep
    )
    server.script(Script((Say("one"), Wait("never")), cancel_gate="never"))
    try:
        async with aclosing(engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
            run = run_of(await until_text(events))
            with pytest.raises(Retryable):
                await engine.cancel(run)
    finally:
        await engine.close()
    assert 10 <= now < 12


async def test_a_cancel_is_asked_again_when_the_server_fumbled(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef
) -> None:
    server.script(Script((Say("one"), Wait("never"))))
    server.fault(Fault("POST", "/cancel", 500, times=2))
    async with aclosing(engine.run(thread, [Input("Hi")], ASSISTANT, turn="1")) as events:
        await engine.cancel(run_of(await until_text(events)))
    assert server.runs[-1].body["status"] == "cancelled"


async def test_cancelling_in_a_thread_that_is_gone_is_fine(engine: Engine) -> None:
    await engine.cancel(RunRef("thread_gone", "run_gone"))


# --- the check ---------------------------------------------------------------------------------------------------


async def test_the_check_names_what_the_server_offers(server: ScriptedEngine, engine: Engine) -> None:
    server.models = ("tiny", "huge")
    with pytest.raises(Misconfigured, match=r"no model 'scripted' but tiny, huge: set THREADBOT_MODEL"):
        await engine.check()


async def test_the_check_does_without_a_list_of_models(server: ScriptedEngine, engine: Engine) -> None:
    server.models = None
    await engine.check()


async def test_the_check_knows_a_server_without_assistants(server: ScriptedEngine, engine: Engine) -> None:
    server.fault(Fault("GET", "/assistants", 404, envelope("Not found"), times=2))
    with pytest.raises(Misconfigured, match="does not speak the Assistants API"):
        await engine.check()


@pytest.mark.parametrize("path", ["/threads$", "/assistants$"])
async def test_a_server_without_assistants_is_no_passing_trouble(
    server: ScriptedEngine, engine: Engine, thread: ThreadRef, path: str
) -> None:
    for method in ("GET", "POST"):
        server.fault(Fault(method, path, 404, envelope("Invalid URL (POST /v1/assistants)")))
    with pytest.raises(Misconfigured, match="does not speak the Assistants API"):
        await said(engine, await engine.create_thread([]))
