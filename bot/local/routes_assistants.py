"""/v1/assistants and /v1/models."""

from typing import Annotated

from fastapi import APIRouter, Query
from openai.types import Model
from openai.types.beta import Assistant, AssistantDeleted
from starlette.responses import Response

from bot.local import objects
from bot.local.errors import ApiError
from bot.local.house import House
from bot.local.requests import AssistantFields, PageQuery
from bot.local.wire import json_response

Page = Annotated[PageQuery, Query()]


def assistants(house: House) -> APIRouter:
    routes = APIRouter(tags=["assistants"])

    @routes.post("/assistants", response_model=Assistant)
    async def create_assistant(fields: AssistantFields) -> Response:
        body = objects.assistant(fields.body(), now=house.runner.now())
        body["model"] = fields.model or house.default_model
        await house.store.write(lambda tx: tx.insert("assistant", body))
        return json_response(body)

    @routes.get("/assistants")
    async def list_assistants(query: Page) -> Response:
        return await house.read_page("assistant", query)

    @routes.get("/assistants/{assistant_id}", response_model=Assistant)
    async def retrieve_assistant(assistant_id: str) -> Response:
        return json_response(await house.store.read(lambda tx: tx.need("assistant", assistant_id)))

    @routes.post("/assistants/{assistant_id}", response_model=Assistant)
    async def modify_assistant(assistant_id: str, fields: AssistantFields) -> Response:
        changes = fields.body()
        if "model" in changes:
            changes["model"] = changes["model"] or house.default_model
        return json_response(
            await house.store.write(lambda tx: tx.modify("assistant", assistant_id, changes))
        )

    @routes.delete("/assistants/{assistant_id}", response_model=AssistantDeleted)
    async def delete_assistant(assistant_id: str) -> Response:
        await house.store.write(lambda tx: tx.delete("assistant", assistant_id))
        return json_response(objects.deleted("assistant.deleted", assistant_id))

    return routes


def models(house: House) -> APIRouter:
    routes = APIRouter(tags=["models"])

    def model(name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": 0, "owned_by": "local", "shutdown_date": None}

    @routes.get("/models")
    async def list_models() -> Response:
        data = [model(name) for name in await house.brain.models()]
        return json_response({"object": "list", "data": data})

    @routes.get("/models/{name:path}", response_model=Model)
    async def retrieve_model(name: str) -> Response:
        if name not in await house.brain.models():
            raise ApiError(404, f"The model '{name}' does not exist.", param="model", code="model_not_found")
        return json_response(model(name))

    return routes
