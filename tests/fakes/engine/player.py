"""Plays a script: changes the run's state and tells whoever streams it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import assert_never

from tests.fakes.engine import state
from tests.fakes.engine.script import Call, CloseMessage, Cut, End, Image, Mute, Pause, Raw, Say, Tool, Wait
from tests.fakes.engine.state import Body, Ids, RunState, ThreadState

OpenGate = Callable[[str], Awaitable[object]]


class Player:
    """One run from queued to its end. Goes on without a connection."""

    def __init__(self, ids: Ids, thread: ThreadState, run: RunState, gate: OpenGate) -> None:
        self._ids = ids
        self._thread = thread
        self._run = run
        self._gate = gate
        self._message: Body | None = None
        self._step: Body | None = None
        self._keeping_alive: asyncio.Task[None] | None = None

    async def play(self) -> None:  # noqa: C901, PLR0912 - one branch an act
        run = self._run
        heard = next((m for m in reversed(self._thread.messages) if m["role"] == "user"), None)
        self._status("queued", "created", "queued")
        self._status("in_progress", "in_progress", started_at=state.now())
        await asyncio.sleep(0)
        for act in run.script.played(state.text_of(heard) if heard else ""):
            match act:
                case Say():
                    self._say(act)
                case Image(file):
                    self._content({"type": "image_file", "image_file": {"file_id": file, "detail": "auto"}})
                case CloseMessage():
                    self._close_message()
                case Wait(gate):
                    await self._gate(gate)
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Cut(clean):
                    if run.hang_up is not None:
                        await asyncio.sleep(0)
                        run.hang_up(clean)
                case Mute(seconds):
                    self._mute(seconds)
                case Raw(frame):
                    if run.sink is not None:
                        run.sink(frame.encode())
                case Tool():
                    self._tool(act)
                case Call(calls):
                    await self._call(calls)
                case End():
                    self.end(act)
                    return
                case _:
                    assert_never(act)
        self.end(End("completed"))

    def end(self, end: End) -> None:
        run = self._run
        if self._keeping_alive is not None:
            self._keeping_alive.cancel()
        if end.status == "completed":
            self._close_message()
        else:
            self._close_message(incomplete=end.reason or f"run_{end.status}")
        more: Body = {"usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}
        if end.status == "failed":
            more["last_error"] = {"code": end.code, "message": end.message}
        if end.status == "incomplete":
            more["incomplete_details"] = {"reason": end.reason or "max_completion_tokens"}
        self._status(end.status, end.status, required_action=None, **more)
        if run.sink is not None:
            run.sink(b"event: done\ndata: [DONE]\n\n")
        if not run.muted:
            run.streamed.set()

    def _status(self, status: str, *events: str, **more: object) -> None:
        self._run.body |= {"status": status} | more
        for event in events:
            self._run.emit(f"thread.run.{event}", self._run.body)

    def _open_message(self) -> Body:
        if self._message is None:
            run = self._run
            self._message = state.message(
                self._ids,
                run.body["thread_id"],
                role="assistant",
                content=[],
                status="in_progress",
                assistant_id=run.body["assistant_id"],
                run_id=run.id,
            )
            self._thread.messages.append(self._message)
            details = {
                "type": "message_creation",
                "message_creation": {"message_id": self._message["id"]},
            }
            self._step = self._open_step(details)
            run.emit("thread.message.created", self._message)
            run.emit("thread.message.in_progress", self._message)
        return self._message

    def _open_step(self, details: Body) -> Body:
        step = state.step(self._ids, self._run.body, details)
        self._run.steps.append(step)
        self._run.emit("thread.run.step.created", step)
        self._run.emit("thread.run.step.in_progress", step)
        return step

    def _close_step(self, step: Body) -> None:
        step |= {"status": "completed", "completed_at": state.now()}
        self._run.emit("thread.run.step.completed", step)

    def _close_message(self, *, incomplete: str = "") -> None:
        message, step = self._message, self._step
        self._message = self._step = None
        if message is None or step is None:
            return
        if incomplete:
            message |= {"status": "incomplete", "incomplete_details": {"reason": incomplete}}
            self._run.emit("thread.message.incomplete", message)
        else:
            message |= {"status": "completed", "completed_at": state.now()}
            self._run.emit("thread.message.completed", message)
        self._close_step(step)

    def _say(self, act: Say) -> None:
        message = self._open_message()
        if not message["content"] or message["content"][-1]["type"] != "text":
            message["content"].append({"type": "text", "text": {"value": "", "annotations": []}})
        part = message["content"][-1]["text"]
        start = len(part["value"])
        part["value"] += act.text
        new: list[Body] = []
        span = {"text": act.text, "start_index": start, "end_index": len(part["value"])}
        if act.cites:
            new.append({"type": "file_citation", **span, "file_citation": {"file_id": act.cites}})
        if act.links:
            new.append({"type": "file_path", **span, "file_path": {"file_id": act.links}})
        indexed = [{"index": len(part["annotations"]) + n, **item} for n, item in enumerate(new)]
        part["annotations"] += new
        text = {"value": act.text, "annotations": indexed}
        self._delta({"index": len(message["content"]) - 1, "type": "text", "text": text})

    def _content(self, part: Body) -> None:
        message = self._open_message()
        message["content"].append(part)
        self._delta({"index": len(message["content"]) - 1, **part})

    def _delta(self, part: Body) -> None:
        message = self._open_message()
        self._run.emit(
            "thread.message.delta",
            {"id": message["id"], "object": "thread.message.delta", "delta": {"content": [part]}},
        )

    def _tool(self, act: Tool) -> None:
        step = self._open_step({"type": "tool_calls", "tool_calls": []})
        call: Body = {"id": self._ids("call_"), "type": act.kind}
        if act.kind == "code_interpreter":
            image = [{"type": "image", "image": {"file_id": act.image}}] if act.image else []
            call["code_interpreter"] = {"input": act.input, "outputs": image}
        else:
            call["file_search"] = {"ranking_options": None, "results": []}
        step["step_details"]["tool_calls"].append(call)
        self._step_delta(step, [{"index": 0, **call}])
        self._close_step(step)

    def _step_delta(self, step: Body, calls: list[Body]) -> None:
        self._run.emit(
            "thread.run.step.delta",
            {
                "id": step["id"],
                "object": "thread.run.step.delta",
                "delta": {"step_details": {"type": "tool_calls", "tool_calls": calls}},
            },
        )

    async def _call(self, asked: tuple[tuple[str, str], ...]) -> None:
        run = self._run
        self._close_message()
        step = self._open_step({"type": "tool_calls", "tool_calls": []})
        calls = [
            {"id": self._ids("call_"), "type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments in asked
        ]
        step["step_details"]["tool_calls"] = [
            {**call, "function": {**call["function"], "output": None}}  # type: ignore[dict-item]
            for call in calls
        ]
        self._step_delta(step, [{"index": n, **call} for n, call in enumerate(calls)])
        run.outputs.clear()
        action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
        self._status("requires_action", "requires_action", required_action=action)
        if run.sink is not None:
            run.sink(b"event: done\ndata: [DONE]\n\n")
        run.sink = None
        run.streamed.set()
        await run.outputs.wait()
        for call in step["step_details"]["tool_calls"]:
            call["function"]["output"] = run.given.get(call["id"])
        self._close_step(step)
        self._status("queued", "queued", required_action=None)
        self._status("in_progress", "in_progress")

    def _mute(self, seconds: float) -> None:
        sink, self._run.sink = self._run.sink, None
        self._run.muted = True
        if seconds and sink is not None:
            self._keeping_alive = asyncio.create_task(self._keep_alive(sink, seconds))

    async def _keep_alive(self, sink: Callable[[bytes], None], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            sink(b": keep-alive\n\n")
