"""/v1/threads/{id}/runs, their steps, and /v1/threads/runs."""

from typing import Annotated

from fastapi import APIRouter, Query
from openai.types.beta.threads import Run
from openai.types.beta.threads.runs import RunStep
from starlette.responses import Response

from bot.local.house import EventStream, House, Under
from bot.local.live import LiveRun
from bot.local.requests import (
    MetadataChange,
    PageQuery,
    RunFields,
    ThreadAndRunFields,
    ThreadFields,
    ToolOutputs,
)
from bot.local.threads import claim_run, insert_thread, take_outputs
from bot.local.tx import ActiveRun, Tx
from bot.local.wire import Body, frame, json_response

Page = Annotated[PageQuery, Query()]

# How soon to ask again for a run's state (openai-python: lib/_assistants_runs.py honours it).
POLL_AFTER_MS = "300"


def runs(house: House) -> APIRouter:
    routes = APIRouter(tags=["runs"])
    runner = house.runner
    one = "/threads/{thread_id}/runs/{run_id}"

    @routes.post("/threads/runs", response_model=Run)
    async def create_thread_and_run(wanted: ThreadAndRunFields) -> Response:
        now, deadline = runner.now(), runner.deadline()
        resources = wanted.tool_resources.model_dump(exclude_none=True) if wanted.tool_resources else None

        def change(tx: Tx) -> tuple[Body, Body]:
            thread = insert_thread(tx, wanted.thread or ThreadFields(), now=now, tool_resources=resources)
            model = house.default_model
            return thread, claim_run(
                tx, thread["id"], wanted, now=now, deadline=deadline, default_model=model
            )

        thread, run = await house.store.write(change)
        prelude = frame("thread.created", thread)
        return _answer(
            runner.start(run, deadline=deadline[0], stream=bool(wanted.stream), prelude=prelude), run
        )

    @routes.post("/threads/{thread_id}/runs", response_model=Run)
    async def create_run(thread_id: str, wanted: RunFields) -> Response:
        """400 with code `thread_locked` while another run is active."""
        now, deadline = runner.now(), runner.deadline()

        def change(tx: Tx) -> Body:
            return claim_run(
                tx, thread_id, wanted, now=now, deadline=deadline, default_model=house.default_model
            )

        run = await house.store.write(change)
        return _answer(runner.start(run, deadline=deadline[0], stream=bool(wanted.stream)), run)

    @routes.get("/threads/{thread_id}/runs")
    async def list_runs(thread_id: str, query: Page) -> Response:
        live = runner.on_thread(thread_id)
        return await house.read_page(
            "run", query, parent=thread_id, under=Under("thread", thread_id), live=live
        )

    @routes.get(one, response_model=Run)
    async def retrieve_run(thread_id: str, run_id: str) -> Response:
        live = runner.on_thread(thread_id)
        body = await house.store.read(lambda tx: tx.need("run", run_id, parent=thread_id))
        current = (live.current(run_id) if live else None) or body
        return json_response(current, headers={"openai-poll-after-ms": POLL_AFTER_MS})

    @routes.post(one, response_model=Run)
    async def modify_run(thread_id: str, run_id: str, change: MetadataChange) -> Response:
        changes = change.changes()
        live = runner.on_thread(thread_id)
        if live is not None and live.run["id"] == run_id:
            live.run = live.run | changes
        body = await house.store.write(lambda tx: tx.modify("run", run_id, changes, parent=thread_id))
        return json_response((live.current(run_id) if live else None) or body)

    @routes.post(one + "/cancel", response_model=Run)
    async def cancel_run(thread_id: str, run_id: str) -> Response:
        """Stops the model at once and keeps the text so far in the message, which becomes incomplete."""
        return json_response(await runner.cancel(thread_id, run_id))

    @routes.post(one + "/submit_tool_outputs", response_model=Run)
    async def submit_tool_outputs(thread_id: str, run_id: str, wanted: ToolOutputs) -> Response:
        now, clock = runner.now(), runner.clock()

        def change(tx: Tx) -> tuple[Body, Body, ActiveRun]:
            return take_outputs(tx, thread_id, run_id, wanted, now=now, clock=clock)

        run, step, active = await house.store.write(change)
        live = runner.resume(
            run, step, deadline=active.deadline, spent=active.spent, stream=bool(wanted.stream)
        )
        return _answer(live, run)

    return routes


def steps(house: House) -> APIRouter:
    routes = APIRouter(tags=["run steps"])
    many = "/threads/{thread_id}/runs/{run_id}/steps"

    @routes.get(many)
    async def list_steps(thread_id: str, run_id: str, query: Page) -> Response:
        live = house.runner.on_thread(thread_id)
        return await house.read_page(
            "step", query, parent=run_id, under=Under("run", run_id, thread_id), live=live
        )

    @routes.get(many + "/{step_id}", response_model=RunStep)
    async def retrieve_step(thread_id: str, run_id: str, step_id: str) -> Response:
        live = house.runner.on_thread(thread_id)

        def read(tx: Tx) -> Body:
            tx.need("run", run_id, parent=thread_id)
            return tx.need("step", step_id, parent=run_id)

        body = await house.store.read(read)
        return json_response((live.current(step_id) if live else None) or body)

    return routes


def _answer(live: LiveRun, run: Body) -> Response:
    return json_response(run) if live.outbox is None else EventStream(live.outbox.bunches())
