"""A bot as people write it by hand, for comparison: slack-bolt, the openai SDK, post once and update as text comes.

Run as a program; the environment names the fake Slack and the scripted engine.
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from typing import Any

from openai import AsyncOpenAI
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

warnings.filterwarnings("ignore", category=DeprecationWarning)
UPDATE_SECONDS = 1.0

app = AsyncApp(
    client=AsyncWebClient(token=os.environ["SLACK_BOT_TOKEN"], base_url=os.environ["SLACK_API_URL"])
)
openai = AsyncOpenAI()
threads: dict[str, str] = {}
assistants: list[str] = []


@app.event("app_mention")
async def mentioned(event: dict[str, Any], client: AsyncWebClient) -> None:
    await answer(event, event.get("thread_ts") or event["ts"], client)


@app.event("message")
async def followed_up(event: dict[str, Any], client: AsyncWebClient) -> None:
    root = event.get("thread_ts")
    if root in threads and "bot_id" not in event and "<@" not in event["text"]:
        await answer(event, root, client)


async def answer(event: dict[str, Any], root: str, client: AsyncWebClient) -> None:
    if root not in threads:
        threads[root] = (await openai.beta.threads.create()).id
    posted: Any = None
    text, updated_at = "", 0.0
    stream = await openai.beta.threads.runs.create(
        threads[root],
        assistant_id=assistants[0],
        additional_messages=[{"role": "user", "content": event["text"]}],
        stream=True,
    )
    async for happened in stream:
        if happened.event != "thread.message.delta":
            continue
        for part in happened.data.delta.content or ():
            if part.type == "text" and part.text is not None:
                text += part.text.value or ""
        if posted is None:
            posted = await client.chat_postMessage(channel=event["channel"], thread_ts=root, text=text)
            updated_at = time.monotonic()
        elif time.monotonic() - updated_at > UPDATE_SECONDS:
            updated_at = time.monotonic()
            await client.chat_update(channel=event["channel"], ts=posted["ts"], text=text)
    if posted is not None:
        await client.chat_update(channel=event["channel"], ts=posted["ts"], text=text)


async def main() -> None:
    assistants.append((await openai.beta.assistants.create(model=os.environ["THREADBOT_MODEL"])).id)
    await AsyncSocketModeHandler(app, os.environ["SLACK_APP_TOKEN"]).start_async()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    asyncio.run(main())
