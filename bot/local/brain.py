"""The port to what thinks: a prompt in, deltas out.

A brain is stateless; the server owns threads, runs and their states. Contract of `think`:
- it ends with exactly one `Finished`; a generator that merely ends is taken for a broken stream;
- it raises `BrainError` when the model fails; closing the generator stops the model call;
- one tool call's `id` and `name` come once, in its first delta; `index` counts calls from 0.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

from bot.local.wire import Body

DEFAULT_MODEL = "default"
"""What a run names that names no model: the brain chooses."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""
    output: str | None
    """What the caller submitted."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation. `calls` are tool calls the assistant made right after its text."""

    role: Literal["user", "assistant"]
    text: str
    files: tuple[str, ...] = ()
    """Names of attached files."""
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """`functions`, `tool_choice` and `response_format` have the shapes of the chat-completions API."""

    model: str
    instructions: str
    turns: tuple[Turn, ...]
    functions: tuple[Body, ...] = ()
    tool_choice: str | Body = "auto"
    parallel_tool_calls: bool = True
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_completion_tokens: int | None = None
    response_format: str | Body = "auto"


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    reason: Literal["stop", "length", "content_filter"]
    usage: Usage | None = None


Delta = TextDelta | ToolCallDelta | Finished


class Brain(Protocol):
    def think(self, prompt: Prompt) -> AsyncGenerator[Delta, None]: ...

    async def models(self) -> list[str]:
        """Ids a run may name."""
        ...

    async def close(self) -> None: ...
