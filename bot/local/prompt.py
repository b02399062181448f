"""A run as the prompt of a brain: its instructions, the thread so far, and what this run already did."""

from bot.local.brain import Prompt, ToolCall, Turn
from bot.local.tx import Tx
from bot.local.wire import Body


def read_prompt(tx: Tx, run: Body) -> Prompt:
    strategy = run["truncation_strategy"]
    earlier = [
        message for message in tx.all("message", parent=run["thread_id"]) if message["run_id"] != run["id"]
    ]
    if strategy["type"] == "last_messages":
        earlier = earlier[-strategy["last_messages"] :]
    turns = [_turn(tx, message) for message in earlier]
    return Prompt(
        model=run["model"],
        instructions=run["instructions"],
        turns=(*turns, *_own_turns(tx, run)),
        functions=tuple(tool for tool in run["tools"] if tool["type"] == "function"),
        tool_choice=run["tool_choice"],
        parallel_tool_calls=run["parallel_tool_calls"],
        temperature=run["temperature"],
        top_p=run["top_p"],
        reasoning_effort=run["reasoning_effort"],
        max_completion_tokens=run["max_completion_tokens"],
        response_format=run["response_format"],
    )


def _own_turns(tx: Tx, run: Body) -> list[Turn]:
    """The run's finished steps: what it said, then what it called and got back."""
    turns: list[Turn] = []
    said = ""
    for step in tx.all("step", parent=run["id"]):
        details = step["step_details"]
        if details["type"] == "message_creation":
            message = tx.find("message", details["message_creation"]["message_id"], parent=run["thread_id"])
            said = "" if message is None else _text(message)
        else:
            turns.append(Turn("assistant", said, calls=tuple(_call(call) for call in details["tool_calls"])))
            said = ""
    return turns


def _turn(tx: Tx, message: Body) -> Turn:
    files = (tx.find("file", attachment["file_id"]) for attachment in message["attachments"])
    return Turn(message["role"], _text(message), files=tuple(file["filename"] for file in files if file))


def _text(message: Body) -> str:
    return "\n\n".join(part["text"]["value"] for part in message["content"] if part["type"] == "text")


def _call(call: Body) -> ToolCall:
    function = call["function"]
    return ToolCall(call["id"], function["name"], function["arguments"], function["output"])
