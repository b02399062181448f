"""The local Assistants API as its callers see it: the real SDK, a real socket, the SDK's own types."""

import asyncio
import io
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI, DefaultAsyncHttpx2Client, NotFoundError
from openai.types import FileDeleted, FileObject
from openai.types.beta import Assistant, AssistantDeleted, Thread, ThreadDeleted
from openai.types.beta.threads import Message, MessageDeleted, Run
from openai.types.beta.threads.runs import RunStep
from openai.types.model import Model
from pydantic import BaseModel

from bot.local.errors import DataFolderBusy, LocalApiError, UnsafeBind
from bot.local.server import LocalApi, serve
from tests.contract.local_kit import Served, connected, eventually, serving, strict

RUN_EVENTS = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
MESSAGE_OPENS = [
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
]
MESSAGE_CLOSES = ["thread.message.completed", "thread.run.step.completed", "thread.run.completed"]
WEATHER = {"type": "function", "function": {"name": "weather"}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[Served, None]:
    async with serving(tmp_path) as served:
        yield served


async def waiting_run(api: Served, thread: str) -> Any:
    """A run that holds its thread: it waits for tool outputs."""
    assistant = await api.assistant(tools=[WEATHER])
    return await api.client.beta.threads.runs.create_and_poll(
        thread_id=thread,
        assistant_id=assistant,
        additional_messages=[{"role": "user", "content": "call weather {}"}],
        poll_interval_ms=10,
    )


async def test_every_object_is_exactly_the_sdks_type(api: Served) -> None:
    tools = [WEATHER, {"type": "file_search"}, {"type": "code_interpreter"}]
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    wanted = {
        "model": "m",
        "tools": tools,
        "temperature": 1,
        "response_format": schema,
        "metadata": {"a": "b"},
    }
    assistant = strict(Assistant, await api.json("POST", "/assistants", wanted))
    path = f"/assistants/{assistant['id']}"
    assert strict(Assistant, await api.json("GET", path)) == assistant
    changed = strict(Assistant, await api.json("POST", path, {"name": "N", "description": None}))
    assert changed == assistant | {"name": "N"}

    upload = await api.raw.post("/files", files={"file": ("ä.txt", b"text")}, data={"purpose": "assistants"})
    file = strict(FileObject, upload.json())
    assert (file["filename"], file["bytes"]) == ("ä.txt", 4)
    image = {"type": "image_file", "image_file": {"file_id": file["id"]}}
    link = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    thread = strict(Thread, await api.json("POST", "/threads", {"tool_resources": {"code_interpreter": {}}}))
    attached = [{"file_id": file["id"], "tools": [{"type": "file_search"}]}]
    content = [{"type": "text", "text": "call weather {}"}, image, link]
    said = {"role": "user", "content": content, "attachments": attached, "metadata": {"k": "v"}}
    messages = f"/threads/{thread['id']}/messages"
    message = strict(Message, await api.json("POST", messages, said))
    assert message["content"][0]["text"] == {"value": "call weather {}", "annotations": []}

    runs = f"/threads/{thread['id']}/runs"
    run = strict(Run, await api.json("POST", runs, {"assistant_id": assistant["id"]}))
    assert run["expires_at"] in {run["created_at"] + 600, run["created_at"] + 601}
    probe = lambda: api.json("GET", f"{runs}/{run['id']}")  # noqa: E731
    run = strict(Run, await eventually(probe, lambda run: run["status"] == "requires_action"))
    steps = await api.json("GET", f"{runs}/{run['id']}/steps")
    step = strict(RunStep, steps["data"][0])
    assert strict(RunStep, await api.json("GET", f"{runs}/{run['id']}/steps/{step['id']}")) == step
    call = run["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    output = {"tool_outputs": [{"tool_call_id": call, "output": "sun"}]}
    strict(Run, await api.json("POST", f"{runs}/{run['id']}/submit_tool_outputs", output))
    run = strict(Run, await eventually(probe, lambda run: run["status"] == "completed"))
    strict(Run, await api.json("POST", f"{runs}/{run['id']}", {"metadata": {"turn": "1"}}))
    for answer in (await api.json("GET", messages))["data"]:
        strict(Message, answer)
    one = f"{messages}/{message['id']}"
    assert strict(Message, await api.json("POST", one, {"metadata": {}}))["metadata"] == {}
    strict(MessageDeleted, await api.json("DELETE", one))
    strict(ThreadDeleted, await api.json("DELETE", f"/threads/{thread['id']}"))
    strict(AssistantDeleted, await api.json("DELETE", path))
    strict(FileDeleted, await api.json("DELETE", f"/files/{file['id']}"))
    for model in (await api.json("GET", "/models"))["data"]:
        strict(Model, model)
    for gone in (
        one,
        f"{runs}/{run['id']}",
        f"{runs}/{run['id']}/steps",
        path,
        f"/files/{file['id']}/content",
    ):
        await api.json("GET", gone, status=404)


async def test_a_streamed_run_tells_its_events_in_order(api: Served) -> None:
    assistant, thread = await api.assistant(), await api.thread("What now?")
    stream = await api.client.beta.threads.runs.create(thread, assistant_id=assistant, stream=True)
    events: list[Any] = [event async for event in stream]
    names = [event.event for event in events]
    deltas = names.count("thread.message.delta")
    assert deltas > 5
    assert names == [*RUN_EVENTS, *MESSAGE_OPENS, *["thread.message.delta"] * deltas, *MESSAGE_CLOSES]
    told = "".join(
        event.data.delta.content[0].text.value for event in events if event.event.endswith("delta")
    )
    assert told == events[-3].data.content[0].text.value
    assert "Offline demo brain: you wrote “What now?”." in told
    kinds: dict[str, type[BaseModel]] = {
        "thread.run": Run,
        "thread.message": Message,
        "thread.run.step": RunStep,
    }
    for event in events:
        if event.data.object in kinds:
            strict(kinds[event.data.object], event.data.to_dict())
    assert events[-1].data.usage is not None


async def test_the_frames_are_event_then_data_and_done_at_the_end(api: Served) -> None:
    assistant, thread = await api.assistant(), await api.thread("hi")
    body = {"assistant_id": assistant, "stream": True}
    response = await api.raw.post(f"/threads/{thread}/runs", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *frames, rest = response.text.split("\n\n")
    assert rest == ""
    assert all(re.fullmatch(r"event: [a-z._]+\ndata: [^\n]+", frame) for frame in frames)
    assert frames[-1] == "event: done\ndata: [DONE]"


async def test_thread_and_run_in_one_call_begins_with_the_thread(api: Served) -> None:
    assistant = await api.assistant()
    stream = await api.client.beta.threads.create_and_run(
        assistant_id=assistant, thread={"messages": [{"role": "user", "content": "2 * (3 + 4)"}]}, stream=True
    )
    events: list[Any] = [event async for event in stream]
    assert [event.event for event in events][:8] == ["thread.created", *RUN_EVENTS, *MESSAGE_OPENS]
    strict(Thread, events[0].data.to_dict())
    assert "is 14." in events[-3].data.content[0].text.value


async def test_the_sdks_own_event_handler_follows_a_run(api: Served) -> None:
    assistant, thread = await api.assistant(), await api.thread("hi")
    async with api.client.beta.threads.runs.stream(thread_id=thread, assistant_id=assistant) as stream:
        await stream.until_done()
    final = await stream.get_final_messages()
    assert "THREADBOT_MODEL_URL" in final[0].content[0].text.value  # type: ignore[union-attr]


async def test_a_follow_up_knows_what_was_said_before(api: Served) -> None:
    assistant, thread = await api.assistant(), await api.thread("My cat is Mimi.")
    runs = api.client.beta.threads.runs
    await runs.create_and_poll(thread_id=thread, assistant_id=assistant, poll_interval_ms=10)
    again: Any = {"role": "user", "content": "What did I say before?"}
    run = await runs.create_and_poll(
        thread_id=thread, assistant_id=assistant, additional_messages=[again], poll_interval_ms=10
    )
    (answer,) = (await api.client.beta.threads.messages.list(thread, run_id=run.id)).data
    assert "My cat is Mimi." in answer.content[0].text.value  # type: ignore[union-attr]


async def test_a_busy_thread_takes_no_message_and_no_second_run(api: Served) -> None:
    thread = await api.thread()
    run = await waiting_run(api, thread)
    said = {"role": "user", "content": "and?"}
    error = (await api.json("POST", f"/threads/{thread}/messages", said, status=400))["error"]
    assert error == {
        "message": f"Can't add messages to {thread} while a run {run.id} is active.",
        "type": "invalid_request_error",
        "param": None,
        "code": "thread_locked",
    }
    again = {"assistant_id": run.assistant_id, "additional_messages": [said]}
    error = (await api.json("POST", f"/threads/{thread}/runs", again, status=400))["error"]
    assert error["message"] == f"Thread {thread} already has an active run {run.id}."
    assert error["code"] == "thread_locked"
    # The refused run left no message behind.
    assert len((await api.json("GET", f"/threads/{thread}/messages"))["data"]) == 1


async def test_of_many_runs_started_at_once_one_gets_the_thread(api: Served) -> None:
    thread, assistant = await api.thread(), await api.assistant(tools=[WEATHER])
    said = [{"role": "user", "content": "call weather {}"}]
    body = {"assistant_id": assistant, "additional_messages": said}
    starts = [api.raw.post(f"/threads/{thread}/runs", json=body) for _ in range(20)]
    statuses = sorted([response.status_code for response in await asyncio.gather(*starts)])
    assert statuses == [200] + [400] * 19
    assert len((await api.json("GET", f"/threads/{thread}/messages"))["data"]) == 1


async def test_a_run_that_waits_expires_by_the_clock(tmp_path: Path) -> None:
    now = 1_000.0
    async with serving(tmp_path, clock=lambda: now) as api:
        thread = await api.thread()
        run = await waiting_run(api, thread)
        assert run.expires_at == 1_600
        now = 1_600.0
        status = lambda: api.run_status(thread, run.id)  # noqa: E731
        assert await eventually(status, lambda status: status == "expired")
        path = f"/threads/{thread}/runs/{run.id}/submit_tool_outputs"
        error = (await api.json("POST", path, {"tool_outputs": []}, status=400))["error"]
        assert error["message"] == 'Runs in status "expired" do not accept tool outputs.'


async def test_a_hundred_runs_stream_at_once(api: Served) -> None:
    assistant = await api.assistant()

    async def converse(number: int) -> str:
        stream = await api.client.beta.threads.create_and_run(
            assistant_id=assistant,
            thread={"messages": [{"role": "user", "content": f"{number} + 0"}]},
            stream=True,
        )
        events: list[Any] = [event async for event in stream]
        text: str = events[-3].data.content[0].text.value
        return text

    answers = await asyncio.gather(*(converse(number) for number in range(100)))
    assert all(f"is {number}." in answer for number, answer in enumerate(answers))


async def test_lists_page_through_everything_once(api: Served) -> None:
    thread = await api.thread(*(f"m{number}" for number in range(7)))
    messages = api.client.beta.threads.messages
    for order in ("asc", "desc"):
        texts = [m.content[0].text.value async for m in messages.list(thread, limit=2, order=order)]  # type: ignore[union-attr]
        assert texts == sorted(texts, reverse=order == "desc")
        assert len(texts) == 7
    page = await api.json("GET", f"/threads/{thread}/messages?limit=3&order=asc")
    assert (page["object"], page["has_more"]) == ("list", True)
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][2]["id"])
    empty = await api.json("GET", f"/threads/{await api.thread()}/runs")
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("GET", "/threads/thread_x", None, 404, "No thread found with id 'thread_x'."),
        ("POST", "/threads/thread_x/runs", {"assistant_id": "a"}, 404, "No thread found with id 'thread_x'."),
        ("POST", "/threads/T/runs", {"assistant_id": "asst_x"}, 404, "No assistant found with id 'asst_x'."),
        ("POST", "/threads/T/runs", {}, 400, "Missing required parameter: 'assistant_id'."),
        ("POST", "/threads/T/runs", {"assistant_id": "A", "temperature": 9}, 400, "temperature"),
        (
            "POST",
            "/threads/T/runs",
            {"assistant_id": "A", "truncation_strategy": {"type": "last_messages"}},
            400,
            "last",
        ),
        ("POST", "/threads/T/messages", {"role": "system", "content": "x"}, 400, "role"),
        (
            "POST",
            "/threads/T/messages",
            {"role": "user", "content": ""},
            400,
            "Message content must be non-empty.",
        ),
        ("POST", "/threads/T/messages", {"role": "user", "content": [{"type": "audio"}]}, 400, "content"),
        (
            "POST",
            "/threads/T/messages",
            {"role": "user", "content": "x", "attachments": [{"file_id": "file-x"}]},
            404,
            "No file found with id 'file-x'.",
        ),
        ("POST", "/threads", {"metadata": {str(n): "" for n in range(17)}}, 400, "metadata"),
        ("POST", "/threads", {"metadata": {"k" * 65: ""}}, 400, "metadata"),
        ("POST", "/threads", {"metadata": {"k": "v" * 513}}, 400, "metadata"),
        ("POST", "/threads", {"metadata": {"k": 1}}, 400, "metadata"),
        ("POST", "/threads", [], 400, ""),
        ("POST", "/assistants", {"tools": [{"type": "rocket"}]}, 400, "tools"),
        ("GET", "/threads/T/messages?limit=0", None, 400, "limit"),
        ("GET", "/threads/T/messages?limit=x", None, 400, "limit"),
        ("GET", "/threads/T/messages?order=up", None, 400, "order"),
        ("GET", "/threads/T/messages?after=msg_x", None, 400, "msg_x"),
        ("GET", "/threads/T/runs/run_x/steps", None, 404, "run_x"),
        ("POST", "/threads/T/runs/run_x/cancel", None, 404, "run_x"),
        ("POST", "/files", {"purpose": "assistants"}, 400, "file"),
        ("GET", "/nothing/here", None, 404, "Invalid URL (GET /v1/nothing/here)"),
        ("PUT", "/threads/T", {}, 405, "PUT"),
    ],
)
async def test_bad_requests_get_the_envelope_and_a_clear_sentence(
    api: Served, method: str, path: str, body: object, status: int, told: str
) -> None:
    real = {"/T": f"/{await api.thread()}", '"A"': await api.assistant()}
    if isinstance(body, dict) and body.get("assistant_id") == "A":
        body = body | {"assistant_id": real['"A"']}
    error = (
        await api.json(
            method, path.replace("/T", real["/T"], 1) if "/T" in path else path, body, status=status
        )
    )["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert told in error["message"]


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe", b"[" * 100_000, b'{"metadata": {"k": "\\ud800"}}', b'{"tools": [{"type":"function","function":{"name":"f","parameters":{"x":NaN}}}]}', b'{"temperature": 1e999}'],
)  # fmt: skip
async def test_garbage_is_the_callers_fault(api: Served, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = await api.raw.post("/assistants", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


async def test_a_lone_surrogate_or_a_null_byte_in_a_message_does_no_harm(api: Served) -> None:
    headers = {"content-type": "application/json"}
    body = b'{"role": "user", "content": "a\\u0000b"}'
    thread = await api.thread()
    response = await api.raw.post(f"/threads/{thread}/messages", content=body, headers=headers)
    assert response.json()["content"][0]["text"]["value"] == "a\0b"


async def test_unknown_parameters_are_ignored(api: Served) -> None:
    assistant = await api.json("POST", "/assistants", {"model": "m", "from_the_future": 1})
    assert "from_the_future" not in assistant
    await api.json("GET", "/assistants?include[]=x&y=z")


async def test_every_answer_has_a_request_id_and_a_run_says_when_to_ask_again(api: Served) -> None:
    assistant, thread = await api.assistant(), await api.thread("hi")
    run = await api.client.beta.threads.runs.create(thread, assistant_id=assistant)
    for path in (f"/threads/{thread}/runs/{run.id}", "/nope", "/threads/thread_x"):
        response = await api.raw.get(path)
        assert response.headers["x-request-id"].startswith("req_")
    response = await api.raw.get(f"/threads/{thread}/runs/{run.id}")
    assert int(response.headers["openai-poll-after-ms"]) > 0


async def test_a_file_comes_back_byte_by_byte_and_goes_when_deleted(api: Served, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    file = await api.client.files.create(file=("../evil/ü.bin", io.BytesIO(content)), purpose="assistants")
    assert file.filename == "ü.bin"
    assert (await api.client.files.content(file.id)).content == content
    assert [listed.id async for listed in api.client.files.list(purpose="assistants")] == [file.id]
    assert [listed.id async for listed in api.client.files.list(purpose="vision")] == []
    await api.client.files.delete(file.id)
    with pytest.raises(NotFoundError):
        await api.client.files.content(file.id)
    assert list((tmp_path / "local-api-files").iterdir()) == []


async def test_a_file_beyond_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, max_upload_bytes=1000) as api:
        for size in (1001, 3_000_000):
            with pytest.raises(APIStatusError) as caught:
                await api.client.files.create(file=("a", b"x" * size), purpose="assistants")
            assert caught.value.status_code == 413

        async def unannounced() -> AsyncGenerator[bytes, None]:
            yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
            for _ in range(40):
                yield b"x" * 100_000

        headers = {"content-type": "multipart/form-data; boundary=b"}
        response = await api.raw.post("/files", content=unannounced(), headers=headers)
        assert response.status_code == 413
        assert list((tmp_path / "local-api-files").iterdir()) == []


async def test_with_keys_only_their_bearers_enter(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=frozenset({"good", "also"})) as api:
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer bad"}, 401),
            ({"authorization": "Basic good"}, 401),
            ({"authorization": "Bearer good"}, 200),
            ({"authorization": "bearer also"}, 200),
        ):
            response = await api.raw.get("/assistants", headers=headers)
            assert response.status_code == status
        assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]:1"}, 200),
    ],
)
async def test_without_keys_a_foreign_web_page_gets_nothing(
    api: Served, headers: dict[str, str], status: int
) -> None:
    assert (await api.raw.get("/assistants", headers=headers)).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104
