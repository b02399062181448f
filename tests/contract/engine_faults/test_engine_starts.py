"""Starting a run when the server is busy, limited, failing or gone; and our definition on it."""

from __future__ import annotations

import pytest

from bot.domain import (
    Assistant,
    ThreadRef,
)
from bot.engines.assistants import AssistantsEngine
from bot.errors import Ambiguous, Misconfigured, Rejected, Retryable, ThreadBusy, ThreadGone
from bot.ports import Engine
from tests.contract.engine_contract import texts, told
from tests.contract.engine_faults.kit import RUNS, created, outcome, said
from tests.contract.engine_worlds import KEY, engine_on
from tests.fakes.engine import (
    Fault,
    ScriptedEngine,
    envelope,
)

# --- starts -----------------------------------------------------------------------------------------------------------


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


# --- our definition on the server -------------------------------------------------------------------------------------


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


NAMELESS_MODEL = Assistant("a", "A", "", "", (), "1")


async def test_a_definition_without_a_model_takes_the_only_one(
    server: ScriptedEngine, thread: ThreadRef
) -> None:
    engine = AssistantsEngine(base_url=server.base_url, api_key=KEY)
    try:
        await said(engine, thread, assistant=NAMELESS_MODEL)
    finally:
        await engine.close()
    assert server.runs[-1].body["model"] == "scripted"


@pytest.mark.parametrize("models", [None, (), ("tiny", "huge")])
async def test_a_definition_without_a_model_is_the_operators_business(
    server: ScriptedEngine, thread: ThreadRef, models: tuple[str, ...] | None
) -> None:
    server.models = models
    engine = AssistantsEngine(base_url=server.base_url, api_key=KEY)
    try:
        with pytest.raises(Misconfigured, match="THREADBOT_MODEL"):
            await said(engine, thread, assistant=NAMELESS_MODEL)
    finally:
        await engine.close()


# --- the check --------------------------------------------------------------------------------------------------------


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
