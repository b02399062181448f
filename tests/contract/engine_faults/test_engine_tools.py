"""Tools, files and sources; runs that wait for us; runs that are cancelled."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from bot.domain import (
    ActionRequired,
    Assistant,
    Citation,
    EngineFile,
    FileProduced,
    Input,
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
from bot.errors import Rejected, Retryable
from bot.ports import Engine
from tests.contract.engine_contract import ASSISTANT, run_of, texts, told, until_text
from tests.contract.engine_faults.kit import outcome, said
from tests.contract.engine_worlds import KEY, quick_sleep
from tests.fakes.engine import (
    Call,
    Cut,
    Fault,
    Image,
    Say,
    Script,
    ScriptedEngine,
    Tool,
    Wait,
)

# --- tools, files, sources --------------------------------------------------------------------------------------------


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


# --- waiting for us ---------------------------------------------------------------------------------------------------


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


# --- cancel -----------------------------------------------------------------------------------------------------------


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