async def test_an_open_door_needs_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises(UnsafeBind, match="without a key"):
        async with serve(LocalApi(data=tmp_path), host=host, port=0):
            pass


async def test_with_a_key_every_address_will_do(tmp_path: Path) -> None:
    async with serve(LocalApi(data=tmp_path, keys=frozenset({"k"})), host="0.0.0.0", port=0) as url:  # noqa: S104
        assert url.startswith("http://0.0.0.0:")


async def test_one_folder_is_served_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as first:
        with pytest.raises(DataFolderBusy, match="already serves"):
            async with serving(tmp_path):
                pass
        await first.assistant()
    async with serving(tmp_path) as second:
        assert len((await second.client.beta.assistants.list()).data) == 1


async def test_a_folder_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "local-api.sqlite").write_bytes(b"this is no database" * 100)
    for folder, told in ((tmp_path / "file", "data folder"), (tmp_path / "broken", "database")):
        with pytest.raises(LocalApiError, match=f"Cannot .* {told}"):
            async with serving(folder):
                pass


async def test_a_port_in_use_is_told_in_one_sentence(api: Served, tmp_path: Path) -> None:
    port = int(api.url.rpartition(":")[2].removesuffix("/v1"))
    with pytest.raises(LocalApiError, match=r"Cannot listen on 127\.0\.0\.1"):
        async with serve(LocalApi(data=tmp_path / "other"), host="127.0.0.1", port=port):
            pass


