"""Runs on a chat-completions model, driven by the real SDK over a real socket."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.local_kit import Served, eventually, serving
from tests.fakes.chat_model import Call, ChatModel, Cut, End, Hold, Raw, Refuse, Say

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
async def model() -> AsyncGenerator[ChatModel, None]:
    async with ChatModel().running() as fake:
        yield fake


@pytest.fixture
async def api(model: ChatModel, tmp_path: Path) -> AsyncGenerator[Served, None]:
    async with serving(tmp_path, model="tiny", model_url=model.url, model_key="secret") as served:
        yield served


async def ended(api: Served, **fields: Any) -> Any:
    """A fresh run, when it is over."""
    assistant, thread = await api.assistant(**fields), await api.thread("hi")
    return await api.client.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=assistant, poll_interval_ms=20
    )


async def answer_of(api: Served, run: Any) -> Any:
    page = await api.client.beta.threads.messages.list(run.thread_id, run_id=run.id)
    return page.data[0]


async def test_the_model_gets_instructions_history_and_the_question(api: Served, model: ChatModel) -> None:
    runs = api.client.beta.threads.runs
    assistant, thread = await api.assistant(instructions="Be brief."), await api.thread("one")
    await runs.create_and_poll(thread_id=thread, assistant_id=assistant, poll_interval_ms=20)
    await runs.create_and_poll(
        thread_id=thread,
        assistant_id=assistant,
        additional_instructions="In French.",
        additional_messages=[{"role": "user", "content": "two"}],
        temperature=0.5,
        poll_interval_ms=20,
    )
    request = model.requests[-1]
    assert request["messages"] == [
        {"role": "system", "content": "Be brief.\n\nIn French."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "two"},
    ]
    assert (request["model"], request["temperature"], request["stream"]) == ("tiny", 0.5, True)
    assert "tools" not in request


async def test_usage_is_the_models(api: Served, model: ChatModel) -> None:
    model.will(Say("a"), End(usage=(11, 5)))
    run = await ended(api)
    assert run.usage.to_dict() == {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


async def test_an_answer_cut_by_the_token_limit_is_incomplete(api: Served, model: ChatModel) -> None:
    model.will(Say("half"), End("length"))
    run = await ended(api)
    assert (run.status, run.incomplete_details.reason) == ("incomplete", "max_completion_tokens")
    message = await answer_of(api, run)
    assert (message.status, message.incomplete_details.reason) == ("incomplete", "max_tokens")
    assert message.content[0].text.value == "half"


@pytest.mark.parametrize(
    "broken", [[Say("half")], [Say("half"), Cut()], [Say("half"), Raw(b"data: {nonsense\n\n")]]
)
async def test_a_stream_that_merely_ends_is_a_failure_that_keeps_its_text(
    api: Served, model: ChatModel, broken: list[Any]
) -> None:
    model.will(*broken)
    run = await ended(api)
    assert (run.status, run.last_error.code) == ("failed", "server_error")
    message = await answer_of(api, run)
    assert (message.status, message.incomplete_details.reason) == ("incomplete", "run_failed")
    assert message.content[0].text.value == "half"


@pytest.mark.parametrize(
    "junk",
    [
        b"data: []\n\n",
        b"data: 7\n\n",
        b'data: {"choices": 5}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{}]}}]}\n\n',
    ],
)
async def test_junk_from_the_model_fails_the_run_and_nothing_else(
    api: Served, model: ChatModel, junk: bytes
) -> None:
    model.will(Raw(junk))
    run = await ended(api)
    assert (run.status, run.last_error.code) == ("failed", "server_error")
    assert (await ended(api)).status == "completed"


async def test_a_rate_limit_says_when_to_try_again(api: Served, model: ChatModel) -> None:
    model.always = [Refuse(429, retry_after="300")]
    run = await ended(api)
    assert (run.status, run.last_error.code) == ("failed", "rate_limit_exceeded")
    assert "try again in 300s" in run.last_error.message


@pytest.mark.parametrize(
    ("refusal", "told"), [(Refuse(401), "API key"), (Refuse(400, "too long"), "too long")]
)
async def test_a_refusal_is_told_in_one_sentence(
    api: Served, model: ChatModel, refusal: Refuse, told: str
) -> None:
    model.always = [refusal]
    run = await ended(api)
    assert (run.status, run.last_error.code) == ("failed", "server_error")
    assert told in run.last_error.message
    assert "secret" not in run.last_error.message


async def test_an_error_inside_a_stream_fails_the_run(api: Served, model: ChatModel) -> None:
    model.will(Raw(b'data: {"error": {"message": "out of memory", "code": null}}\n\n'))
    run = await ended(api)
    assert run.status == "failed"
    assert "out of memory" in run.last_error.message


async def test_one_server_error_is_tried_again(api: Served, model: ChatModel) -> None:
    model.will(Refuse(500))
    assert (await ended(api)).status == "completed"


async def test_a_model_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    async with serving(tmp_path, model_url="http://127.0.0.1:9/v1") as api:
        run = await ended(api)
        assert "cannot be reached" in run.last_error.message


async def test_parallel_calls_go_out_and_their_outputs_come_back(api: Served, model: ChatModel) -> None:
    model.will(
        Say("Let me look."),
        Call(0, "", id="call_a", name="weather"),
        Call(0, '{"city":'),
        Call(0, '"Paris"}'),
        Call(1, '{"city":"Rome"}', id="call_b", name="weather"),
        End("tool_calls", usage=(10, 4)),
    )
    model.will(Say("Sunny and rainy."), End(usage=(20, 6)))
    assistant, thread = await api.assistant(tools=[WEATHER]), await api.thread("weather?")
    runs = api.client.beta.threads.runs
    events = [event async for event in await runs.create(thread, assistant_id=assistant, stream=True)]
    assert [event.event for event in events] == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        *["thread.run.step.delta"] * 4,
        "thread.run.requires_action",
    ]
    run: Any = events[-1].data
    calls = run.required_action.submit_tool_outputs.tool_calls
    assert [(call.id, call.function.arguments) for call in calls] == [
        ("call_a", '{"city":"Paris"}'),
        ("call_b", '{"city":"Rome"}'),
    ]
    outputs: Any = [{"tool_call_id": call.id, "output": f"out {call.id}"} for call in calls]
    more = [
        event
        async for event in await runs.submit_tool_outputs(
            run.id, thread_id=thread, tool_outputs=outputs, stream=True
        )
    ]
    assert [event.event for event in more] == [
        "thread.run.step.completed",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    step: Any = more[0].data
    assert [call.function.output for call in step.step_details.tool_calls] == ["out call_a", "out call_b"]
    final: Any = more[-1].data
    assert final.usage.total_tokens == 40
    steps = await runs.steps.list(run.id, thread_id=thread, order="asc")
    assert [step.usage.total_tokens for step in steps.data if step.usage] == [14, 26]
    assert model.requests[1]["messages"][-3:] == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {
                    "id": "call_a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                },
                {
                    "id": "call_b",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "out call_a"},
        {"role": "tool", "tool_call_id": "call_b", "content": "out call_b"},
    ]


@pytest.mark.parametrize("index", [None, 0])
async def test_parallel_calls_stay_apart_when_the_server_numbers_them_badly(
    api: Served, model: ChatModel, index: int | None
) -> None:
    model.will(
        Call(index, "{}", id="call_a", name="weather"),
        Call(index, "{}", id="call_b", name="weather"),
        End("stop"),
    )
    run = await ended(api, tools=[WEATHER])
    assert run.status == "requires_action"
    assert [call.id for call in run.required_action.submit_tool_outputs.tool_calls] == ["call_a", "call_b"]


async def test_outputs_must_answer_every_call_and_only_once(api: Served, model: ChatModel) -> None:
    model.will(Call(0, "{}", id="call_a", name="weather"), End("tool_calls"))
    run = await ended(api, tools=[WEATHER])
    path = f"/threads/{run.thread_id}/runs/{run.id}/submit_tool_outputs"
    right = {"tool_outputs": [{"tool_call_id": "call_a", "output": "1"}]}
    wrong = {"tool_outputs": [{"tool_call_id": "call_z", "output": "1"}]}
    assert "call_a" in (await api.json("POST", path, wrong, status=400))["error"]["message"]
    await api.json("POST", path, right)
    assert (
        "do not accept tool outputs" in (await api.json("POST", path, right, status=400))["error"]["message"]
    )


async def test_cancel_hangs_up_on_the_model_and_keeps_the_text(api: Served, model: ChatModel) -> None:
    model.will(Say("first "), Say("words"), Hold(), Say("never"), End())
    assistant, thread = await api.assistant(), await api.thread("hi")
    runs = api.client.beta.threads.runs
    seen: list[str] = []
    async for event in await runs.create(thread, assistant_id=assistant, stream=True):
        seen.append(event.event)
        data: Any = event.data
        if event.event == "thread.message.delta" and "words" in data.delta.content[0].text.value:
            run = next(iter((await runs.list(thread)).data))
            assert (await runs.cancel(run.id, thread_id=thread)).status == "cancelling"
    assert seen[-4:] == [
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
    ]
    await model.hung_up.wait()
    message = await answer_of(api, data)
    assert (message.status, message.incomplete_details.reason) == ("incomplete", "run_cancelled")
    assert message.content[0].text.value == "first words"
    cancel = f"/threads/{thread}/runs/{run.id}/cancel"
    assert (await api.json("POST", cancel, status=400))["error"]["message"] == (
        "Cannot cancel run with status 'cancelled'."
    )


async def test_a_run_outlives_the_client_that_listened(api: Served, model: ChatModel) -> None:
    model.will(Say("before "), Hold(), Say("after"), End())
    assistant, thread = await api.assistant(), await api.thread("hi")
    runs, messages = api.client.beta.threads.runs, api.client.beta.threads.messages
    stream = await runs.create(thread, assistant_id=assistant, stream=True)
    async for event in stream:
        if event.event == "thread.message.delta":
            break
    await stream.close()
    # A worker that takes over sees the text so far.
    (run,) = (await runs.list(thread)).data
    so_far: Any = (await messages.list(thread)).data[0]
    assert (run.status, so_far.status, so_far.content[0].text.value) == (
        "in_progress",
        "in_progress",
        "before ",
    )
    model.release()
    assert await eventually(lambda: api.run_status(thread, run.id), lambda status: status != "in_progress")
    done: Any = await messages.retrieve(so_far.id, thread_id=thread)
    assert (done.status, done.content[0].text.value) == ("completed", "before after")


async def test_a_run_expires_in_the_middle_of_its_answer(model: ChatModel, tmp_path: Path) -> None:
    model.will(Say("slow"), Hold())
    async with serving(tmp_path, model_url=model.url, run_seconds=0.5) as api:
        run = await ended(api)
        assert run.status == "expired"
        message = await answer_of(api, run)
        assert (message.status, message.incomplete_details.reason) == ("incomplete", "run_expired")
        await api.client.beta.threads.messages.create(run.thread_id, role="user", content="free again")


async def test_a_run_nobody_gives_outputs_expires(model: ChatModel, tmp_path: Path) -> None:
    model.will(Call(0, "{}", id="call_a", name="weather"), End("tool_calls"))
    async with serving(tmp_path, model_url=model.url, run_seconds=0.5) as api:
        run = await ended(api, tools=[WEATHER])
        assert run.status == "requires_action"
        status = lambda: api.run_status(run.thread_id, run.id)  # noqa: E731
        assert await eventually(status, lambda status: status == "expired")
        (step,) = (await api.client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)).data
        assert step.status == "expired"


async def test_a_run_that_waits_for_outputs_can_be_cancelled(api: Served, model: ChatModel) -> None:
    model.will(Call(0, "{}", id="call_a", name="weather"), End("tool_calls"))
    run = await ended(api, tools=[WEATHER])
    cancelled = await api.client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert (cancelled.status, cancelled.required_action) == ("cancelled", None)
    await api.client.beta.threads.messages.create(run.thread_id, role="user", content="free again")


async def test_deleting_a_thread_ends_its_run_for_good(api: Served, model: ChatModel) -> None:
    model.will(Say("x"), Hold())
    assistant, thread = await api.assistant(), await api.thread("hi")
    stream = await api.client.beta.threads.runs.create(thread, assistant_id=assistant, stream=True)
    async for event in stream:
        if event.event == "thread.message.delta":
            await api.client.beta.threads.delete(thread)
            await model.hung_up.wait()
            break
    await stream.close()
    await api.json("GET", f"/threads/{thread}/messages", status=404)


async def test_a_deleted_answer_does_not_keep_its_run_from_ending(api: Served, model: ChatModel) -> None:
    model.will(Say("x"), Hold(), Say("y"), End())
    assistant, thread = await api.assistant(), await api.thread("hi")
    names: list[str] = []
    async for event in await api.client.beta.threads.runs.create(thread, assistant_id=assistant, stream=True):
        names.append(event.event)
        if event.event == "thread.message.delta" and not model.released.is_set():
            await api.client.beta.threads.messages.delete(event.data.id, thread_id=thread)
            model.release()
    assert names[-1] == "thread.run.completed"
    await api.client.beta.threads.messages.create(thread, role="user", content="free again")


async def test_a_run_that_names_no_model_gets_the_servers_first(model: ChatModel, tmp_path: Path) -> None:
    async with serving(tmp_path, model_url=model.url) as api:
        assistant = await api.json("POST", "/assistants", {})
        thread = await api.thread("hi")
        await api.client.beta.threads.runs.create_and_poll(
            thread_id=thread, assistant_id=assistant["id"], poll_interval_ms=10
        )
        assert model.requests[0]["model"] == "tiny"


async def test_models_are_the_configured_one_and_the_servers(api: Served) -> None:
    assert [model.id for model in (await api.client.models.list()).data] == ["tiny"]


async def test_leaving_is_prompt_while_a_stream_is_open_and_keeps_its_text(
    model: ChatModel, tmp_path: Path
) -> None:
    model.will(Say("kept"), Hold())
    async with serving(tmp_path, model_url=model.url) as api:
        assistant, thread = await api.assistant(), await api.thread("hi")
        stream = await api.client.beta.threads.runs.create(thread, assistant_id=assistant, stream=True)
        async for event in stream:
            if event.event == "thread.message.delta":
                break
    await stream.close()
    async with serving(tmp_path, model_url=model.url) as api:
        (run,) = (await api.client.beta.threads.runs.list(thread)).data
        assert run.last_error is not None
        assert (run.status, run.last_error.code) == ("failed", "server_error")
        message = await answer_of(api, run)
        assert (message.status, message.content[0].text.value) == ("incomplete", "kept")
