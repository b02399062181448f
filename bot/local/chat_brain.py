"""The brain behind any OpenAI-compatible chat-completions URL (Ollama, vLLM, llama.cpp, OpenRouter, OpenAI)."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from bot.local.brain import DEFAULT_MODEL, Delta, Finished, Prompt, TextDelta, ToolCallDelta, Turn, Usage
from bot.local.errors import BrainError, RunErrorCode
from bot.local.offline_brain import OFFLINE_MODEL
from bot.local.wire import Body, new_id

# An assistant made before a model was connected still names the offline brain.
_NO_MODEL = frozenset({"", DEFAULT_MODEL, OFFLINE_MODEL})


class ChatBrain:
    """`model` is used where a run names none. `seconds` bounds the silence between two chunks."""

    def __init__(self, *, url: str, key: str | None, model: str | None, seconds: float) -> None:
        self._model = model
        self._host = urlsplit(url).hostname or url
        # OpenAI's reasoning models refuse max_tokens; compatible servers often know nothing else.
        self._limit = "max_completion_tokens" if self._host.endswith("openai.com") else "max_tokens"
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=key or "none",  # the SDK insists on one; local servers ignore it
            max_retries=1,
            timeout=httpx2.Timeout(seconds, connect=10),
        )

    async def think(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        usage: Usage | None = None
        reason: str | None = None
        calls = _CallSlots()
        model = await self._model_for(prompt)
        try:
            stream = cast(
                "openai.AsyncStream[ChatCompletionChunk]",
                await self._client.chat.completions.create(**self._request(prompt, model)),
            )
            async with aclosing(stream), aclosing(_chunks(stream)) as chunks:
                async for chunk in chunks:
                    if chunk.usage is not None:
                        usage = Usage(chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
                    for choice in chunk.choices or ():
                        delta = choice.delta
                        if delta is not None and delta.content:
                            yield TextDelta(delta.content)
                        for call in (delta.tool_calls if delta is not None else None) or ():
                            yield calls.delta(call)
                        reason = choice.finish_reason or reason
        except (openai.APIError, httpx2.HTTPError) as exc:
            # Broken off after its end was told: the answer is whole, only the usage may be missing.
            if reason is None:
                raise self._translated(exc) from exc
        match reason:
            case None:
                raise BrainError(
                    "server_error", f"The model's server {self._host} broke off in the middle of the answer."
                )
            case "length" | "content_filter":
                yield Finished(reason, usage)
            case _:
                yield Finished("stop", usage)

    async def models(self) -> list[str]:
        """The configured model first; the server's own list as far as it tells within a few seconds."""
        named = [self._model] if self._model else []
        try:
            page = await self._client.with_options(timeout=5, max_retries=0).models.list()
        except (openai.APIError, httpx2.HTTPError):
            return named
        return list(dict.fromkeys([*named, *(model.id for model in page.data or ())]))

    async def close(self) -> None:
        await self._client.close()

    async def _model_for(self, prompt: Prompt) -> str:
        """The run's; else the configured one; else the first the server has."""
        if prompt.model not in _NO_MODEL:
            return prompt.model
        models = [self._model] if self._model else await self.models()
        if not models:
            raise BrainError(
                "server_error", f"No model is named, and the model's server {self._host} tells none."
            )
        return models[0]

    def _request(self, prompt: Prompt, model: str) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": model,
            "messages": _messages(prompt),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "reasoning_effort": prompt.reasoning_effort,
            self._limit: prompt.max_completion_tokens,
            "response_format": prompt.response_format if prompt.response_format != "auto" else None,
        }
        if prompt.functions:
            request |= {"tools": [_without_nulls(function) for function in prompt.functions]}
            request |= {
                "tool_choice": _choice(prompt.tool_choice),
                "parallel_tool_calls": prompt.parallel_tool_calls,
            }
        return {name: value for name, value in request.items() if value is not None}

    def _translated(self, error: Exception) -> BrainError:  # noqa: PLR0911  one table
        who = f"The model's server {self._host}"
        match error:
            case openai.RateLimitError():
                wait = error.response.headers.get("retry-after")
                when = f" Please try again in {wait}s." if wait else ""
                return BrainError("rate_limit_exceeded", f"{who} is over its rate limit or quota.{when}")
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return BrainError("server_error", f"{who} refused the API key (HTTP {error.status_code}).")
            case openai.APIStatusError():
                return BrainError(
                    "server_error", f"{who} answered HTTP {error.status_code}: {_cut(error.message)}"
                )
            case openai.APITimeoutError() | httpx2.TimeoutException():
                return BrainError("server_error", f"{who} did not answer in time.")
            case openai.APIConnectionError():
                return BrainError("server_error", f"{who} cannot be reached.")
            case openai.APIError():  # an error event inside the stream
                limited = error.code in {"rate_limit_exceeded", "insufficient_quota"}
                code: RunErrorCode = "rate_limit_exceeded" if limited else "server_error"
                return BrainError(code, f"{who} reported: {_cut(error.message)}")
            case _:
                return BrainError("server_error", f"{who} broke off in the middle of the answer.")


class _CallSlots:
    """Gives every tool call its own index.

    Some servers send no index or 0 for every one of several parallel calls; a new id is a new call.
    """

    def __init__(self) -> None:
        self._slots: list[tuple[int, str]] = []  # (the server's index, id)

    def delta(self, call: Any) -> ToolCallDelta:
        told, function = call.index or 0, call.function
        name = (function.name if function else None) or None
        arguments = (function.arguments if function else None) or ""
        for slot in range(len(self._slots) - 1, -1, -1):
            index, known = self._slots[slot]
            if index == told and (not call.id or call.id == known):
                return ToolCallDelta(slot, arguments)
        self._slots.append((told, call.id or new_id("call_")))
        slot = len(self._slots) - 1
        return ToolCallDelta(slot, arguments, id=self._slots[slot][1], name=name)


async def _chunks(stream: AsyncIterator[ChatCompletionChunk]) -> AsyncGenerator[ChatCompletionChunk, None]:
    """What is no chunk at all (a list, a number, broken JSON) is the server's failure, not ours."""
    try:
        async for chunk in stream:
            if not isinstance(chunk, ChatCompletionChunk):
                raise BrainError(
                    "server_error", "The model's server sent something that is no chat completion."
                )
            yield chunk
    except ValueError as exc:
        raise BrainError(
            "server_error", "The model's server sent something that is no chat completion."
        ) from exc


def _messages(prompt: Prompt) -> list[Body]:
    messages: list[Body] = []
    if prompt.instructions:
        messages.append({"role": "system", "content": prompt.instructions})
    for turn in prompt.turns:
        messages.extend(_turn(turn))
    return messages


def _turn(turn: Turn) -> list[Body]:
    text = turn.text
    if turn.files:
        text += f"\n\n[Attached files: {', '.join(turn.files)}]"
    if not turn.calls:
        return [{"role": turn.role, "content": text}]
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in turn.calls
    ]
    outputs = [{"role": "tool", "tool_call_id": call.id, "content": call.output or ""} for call in turn.calls]
    return [{"role": "assistant", "content": text or None, "tool_calls": calls}, *outputs]


def _choice(choice: str | Body) -> str | Body:
    """The chat-completions API knows functions only; a choice of another tool is not the model's to make."""
    return choice if isinstance(choice, str) or choice["type"] == "function" else "auto"


def _without_nulls(function: Body) -> Body:
    """Several compatible servers refuse an explicit null where a key may be absent."""
    return function | {
        "function": {key: value for key, value in function["function"].items() if value is not None}
    }


def _cut(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:299]}\u2026"