async def test_it_serves_on_a_unix_socket(tmp_path: Path, short_path: Path) -> None:
    socket = short_path / "api.sock"
    async with serve(LocalApi(data=tmp_path), uds=socket) as url:
        transport = httpx2.AsyncHTTPTransport(uds=str(socket))
        async with AsyncOpenAI(
            base_url=url, api_key="x", http_client=DefaultAsyncHttpx2Client(transport=transport)
        ) as client:
            assert (await client.beta.assistants.create(model="m")).object == "assistant"
        assert socket.stat().st_mode & 0o777 == 0o600
    assert not socket.exists()


async def test_the_openapi_page_lists_the_routes(api: Served) -> None:
    paths = (await api.raw.get(api.url.removesuffix("/v1") + "/openapi.json")).json()["paths"]
    assert "/v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs" in paths


async def test_metadata_given_to_a_run_at_work_stays(api: Served) -> None:
    thread = await api.thread()
    run = await waiting_run(api, thread)
    path = f"/threads/{thread}/runs/{run.id}"
    await api.json("POST", path, {"metadata": {"a": "1"}})
    await api.json("POST", f"{path}/cancel")
    assert (await api.json("GET", path))["metadata"] == {"a": "1"}


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        thread = await api.thread("one")
        run = await waiting_run(api, thread)
    async with serving(tmp_path) as api, connected(api.url) as other:
        # A run that waits for tool outputs goes on waiting, and can be answered.
        assert await other.run_status(thread, run.id) == "requires_action"
        (call,) = run.required_action.submit_tool_outputs.tool_calls
        done = await other.client.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id, thread_id=thread, tool_outputs=[{"tool_call_id": call.id, "output": "sun"}]
        )
        assert done.status == "completed"
