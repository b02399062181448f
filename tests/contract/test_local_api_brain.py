"""Brains that do not keep their contract: the run fails, its thread goes on."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bot.local.brain import Delta, Finished, Prompt, TextDelta, ToolCallDelta
from tests.contract.local_kit import serving


class Broken:
    """Does as the question says."""

    async def think(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        yield TextDelta("half")
        match prompt.turns[-1].text:
            case "stop silently":
                return
            case "raise":
                raise ZeroDivisionError
            case "time out":
                raise TimeoutError
            case "skip a call":
                yield ToolCallDelta(5, "{}")
        yield Finished("stop")

    async def models(self) -> list[str]:
        return []

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("stop silently", "broke off"),
        ("raise", "inside the server"),
        ("time out", "inside the server"),
        ("skip a call", "inside the server"),
    ],
)
async def test_a_broken_brain_fails_its_run_and_frees_the_thread(
    tmp_path: Path, question: str, told: str
) -> None:
    async with serving(tmp_path, brain=Broken()) as api:
        assistant, thread = await api.assistant(), await api.thread(question)
        runs = api.client.beta.threads.runs
        run = await runs.create_and_poll(thread_id=thread, assistant_id=assistant, poll_interval_ms=10)
        assert run.last_error is not None
        assert (run.status, run.last_error.code) == ("failed", "server_error")
        assert told in run.last_error.message
        answer = (await api.client.beta.threads.messages.list(thread)).data[0]
        assert answer.status != "in_progress"
        assert answer.content[0].text.value == "half"  # type: ignore[union-attr]
        again = await runs.create_and_poll(
            thread_id=thread,
            assistant_id=assistant,
            additional_messages=[{"role": "user", "content": "be good"}],
            poll_interval_ms=10,
        )
        assert again.status == "completed"
