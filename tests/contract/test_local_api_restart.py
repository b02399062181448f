"""The server's process is killed with SIGKILL, and a new one opens the same folder."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import APIConnectionError

from tests.contract.local_kit import Served, connected, serving
from tests.fakes.chat_model import Call, ChatModel, End, Hold, Say

SERVE = """
import asyncio, pathlib, sys
from bot.local.server import LocalApi, serve
async def main(data, model_url):
    async with serve(LocalApi(data=pathlib.Path(data), model="tiny", model_url=model_url), host="127.0.0.1", port=0) as url:
        print(url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main(*sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True)
class Doomed(Served):
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def doomed(data: Path, model: ChatModel) -> AsyncGenerator[Doomed, None]:
    """An API in a process of its own, killed at the end of the block at the latest."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(data), model.url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with connected(url) as served:
            yield Doomed(served.url, served.client, served.raw, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_killed_run_ends_failed_and_frees_its_thread(tmp_path: Path) -> None:
    async with ChatModel().running() as model:
        model.will(Say("half an"), Hold())
        async with doomed(tmp_path, model) as api:
            assistant, thread = await api.assistant(), await api.thread("hi")
            runs = api.client.beta.threads.runs
            stream = await runs.create(thread, assistant_id=assistant, stream=True)
            async for event in stream:
                if event.event == "thread.message.delta":
                    break
            await api.json("GET", f"/threads/{thread}/messages")
        await stream.close()
        async with serving(tmp_path, model_url=model.url) as api:
            (run,) = (await api.client.beta.threads.runs.list(thread)).data
            assert run.last_error is not None
            assert (run.status, run.last_error.code) == ("failed", "server_error")
            assert "restarted" in run.last_error.message
            message, question = (await api.client.beta.threads.messages.list(thread)).data
            assert (message.role, message.status) == ("assistant", "incomplete")
            assert message.incomplete_details is not None
            assert message.incomplete_details.reason == "run_failed"
            assert question.role == "user"
            (step,) = (await api.client.beta.threads.runs.steps.list(run.id, thread_id=thread)).data
            assert step.status == "failed"
            again = await api.client.beta.threads.runs.create_and_poll(
                thread_id=thread, assistant_id=assistant, poll_interval_ms=10
            )
            assert again.status == "completed"


async def test_a_run_killed_while_waiting_for_outputs_goes_on_waiting(tmp_path: Path) -> None:
    async with ChatModel().running() as model:
        model.will(Call(0, "{}", id="call_a", name="f"), End("tool_calls", usage=(1, 2)))
        model.will(Say("thanks"), End(usage=(3, 4)))
        async with doomed(tmp_path, model) as api:
            assistant = await api.assistant(tools=[{"type": "function", "function": {"name": "f"}}])
            thread = await api.thread("hi")
            run = await api.client.beta.threads.runs.create_and_poll(
                thread_id=thread, assistant_id=assistant, poll_interval_ms=10
            )
            assert run.status == "requires_action"
        async with serving(tmp_path, model_url=model.url) as api:
            done = await api.client.beta.threads.runs.submit_tool_outputs_and_poll(
                run_id=run.id, thread_id=thread, tool_outputs=[{"tool_call_id": "call_a", "output": "x"}]
            )
            assert done.status == "completed"
            assert done.usage is not None
            assert done.usage.total_tokens == 10


async def test_no_acknowledged_write_is_lost_to_kill_9(tmp_path: Path) -> None:
    kept: dict[str, list[str]] = {}

    async def write(api: Served, assistant: str) -> None:
        """Writes until the server is gone, noting what was acknowledged."""
        threads = api.client.beta.threads
        try:
            while True:
                thread = (await threads.create()).id
                kept[thread] = []
                for number in range(5):
                    message = await threads.messages.create(thread, role="user", content=f"m{number}")
                    kept[thread].append(message.id)
                await threads.runs.create(thread, assistant_id=assistant)
        except APIConnectionError:
            return

    async with ChatModel().running() as model:
        async with doomed(tmp_path, model) as api, asyncio.TaskGroup() as group:
            assistant = await api.assistant()
            writers = [group.create_task(write(api, assistant)) for _ in range(8)]
            async with asyncio.timeout(20):
                while len(kept) < 40:
                    await asyncio.wait(writers, timeout=0.05)
            await api.kill()  # under the writers' hands
        async with serving(tmp_path, model_url=model.url) as after:
            for thread, acknowledged in kept.items():
                page: Any = await after.client.beta.threads.messages.list(thread, order="asc", limit=100)
                there = [message.id for message in page.data]
                assert [one for one in there if one in acknowledged] == acknowledged
                for run in (await after.client.beta.threads.runs.list(thread)).data:
                    assert run.status in {"completed", "failed"}
                await after.client.beta.threads.messages.create(thread, role="user", content="free")
