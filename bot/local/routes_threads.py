"""/v1/threads and their messages."""

from typing import Annotated

from fastapi import APIRouter, Query
from openai.types.beta import Thread, ThreadDeleted
from openai.types.beta.threads import Message, MessageDeleted
from starlette.responses import Response

from bot.local import objects
from bot.local.house import House, Under
from bot.local.requests import MessagePageQuery, MetadataChange, NewMessage, ThreadChange, ThreadFields
from bot.local.threads import insert_messages, insert_thread
from bot.local.tx import Tx
from bot.local.wire import Body, json_response

MessagePage = Annotated[MessagePageQuery, Query()]


def threads(house: House) -> APIRouter:
    routes = APIRouter(tags=["threads"])

    @routes.post("/threads", response_model=Thread)
    async def create_thread(fields: ThreadFields | None = None) -> Response:
        wanted = fields or ThreadFields()
        now = house.runner.now()
        return json_response(await house.store.write(lambda tx: insert_thread(tx, wanted, now=now)))

    @routes.get("/threads/{thread_id}", response_model=Thread)
    async def retrieve_thread(thread_id: str) -> Response:
        return json_response(await house.store.read(lambda tx: tx.need("thread", thread_id)))

    @routes.post("/threads/{thread_id}", response_model=Thread)
    async def modify_thread(thread_id: str, change: ThreadChange) -> Response:
        changes = change.changes()
        return json_response(await house.store.write(lambda tx: tx.modify("thread", thread_id, changes)))

    @routes.delete("/threads/{thread_id}", response_model=ThreadDeleted)
    async def delete_thread(thread_id: str) -> Response:
        """With its messages and runs; a run at work stops."""
        await house.store.write(lambda tx: tx.delete_thread(thread_id))
        house.runner.forget(thread_id)
        return json_response(objects.deleted("thread.deleted", thread_id))

    return routes


def messages(house: House) -> APIRouter:
    routes = APIRouter(tags=["messages"])
    one = "/threads/{thread_id}/messages/{message_id}"

    @routes.post("/threads/{thread_id}/messages", response_model=Message)
    async def create_message(thread_id: str, wanted: NewMessage) -> Response:
        """400 with code `thread_locked` while a run is active."""
        now = house.runner.now()

        def change(tx: Tx) -> Body:
            tx.need("thread", thread_id)
            tx.need_unlocked(thread_id)
            return insert_messages(tx, thread_id, [wanted], now=now)[0]

        return json_response(await house.store.write(change))

    @routes.get("/threads/{thread_id}/messages")
    async def list_messages(thread_id: str, query: MessagePage) -> Response:
        """While a run is active its answer is listed with the text so far."""
        live = house.runner.on_thread(thread_id)
        under = Under("thread", thread_id)
        return await house.read_page(
            "message", query, parent=thread_id, under=under, tag=query.run_id, live=live
        )

    @routes.get(one, response_model=Message)
    async def retrieve_message(thread_id: str, message_id: str) -> Response:
        live = house.runner.on_thread(thread_id)
        body = await house.store.read(lambda tx: tx.need("message", message_id, parent=thread_id))
        return json_response((live.current(message_id) if live else None) or body)

    @routes.post(one, response_model=Message)
    async def modify_message(thread_id: str, message_id: str, change: MetadataChange) -> Response:
        changes = change.changes()
        live = house.runner.on_thread(thread_id)
        if live is not None and live.message is not None and live.message.body["id"] == message_id:
            live.message.body = live.message.body | changes
        body = await house.store.write(lambda tx: tx.modify("message", message_id, changes, parent=thread_id))
        return json_response((live.current(message_id) if live else None) or body)

    @routes.delete(one, response_model=MessageDeleted)
    async def delete_message(thread_id: str, message_id: str) -> Response:
        await house.store.write(lambda tx: tx.delete("message", message_id, parent=thread_id))
        return json_response(objects.deleted("thread.message.deleted", message_id))

    return routes
