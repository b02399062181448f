"""Whatever is sent, the answer is never a 500, and never anything but JSON in the protocol's envelope."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.contract.local_kit import Served, serving

WEIRD: list[Any] = [
    None, True, 0, -1, 1e308, 10**30, "", "x" * 70, "\0", "thread_x", [], {}, [[]], [None], {"": None},
    {"type": "text"}, {"type": "function"}, {"type": "function", "function": {"name": "a b"}}, {"file_id": 7}, "é😀",
]  # fmt: skip

MESSAGE = {
    "role": "user",
    "content": [{"type": "text", "text": "hi"}],
    "attachments": [],
    "metadata": {"a": "b"},
}
ASSISTANT = {
    "model": "m",
    "name": "n",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_resources": {"file_search": {"vector_store_ids": []}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "temperature": 1,
    "metadata": {},
}
RUN = {
    "additional_messages": [MESSAGE],
    "truncation_strategy": {"type": "last_messages", "last_messages": 1},
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "max_completion_tokens": 5,
    "tools": ASSISTANT["tools"],
}


def mutated(value: Any, dice: random.Random) -> Any:
    """The same with one thing in it replaced, dropped or doubled."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.2:
        return dice.choice(WEIRD)
    copy: Any = value.copy()
    key = dice.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    if dice.random() < 0.15:
        del copy[key]
    else:
        copy[key] = mutated(copy[key], dice)
    return copy


async def requests(api: Served, dice: random.Random) -> list[tuple[str, str, Any]]:
    assistant, thread = await api.assistant(), await api.thread("hi")
    run = RUN | {"assistant_id": assistant}
    limit, after = dice.choice(WEIRD), dice.choice(WEIRD)
    return [
        ("POST", "/assistants", mutated(ASSISTANT, dice)),
        ("POST", f"/assistants/{assistant}", mutated(ASSISTANT, dice)),
        ("POST", "/threads", mutated({"messages": [MESSAGE], "tool_resources": {}, "metadata": {}}, dice)),
        ("POST", f"/threads/{thread}", mutated({"metadata": {"a": "b"}}, dice)),
        ("POST", f"/threads/{thread}/messages", mutated(MESSAGE, dice)),
        ("POST", f"/threads/{thread}/runs", mutated(run, dice)),
        ("POST", "/threads/runs", mutated(run | {"thread": {"messages": [MESSAGE]}}, dice)),
        ("POST", f"/threads/{thread}/runs/run_x/submit_tool_outputs", mutated({"tool_outputs": []}, dice)),
        ("GET", f"/threads/{thread}/messages?limit={json.dumps(limit)}&after={json.dumps(after)}", None),
        ("GET", f"/files?purpose={json.dumps(after)}&limit={json.dumps(limit)}", None),
    ]


@pytest.mark.parametrize("seed", range(6))
async def test_no_request_breaks_the_server(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with capture_logs() as logs:
        async with serving(tmp_path) as api:
            for _ in range(5):
                for method, path, body in await requests(api, dice):
                    response = await api.raw.request(method, path, json=body)
                    assert response.status_code in {200, 400, 404}, (method, path, body, response.text)
                    payload = response.json()
                    if response.status_code != 200:
                        assert payload["error"].keys() == {"message", "type", "param", "code"}
                        assert payload["error"]["message"]
            # What was accepted can be read back.
            await api.json("GET", "/assistants?limit=100")
    assert not [log for log in logs if log["log_level"] == "error"]
