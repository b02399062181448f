"""One run as it is told: vendor objects in (plain dictionaries, from a stream or polled), our events out."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from typing import Any

from bot.domain import (
    ActionRequired,
    Event,
    FileProduced,
    RunEnded,
    RunOutcome,
    RunRef,
    RunStarted,
    Text,
    TextDelta,
    ToolCall,
    ToolDone,
    ToolKind,
    ToolStarted,
    Usage,
)
from bot.engines.citations import StreamCleaner, cleaned
from bot.engines.errors import failed

Body = dict[str, Any]

_OUTCOMES: dict[str, RunOutcome] = {
    "completed": "completed",
    "incomplete": "truncated",
    "cancelled": "cancelled",
    "expired": "expired",
}
TERMINAL = frozenset({*_OUTCOMES, "failed"})


class Reply:
    """Remembers what was said, so that going from stream to polling repeats nothing but changed texts.

    `ended`: a terminal state, or one that waits for us, was told.
    """

    __slots__ = (
        "_cleaner",
        "_done",
        "_files",
        "_message",
        "_part",
        "_started",
        "_texts",
        "_thread",
        "ended",
        "run",
    )

    def __init__(self, thread: str, run: RunRef | None = None) -> None:
        self.run = run
        self.ended = False
        self._thread = thread
        self._message = ""  # the message whose deltas arrive
        self._part = -1
        self._cleaner = StreamCleaner()
        self._texts: dict[str, int] = {}
        self._files: set[str] = set()
        self._started: set[str] = set()
        self._done: set[str] = set()

    def read(self, name: str, data: Body) -> Iterator[Event]:
        """One event of a stream. Names this code does not know are no news. Raises when the run failed."""
        if name == "thread.message.delta":
            yield from self._delta(data)
        elif name.startswith("thread.run.step."):
            if name == "thread.run.step.delta":
                yield from self._calls((data.get("delta") or {}).get("step_details"))
            else:
                yield from self.step(data)
        elif name in {"thread.message.completed", "thread.message.incomplete"}:
            yield from self.message(data)
        elif name.startswith("thread.run."):
            yield from self.state(data)

    def state(self, run: Body) -> Iterator[Event]:
        """The run itself; the first one seen is RunStarted."""
        if self.run is None:
            self.run = RunRef(self._thread, run["id"])
            yield RunStarted(self.run)
        status = run.get("status")
        if status == "requires_action":
            self.ended = True
            calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
            yield ActionRequired(
                tuple(ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls)
            )
        elif status == "failed":
            self.ended = True
            raise failed(run.get("last_error"))
        elif status in _OUTCOMES:
            self.ended = True
            usage = run.get("usage") or {}
            refused = (run.get("incomplete_details") or {}).get("reason") == "content_filter"
            yield RunEnded(
                "refused" if refused else _OUTCOMES[status],
                Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0),
            )

    def message(self, message: Body) -> Iterator[Event]:
        """A whole message, finished or not: its text when that is news, then its files."""
        if message.get("role") != "assistant":
            return
        value, notes, images = _content(message)
        clean = cleaned(value, notes)
        told = hash((clean.text, clean.citations))
        if clean.text and self._texts.get(message["id"]) != told:
            self._texts[message["id"]] = told
            yield Text(message["id"], clean.text, clean.citations)
        for file in images:
            yield from self._file(file, "")
        for file, name in clean.files:
            yield from self._file(file, name)

    def step(self, step: Body) -> Iterator[Event]:
        """A whole run step."""
        yield from self._calls(step.get("step_details"))
        if step.get("status", "in_progress") == "in_progress":
            return
        for call in (step.get("step_details") or {}).get("tool_calls") or ():
            if call.get("id") and call["id"] not in self._done:
                self._done.add(call["id"])
                yield ToolDone(call["id"])

    def _delta(self, data: Body) -> Iterator[Event]:
        if data["id"] != self._message:
            self._message, self._part, self._cleaner = data["id"], -1, StreamCleaner()
        for part in data["delta"].get("content") or ():
            value = (part.get("text") or {}).get("value") or part.get("refusal")
            if not value:
                continue
            index = part.get("index", 0)
            if self._part not in {-1, index}:
                value = f"\n\n{value}"
            self._part = index
            text = self._cleaner.add(value)
            if text:
                yield TextDelta(data["id"], text)

    def _calls(self, details: Body | None) -> Iterator[Event]:
        for call in (details or {}).get("tool_calls") or ():
            name = call.get("id")
            if name and name not in self._started and call.get("type") in set(ToolKind):
                self._started.add(name)
                yield ToolStarted(
                    name, ToolKind(call["type"]), (call.get("function") or {}).get("name") or ""
                )
            for output in (call.get("code_interpreter") or {}).get("outputs") or ():
                if output.get("type") == "image" and (output.get("image") or {}).get("file_id"):
                    yield from self._file(output["image"]["file_id"], "")

    def _file(self, file: str, name: str) -> Iterator[Event]:
        if file not in self._files:
            self._files.add(file)
            yield FileProduced(file, name, mimetypes.guess_type(name)[0] or "")


def _content(message: Body) -> tuple[str, list[Body], list[str]]:
    """Text parts as one text with their annotations moved along, and the ids of images."""
    value, notes, images = "", list[Body](), list[str]()
    for part in message.get("content") or ():
        if (image := part.get("image_file")) is not None:
            images.append(image["file_id"])
            continue
        text = part.get("text") or {"value": part.get("refusal")}
        if not text.get("value"):
            continue
        value += "\n\n" if value else ""
        for note in text.get("annotations") or ():
            notes.append({**note, "start_index": len(value) + (note.get("start_index") or 0)})
        value += text["value"]
    return value, notes, images
