"""Our assistant definitions on a server that wants assistants of its own: found by version, or created."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from openai import AsyncOpenAI

from bot.domain import Assistant
from bot.engines.errors import AssistantGone, not_assistants, translated
from bot.errors import Misconfigured, Rejected, ThreadGone

VERSION = "threadbot_version"  # metadata key
_PAGES = 10  # of 100; with more foreign assistants than that we make a new one, which is fine
_NAME, _INSTRUCTIONS = 256, 256_000  # the vendor's limits


class Definitions:
    """Server ids by version. Two workers that create the same version at once both work; the newer one is found later.

    `model` is for definitions that name none.
    """

    def __init__(self, client: AsyncOpenAI, model: str | None, where: str) -> None:
        self._assistants = client.beta.assistants
        self._models = client.models
        self._model = model
        self._where = where
        self._known: dict[tuple[str, str], str] = {}
        self._syncing = asyncio.Lock()

    async def id(self, assistant: Assistant) -> str:
        key = (assistant.version, await self._model_of(assistant))
        if (known := self._known.get(key)) is not None:
            return known
        async with self._syncing:
            if key not in self._known:
                self._known[key] = await self._sync(assistant, *key)
            return self._known[key]

    def forget(self, assistant: Assistant) -> None:
        for key in [key for key in self._known if key[0] == assistant.version]:
            del self._known[key]

    async def _model_of(self, assistant: Assistant) -> str:
        """Named by the definition or by the operator, else the only one there is (as on the embedded server)."""
        if model := assistant.model or self._model:
            return model
        offered: list[str] = []
        with contextlib.suppress(ThreadGone, AssistantGone, Rejected, AttributeError), translated():
            offered = [found.id for found in (await self._models.list()).data or ()]
        if len(offered) != 1:
            raise Misconfigured(
                f"The assistant {assistant.key!r} has no model: set THREADBOT_MODEL, or `model` in its table."
            )
        self._model = offered[0]
        return self._model

    async def _sync(self, assistant: Assistant, version: str, model: str) -> str:
        try:
            with translated():
                return await self._find(version, model) or await self._create(assistant, version, model)
        except (ThreadGone, AssistantGone, AttributeError) as exc:  # no such path, or not JSON at all
            raise not_assistants(self._where) from exc

    async def _find(self, version: str, model: str) -> str | None:
        page = await self._assistants.list(limit=100, order="desc")
        for _ in range(_PAGES):
            for found in page.data:
                if (found.metadata or {}).get(VERSION) == version and found.model == model:
                    return found.id
            if not page.has_next_page():
                break
            page = await page.get_next_page()
        return None

    async def _create(self, assistant: Assistant, version: str, model: str) -> str:
        tools: Any = [{"type": tool} for tool in assistant.tools]
        made = await self._assistants.create(
            model=model,
            name=assistant.name[:_NAME],
            instructions=assistant.instructions[:_INSTRUCTIONS],
            tools=tools,
            metadata={VERSION: version},
        )
        return made.id
